"""Text classification: single-label, multi-label and regression, for one text or a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch import Tensor, nn

from hf_smalldata.data.modality import Kind
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.nn.cloze import mask_first
from hf_smalldata.tasks.pretrained import load_classifier, load_processor
from hf_smalldata.tasks.prompt import prompt, prompt_token_ids, prompted, with_prompt_tokens
from hf_smalldata.tasks.task import Batch, Features, ModelSpec, Task

LONGEST = 512  # tokens, where neither recipe nor tokenizer sets a limit


class TextClassification(Task):
    """Rows with `text` (and `text_pair`); any `AutoModelForSequenceClassification`."""

    name = "text-classification"
    pipeline_tag = "text-classification"
    kind: ClassVar[Kind] = "text"
    model_class = "AutoModelForSequenceClassification"
    processor_argument = "tokenizer"
    pipeline_arguments: ClassVar[dict[str, Any]] = {"top_k": None, "truncation": True}

    def load_processor(self, spec: ModelSpec) -> Any:
        """The tokenizer; its `model_max_length` is where texts are cut, here and in a pipeline later.

        Raises:
            UserError: no tokenizer, `max_length` above what the model can take, or a template without a mask.
        """
        tokenizer = load_tokenizer(self.model_class, spec)
        if spec.prompt_tokens is not None:
            return with_prompt_tokens(tokenizer, spec.prompt_tokens)
        return tokenizer if spec.template is None else prompted(tokenizer, spec.template)

    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """A sequence classifier with a new head; with a template it is the mask's state that the head reads.

        Prompt tokens start as copies of other tokens' vectors, drawn from torch's global generator.
        """
        model = load_classifier(self.model_class, spec, labels, problem_type)
        if spec.prompt_tokens is not None:
            add_vectors(model, prompt_token_ids(self.load_processor(spec)))
        if spec.template is not None:
            mask_first(model, prompt(load_tokenizer(self.model_class, spec), spec.template).place)
        return model

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Token ids, cut at the tokenizer's `model_max_length`."""
        pairs = list(rows["text_pair"]) if "text_pair" in rows.column_names else None
        return tokens_of(list(rows["text"]), processor, pairs)

    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """Padded to the longest of the batch: input_ids, attention_mask (B, T)."""
        return pad_tokens(features, processor)

    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Texts, or dicts of text and text_pair."""
        if "text_pair" not in rows.column_names:
            return list(rows["text"])
        return [{"text": a, "text_pair": b} for a, b in zip(rows["text"], rows["text_pair"], strict=True)]

    def length(self, features: Features) -> int:
        """Tokens."""
        return len(features["input_ids"])


@torch.no_grad()
def add_vectors(model: Any, tokens: Sequence[int]) -> None:
    """Vectors of new tokens at the end of a network's table, each a copy of another token's; those there already stay.

    Args:
        model: changed in place, its config too.
        tokens: ids, the last of the vocabulary.
    """
    before = len(model.get_input_embeddings().weight)
    if before > max(tokens):
        return
    model.resize_token_embeddings(max(tokens) + 1, mean_resizing=False)
    table: Tensor = model.get_input_embeddings().weight
    new = [token for token in tokens if token >= before]
    table[new] = table[torch.randint(before, (len(new),))]


def tokens_of(texts: list[str], processor: Any, pairs: list[str] | None = None) -> list[Features]:
    """What the tokenizer makes of each text, cut at its `model_max_length`."""
    encoded = processor(texts, pairs, truncation=True)
    names = list(encoded)
    return [dict(zip(names, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def load_tokenizer(model_class: str, spec: ModelSpec, **settings: Any) -> Any:
    """A checkpoint's tokenizer, which cuts at the recipe's `max_length` and can pad.

    Args:
        model_class: the Auto class of the model.
        spec: the model.
        settings: the tokenizer's own.

    Raises:
        UserError: no tokenizer, or `max_length` above what the model can take or without room for a token.
    """
    tokenizer = load_processor("AutoTokenizer", model_class, spec, **settings)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what transformers makes of no files
        raise UserError(f"model.name: {spec.name} has no tokenizer files (such as tokenizer.json); save them beside it")
    limit = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else LONGEST
    if spec.max_length is not None and spec.max_length > limit:
        raise UserError(f"model.max_length: {spec.name} takes at most {limit} tokens, got {spec.max_length}")
    tokenizer.model_max_length = spec.max_length or limit
    if tokenizer.model_max_length < (least := tokenizer.num_special_tokens_to_add() + 1):  # it would not cut at all
        raise UserError(f"model.max_length: expected {least} at least, got {tokenizer.model_max_length}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def pad_tokens(features: Sequence[Features], tokenizer: Any) -> Batch:
    """Lists of a row's token ids, masks and types -> tensors (B, T)."""
    longest = max(len(row["input_ids"]) for row in features)
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return {
        name: torch.tensor([row[name] + [fill.get(name, 0)] * (longest - len(row[name])) for row in features])
        for name in features[0]
    }
