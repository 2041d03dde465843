"""Back-translation: variants of training texts by way of another language and back.

Helps with some tens to hundreds of whole sentences: wording changes, meaning mostly stays. Does little for single words
and tweets, and hurts where the wording is the label, as in tone, dialect or spelling.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from datasets import Dataset
from huggingface_hub import cached_assets_path
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from tqdm.auto import tqdm

from hf_smalldata.data.made import real, rng_of
from hf_smalldata.tasks.pretrained import told_of
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.remembered import remembered, state_of
from hf_smalldata.techniques.augment.translating import Translator
from hf_smalldata.techniques.augment.variants import Variant, with_variants

MODELS = ("Helsinki-NLP/opus-mt-en-de", "Helsinki-NLP/opus-mt-de-en")  # for English texts
AT_ONCE = 256  # texts, after which what was translated is kept


class BackTranslation(Technique):
    """Each row's text in the words of two translation models; its label stays.

    The paper translates back what only exists in the target language; here there and back are both by a model. Drawn
    translations (`method: sampling`) are more varied and less safe than the best ones, see
    https://arxiv.org/abs/1808.09381. A text has the same variants in all seeds, so that it is translated once: they
    are kept in the Hub's cache of assets (HF_ASSETS_CACHE), by text, models and settings.
    """

    name = "back_translation"
    tasks = frozenset({"text-classification"})
    paper = "https://arxiv.org/abs/1511.06709"
    paths = ("there", "back")
    extra: ClassVar[str | None] = "text"  # for Marian models

    there: str | None = None  # a Hub id or a folder; default: Helsinki-NLP/opus-mt-en-de
    back: str | None = None  # default: Helsinki-NLP/opus-mt-de-en
    revision_there: str | None = None
    revision_back: str | None = None
    n_aug: int = Field(default=1, ge=0)  # variants of a row
    method: Literal["beam", "sampling"] = "beam"
    beams: PositiveInt = 5  # at least n_aug; with beam
    temperature: PositiveFloat = 0.8  # near 0 the likeliest word; with sampling
    top_k: PositiveInt = 20  # tokens that are drawn from; with sampling
    min_similarity: Annotated[float, Field(ge=0, le=1)] = 0.5  # cosine with the row, by the recipe's model; 0: any
    max_length_ratio: float = Field(default=2.0, ge=1)  # of the longer to the shorter of row and variant, in characters

    @model_validator(mode="after")
    def _check_beams(self) -> BackTranslation:
        if self.method == "beam" and self.beams < self.n_aug:
            raise ValueError(f"beams: expected at least n_aug = {self.n_aug}, got {self.beams}")
        return self

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants.

        Raises:
            UserError: no such translation model.
        """
        if self.n_aug == 0:
            return train
        return with_variants(self, train, ctx, self.min_similarity, lambda: self._variants(real(train)))

    def _variants(self, originals: Dataset) -> tuple[list[Variant], dict[str, int]]:
        texts = originals["text"][:]
        specs = (ModelSpec(name=self.there or MODELS[0], revision=self.revision_there),
                 ModelSpec(name=self.back or MODELS[1], revision=self.revision_back))  # fmt: skip
        settings = self.model_dump(include={"n_aug", "method", "beams", "temperature", "top_k"})
        with told_of({"model.name:": "techniques.back_translation:"}):
            key = json.dumps([[spec.model_dump(), state_of(spec)] for spec in specs] + [settings])
            place = cached_assets_path("hf_smalldata", "translations") / "texts.sqlite"
            found = remembered(place, key, texts, lambda some: self._round_trip(specs, some))
        variants = [
            {"parent": row_id, "text": variant}
            for row_id, text in zip(originals["id"], texts, strict=True)
            for variant in found[text]
        ]
        parents = dict(zip(originals["id"], texts, strict=True))
        even = [each for each in variants if ratio(each["text"], parents[each["parent"]]) <= self.max_length_ratio]
        return even, {"uneven": len(variants) - len(even)}

    def _round_trip(self, specs: Sequence[ModelSpec], texts: Sequence[str]) -> Iterator[list[list[str]]]:
        there, back = map(Translator, specs)
        bar = tqdm(range(0, len(texts), AT_ONCE), desc="translating", leave=False, delay=1, disable=None)
        for start in bar:
            some = texts[start : start + AT_ONCE]
            if self.method == "beam":
                middle = [best[0] for best in there.best(some, self.beams)]
                yield back.best(middle, self.beams, self.n_aug)
                continue
            rngs = [rng_of(0, text, number) for text in some for number in range(self.n_aug)]
            draw = self.top_k, self.temperature
            middle = there.drawn([text for text in some for _ in range(self.n_aug)], rngs, *draw)
            ends = back.drawn(middle, rngs, *draw)
            yield [ends[at : at + self.n_aug] for at in range(0, len(ends), self.n_aug)]


def ratio(one: str, other: str) -> float:
    """Characters of the longer text for each of the shorter; infinite beside an empty one."""
    shorter, longer = sorted((len(one), len(other)))
    return longer / shorter if shorter else float("inf")
