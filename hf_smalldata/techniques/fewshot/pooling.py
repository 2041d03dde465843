"""Pooling: which states of a text encoder become the embedding that its head reads: the mean of all tokens.

Helps with few labels on every encoder: the first token of a sentence encoder was never trained to stand for the text,
and that of a masked language model hardly, while the mean is good as it is. It is folded into the stock classifier by
one more block, so that a plain pipeline reads it. Does little once hundreds of rows a class fine-tune all blocks.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import torch
from datasets import Dataset
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from hf_smalldata.data.made import real
from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.fold import fold_mean, foldable, hasten, keep_bottom
from hf_smalldata.nn.linear_heads import judging, loo_loss
from hf_smalldata.tasks.windows import mean_by_row
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.fewshot.rows import BATCH_SIZE, batches, inputs_of
from hf_smalldata.training.batching import EncodedRows, by_length

logger = logging.getLogger(__name__)

SAMPLE = 8  # rows by which a folded network is compared with the formula
TOLERANCE = 1e-3  # of the length of a feature vector: a network that differs more from the formula weighs the mean


class Pooling(Technique):
    """Mean pooling inside the stock classifier, of the last block or of the one that leave-one-out says.

    The maximum and the mean beside the first token do not fold into stock classifiers, and sums with the first token
    were at best level with the mean where we measured them. Where the network's own positions weigh the mean (MPNet),
    it is learnt from and saved as they weigh it, and the Run says so.
    """

    name = "pooling"
    tasks = frozenset({"text-classification", "sequence-classification"})
    paper = "https://arxiv.org/abs/1908.10084"

    kind: Literal["mean", "cls", "auto"] = "mean"  # auto: by leave-one-out on the training rows
    blocks: Annotated[int, Field(ge=2)] | Literal["all", "auto"] = "all"  # bottom blocks that stay; those above go

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its blocks and its pooling chosen; what was chosen is written to the Run."""
        if hasten(model):
            raise UserError("pooling: this network pools already; leave the technique out")
        if not foldable(model):
            return self._stock(model, ctx)
        whole = len(blocks(model))
        if self.blocks not in ("all", "auto") and int(self.blocks) > whole:
            raise UserError(f"pooling.blocks: expected 2 to {whole}, got {self.blocks}: so many has {ctx.model.name}")
        given = real(ctx.train)
        kind, kept = self._chosen(model, given, ctx, whole)
        keep_bottom(model, kept)
        ctx.facts["pooling"] = {"kind": kind, "blocks": kept, "of_blocks": whole}
        if kind == "mean":
            few = ctx.task.cut(given.select(range(min(SAMPLE, len(given)))), ctx.processor)
            rows = EncodedRows(few, ctx.task, ctx.processor)
            found = folded(model, inputs_of(rows, list(range(len(rows)))[:SAMPLE], ctx, _device(model)))
            ctx.facts["pooling"] |= found
            if not hasten(model) and found["fold_error"] > TOLERANCE:
                kind = ctx.facts["pooling"]["kind"] = "weighted mean"
                logger.info("pooling: %s weighs the mean by position: features differ from the plain mean by %.2g of "
                            "their length", type(model).__name__, found["fold_error"])  # fmt: skip
        logger.info("pooling: %s of the states after block %d of %d", kind, kept, whole)
        return model

    def _stock(self, model: nn.Module, ctx: Context) -> nn.Module:
        """Networks that pool as their config says (ModernBERT), and those that pool as they do."""
        config: Any = getattr(model, "config", None)
        if hasattr(config, "classifier_pooling"):
            config.classifier_pooling = "cls" if self.kind == "cls" else "mean"
            ctx.facts["pooling"] = {"kind": config.classifier_pooling}
        else:
            logger.warning("pooling: had no effect, %s keeps its own", type(model).__name__)
        return model

    def _chosen(self, model: nn.Module, rows: Dataset, ctx: Context, whole: int) -> tuple[str, int]:
        """Kind and blocks: what is given, or what has the least leave-one-out loss of a ridge head.

        A row whose class has no other row judges nothing.
        """
        kinds = ("mean", "cls") if self.kind == "auto" else (self.kind,)
        depths: list[int] = {"all": [whole], "auto": list(range(whole, max(whole // 2, 2) - 1, -1))}.get(
            str(self.blocks)) or [int(self.blocks)]  # fmt: skip
        pairs = [(kind, depth) for kind in kinds for depth in depths]
        labels = rows["label"][:]
        if len(pairs) == 1 or len(set(map(str, labels))) < 2:
            return pairs[0]
        targets = ctx.task.targets(labels, max(len(ctx.labels), 1), ctx.problem_type)
        single = ctx.problem_type == "single_label_classification"
        judges = judging(targets) if single else torch.ones(len(targets), dtype=torch.bool)
        if not judges.any():
            logger.warning(
                "pooling: leave-one-out needs a class of two rows and each has one, so nothing is compared: "
                "%s of the states after block %d; label more rows, or set pooling.kind and pooling.blocks", *pairs[0]
            )  # fmt: skip
            return pairs[0]
        found = _states(model, rows, ctx, pairs)
        losses = {pair: loo_loss(found[pair], targets, judges) for pair in pairs}
        return min(pairs, key=lambda pair: losses[pair])


@torch.no_grad()
def folded(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Fold the mean into a network, and say how exact the fold is.

    Returns:
        strength: of the mean beside the first token's state. fold_error: of the row where it is largest, the length of
        the difference of the features at the first token from the mean of all tokens' states, over that of the mean.
    """
    model.eval()
    states = model(**inputs, output_hidden_states=True).hidden_states[-1]
    expected = layer_norm(_mean(states, inputs["attention_mask"]), states.shape[-1:])
    strength = fold_mean(model, float(states.abs().max()))
    first = model(**inputs, output_hidden_states=True).hidden_states[-1][:, 0]
    error = (first - expected).norm(dim=1) / expected.norm(dim=1)
    return {"strength": strength, "fold_error": float(error.max())}


@torch.no_grad()
def _states(
    model: nn.Module, rows: Dataset, ctx: Context, pairs: list[tuple[str, int]]
) -> dict[tuple[str, int], Tensor]:
    """Pooled states (N, d) of all rows for each kind and depth, of length as a LayerNorm makes them.

    A row that is cut into windows has the mean of theirs.
    """
    model.eval()
    windows = ctx.task.cut(rows, ctx.processor)
    encoded = EncodedRows(windows, ctx.task, ctx.processor)
    order = by_length(encoded, BATCH_SIZE)
    found: dict[tuple[str, int], list[Tensor]] = {pair: [] for pair in pairs}
    for inputs in batches(encoded, order, ctx, _device(model)):
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        for kind, depth in pairs:
            states = hidden[depth]
            pooled = states[:, 0] if kind == "cls" else _mean(states, inputs["attention_mask"])
            found[kind, depth].append(layer_norm(pooled, pooled.shape[-1:]).cpu())
    place = torch.empty(len(encoded), dtype=torch.long)
    place[[at for batch in order for at in batch]] = torch.arange(len(encoded))
    ids = windows["id"][:], rows["id"][:]
    return {pair: torch.from_numpy(mean_by_row(torch.cat(parts)[place].numpy(), *ids)) for pair, parts in found.items()}


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)  # (B, T, 1)
    return (states * weights).sum(1) / weights.sum(1)  # (B, T, d) -> (B, d)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
