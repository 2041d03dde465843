"""Paraphrase: a causal language model says each training text in other words.

Helps with some 8 to 50 texts a class and a model of a billion weights or more that follows instructions: its wording is
wider than that of synonyms or translations. Does little with models of some hundred million weights, which repeat the
text or stray from it, and hurts where the label hangs on single words: look at the variants (`hf-smalldata augment`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from datasets import Dataset
from huggingface_hub import cached_assets_path
from pydantic import Field, PositiveFloat, PositiveInt

from hf_smalldata.data.made import real
from hf_smalldata.tasks.pretrained import told_of
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.remembered import remembered, state_of
from hf_smalldata.techniques.augment.variants import Variant, with_variants
from hf_smalldata.techniques.synthesis.writer import Writer

MODEL = "HuggingFaceTB/SmolLM2-1.7B-Instruct"  # English; on a CPU it takes some seconds a text
QUOTES = "\"'“”‘’«»"


class Paraphrase(Technique):
    """Variants that an instruction asks for, by the model's chat template, or where it has none by a line of its own.

    Each is one line, drawn by nucleus sampling. What is no longer than `max_tokens`, no repeat, and like its row stays:
    its label is the row's, several labels, values and the second text of a pair among them. What was said is kept in
    the Hub's cache of assets (HF_ASSETS_CACHE), for all seeds.
    """

    name = "paraphrase"
    tasks = frozenset({"text-classification"})
    paper = "https://arxiv.org/abs/2302.13007"
    paths = ("checkpoint",)

    checkpoint: str | None = None  # a causal language model: a Hub id or a folder. Default: a small English one
    revision: str | None = None
    n_aug: int = Field(default=1, ge=0)  # variants of a row
    instruction: str = "Say the following text in other words. Keep its meaning. Answer with the new text alone."
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95  # tokens are drawn among the likeliest of so much probability
    temperature: PositiveFloat = 0.8
    max_tokens: PositiveInt = 128  # of a variant; longer ones are left out
    min_similarity: float = Field(default=0.5, ge=0, le=1)  # cosine with its row, by the recipe's model

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants.

        Raises:
            UserError: no such language model.
        """
        if self.n_aug == 0:
            return train
        return with_variants(self, train, ctx, self.min_similarity, lambda: self._variants(real(train)))

    def _variants(self, originals: Dataset) -> tuple[list[Variant], dict[str, int]]:
        texts = originals["text"][:]
        spec = ModelSpec(name=self.checkpoint or MODEL, revision=self.revision)
        with told_of({"model.name:": "techniques.paraphrase.checkpoint:"}):
            key = json.dumps([spec.model_dump(), state_of(spec), self.model_dump(exclude={"min_similarity", "n_aug"})])
            place = cached_assets_path("hf_smalldata", "paraphrases") / "texts.sqlite"
            requests = [f"{number}\n{text}" for text in texts for number in range(self.n_aug)]
            found = remembered(place, key, requests, lambda some: self._said(spec, some))
        variants: list[Variant] = [
            {"parent": row_id, "text": found[f"{number}\n{text}"][0]}
            for row_id, text in zip(originals["id"], texts, strict=True)
            for number in range(self.n_aug)
        ]
        return variants, {}

    def _said(self, spec: ModelSpec, requests: Sequence[str]) -> Iterator[list[list[str]]]:
        """What is said for each request; the model is loaded."""
        writer = Writer(spec)
        prompts = [self._prompt(writer.tokenizer, request.partition("\n")[2]) for request in requests]
        for part in writer.write(prompts, requests, self.top_p, self.temperature, self.max_tokens):
            yield [[said.strip().strip(QUOTES).strip()] for said in part]

    def _prompt(self, tokenizer: Any, text: str) -> str:
        if tokenizer.chat_template is None:
            return f"{self.instruction}\n\nText: {' '.join(text.split())}\nIn other words:"
        asked = [{"role": "user", "content": f"{self.instruction}\n\n{text}"}]
        made: str = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return made
