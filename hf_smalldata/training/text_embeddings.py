"""Texts as vectors, by a pretrained network as it is: means of token states, the best plain choice for few labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.functional import normalize

from hf_smalldata.tasks.pretrained import load_whole
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.tasks.text import load_tokenizer, pad_tokens

BATCH_SIZE = 16
ANY_HEAD = "AutoModelForSequenceClassification"  # every text encoder has it, so that its config tells one


def text_embeddings(spec: ModelSpec, texts: Sequence[str]) -> Tensor:
    """Embeddings (N, d) of length 1, on the CPU, by a checkpoint's body, which is loaded for it.

    A `template` of the spec is left out: it belongs to a classifier.

    Raises:
        UserError: not found, pickled weights, or no tokenizer.
    """
    tokenizer, model = load_tokenizer(ANY_HEAD, spec), load_whole("AutoModel", spec)
    return embedded(model.to(PartialState().device), tokenizer, texts)


@torch.no_grad()
def embedded(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Means of token states, of length 1: (N, d) on the CPU, in the order of the texts."""
    model.eval()
    device = next(model.parameters()).device
    found: dict[int, Tensor] = {}
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    for start in range(0, len(texts), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        encoded = tokenizer([texts[at] for at in chosen], truncation=True)
        batch = pad_tokens([{name: encoded[name][at] for name in encoded} for at in range(len(chosen))], tokenizer)
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        weights = inputs["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        means = (model(**inputs).last_hidden_state * weights).sum(1) / weights.sum(1)  # (B, T, d) -> (B, d)
        found.update(zip(chosen, normalize(means).cpu(), strict=True))
    return torch.stack([found[at] for at in range(len(texts))])
