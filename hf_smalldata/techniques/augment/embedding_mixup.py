"""Embedding mixup: the token vectors of each training text are blended with another's, targets in the same share.

Helps when a text encoder is trained whole on few rows and grows over-confident: words cannot be blended, their vectors
can. Does little where only a head or adapters above frozen blocks are trained, and turns the cache of frozen blocks
off, since every batch is another blend.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from transformers.modeling_utils import unwrap_model

from hf_smalldata.errors import UserError
from hf_smalldata.nn.mix import beta, mix, partners
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Context, Technique
from hf_smalldata.training.batching import EncodedRows, to_device


def embedding_mixup(batch: Batch, vectors: Tensor, permutation: Tensor, weight: Tensor) -> Batch:
    """Token by token from the first on, the vectors of rows and their partners, and their targets, blended.

    The longer text goes on alone, beside zeros (section 3.1). What says how tokens are to be read, such as their
    segment, is that of the row itself: let its share be the larger.

    Args:
        batch: with input_ids, attention_mask (B, T) and labels, targets (B, C).
        vectors: of the tokens (B, T, d).
        permutation: (B,), the partner of each row.
        weight: (B,), each row's own share.

    Returns:
        The batch with inputs_embeds (B, T, d) in place of input_ids.
    """
    mask = batch["attention_mask"]
    rest = {name: value for name, value in batch.items() if name != "input_ids"}
    return {
        **rest,
        "inputs_embeds": mix(vectors * mask.unsqueeze(-1).to(vectors.dtype), permutation, weight),  # eq. 1
        "attention_mask": mask.maximum(mask[permutation]),
        "labels": mix(batch["labels"], permutation, weight),  # eq. 2
    }


class EmbeddingMixup(Technique):
    """Blend the token vectors of every training batch (the paper's wordMixup).

    Each row has its own share, where the paper has one for the whole batch: in small batches one swings too much. It is
    the larger of λ and 1 - λ, which changes no distribution, as partners are drawn at random.
    """

    name = "embedding_mixup"
    tasks = frozenset({"text-classification"})
    paper = "https://arxiv.org/abs/1905.08941"

    alpha: PositiveFloat = 0.2  # of Beta(alpha, alpha): near 0 nearly no blending, 1 any share alike likely

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is.

        Raises:
            UserError: it does not read token vectors as it reads the tokens they are of.
        """
        sizes = [len(text) for text in ctx.train["text"][:]]
        pair = EncodedRows(
            ctx.train.select([sizes.index(max(sizes)), sizes.index(min(sizes))]), ctx.task, ctx.processor
        )
        batch = ctx.task.collate(pair.features, ctx.processor)
        if not _reads_vectors(model, to_device(batch, next(model.parameters()).device)):
            raise UserError(f"embedding_mixup: {type(model).__name__} does not read vectors in place of tokens as it "
                            "reads tokens; leave it out")  # fmt: skip
        return model

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """Token ids and targets (B, C) -> blends of their vectors, and blended targets (B, C)."""
        targets = batch["labels"]
        share = beta(self.alpha, (len(targets),)).to(targets.device)
        return embedding_mixup(batch, _vectors(model, batch), partners(targets), share.maximum(1 - share))


def _vectors(model: nn.Module, batch: Batch) -> Tensor:
    """(B, T) -> (B, T, d)."""
    network: Any = unwrap_model(model)
    vectors: Tensor = network.get_input_embeddings()(batch["input_ids"])
    return vectors


@torch.no_grad()
def _reads_vectors(model: nn.Module, batch: Batch) -> bool:
    """Whether the logits of tokens and of their vectors are the same, beside padding too."""
    network: Any = model.eval()
    rest = {name: value for name, value in batch.items() if name != "input_ids"}
    expected = network(**batch).logits
    try:
        found = network(inputs_embeds=_vectors(model, batch), **rest).logits
    except (NotImplementedError, TypeError, ValueError):  # in these words architectures say that they take none
        return False
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
