"""Label shift: how frequent each class is where the model will serve moves its answers, by rows without labels.

Helps where a few rows of each class were labelled and the classes are not alike frequent: a network that has seen as
many of each says the rare ones too often, and one number a class mends that. Roughly known shares bring most of it.
Costs one pass over the unlabelled rows. Hurts where the shares are wrong, or the unlabelled rows are of another mix.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from pydantic import PositiveInt, field_validator
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from torch import nn

from hf_smalldata.data.domains import at_most, with_labels
from hf_smalldata.errors import UserError, did_you_mean, listed
from hf_smalldata.nn.heads import shift_logits
from hf_smalldata.nn.losses import probabilities
from hf_smalldata.technique import Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS
from hf_smalldata.techniques.fewshot.rows import inputs_of
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.predict import predict_logits

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

BATCH_SIZE = 32
USUAL = 2.0  # standard deviation of an offset before any row is seen: a few rows move no class without bound


class LabelShift(Technique):
    """Add to the logits the offsets with which the mean prediction on unlabelled rows is the share of each class.

    Expectation regularisation with given label proportions, of which only the biases are learnt: the body has
    settled on few labels by then, and offsets cannot spoil it.
    """

    name = "label_shift"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://dl.acm.org/doi/10.1145/1273496.1273571"

    shares: dict[str, float] | None = None  # of each class, or any counts; without them all are alike frequent
    most: PositiveInt = 10_000  # unlabelled rows looked at, drawn where there are more

    @field_validator("shares", mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        if given is None:
            return None
        if isinstance(given, Mapping) and given and all(map(_positive, given.values())):
            return {str(name): float(share) for name, share in given.items()}
        raise ValueError("expected a number above 0 for each class, such as {refund: 120, other: 4000}, with a space "
                         "behind each colon")  # fmt: skip

    def check(self, train: Dataset, ctx: Context) -> None:
        """Refuse shares of other classes than these.

        Raises:
            UserError: a class without a share, a share without a class, or rows without one class each.
        """
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"label_shift: for rows of one class each, and these are {ctx.problem_type}; leave it out")
        if self.shares is None:
            return
        lacking = [label for label in ctx.labels if label not in self.shares]
        strange = [label for label in self.shares if label not in ctx.labels]
        if lacking or strange:
            said = [f"none for {listed(lacking)}"] if lacking else []
            said += [f"no class '{label}'{did_you_mean(label, ctx.labels)}" for label in strange[:3]]
            raise UserError("label_shift.shares: expected a share above 0 for each of "
                            f"{listed(list(ctx.labels))}; found {', '.join(said)}")  # fmt: skip

    def trained(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its logits moved.

        Raises:
            UserError: no unlabelled rows, or logits that no bias moves.
        """
        if ctx.unlabelled is None or not len(ctx.unlabelled):
            raise UserError("label_shift: there are no unlabelled rows; set data.unlabelled")
        rows = with_labels(at_most(ctx.unlabelled, self.most, ctx.seed), ctx.labels, ctx.problem_type)
        windows = ctx.task.cut(rows, ctx.processor)
        encoded = EncodedRows(windows, ctx.task, ctx.processor)
        collate = collator(ctx.task, ctx.processor, len(ctx.labels), ctx.problem_type)
        logits = torch.from_numpy(predict_logits(model, encoded, collate, BATCH_SIZE))
        if not logits.isfinite().all():  # training diverged, which is told where the network is judged
            return model
        said = ctx.task.merge(probabilities(logits, ctx.problem_type).numpy(), windows, rows)
        wanted = self._wanted(ctx.labels)
        offset = offsets(said, wanted)
        one = inputs_of(encoded, [0], ctx, next(model.parameters()).device)
        if not shift_logits(model, torch.from_numpy(offset), lambda network: network(**one).logits):
            raise UserError(f"label_shift: no bias moves the logits of {type(model).__name__}; leave it out")
        shares = _by_label(wanted, ctx.labels)
        facts = {
            "unlabelled_rows": len(said),
            "shares_before": _by_label(said.mean(0), ctx.labels),
            "shares": shares,
            "offsets": _by_label(offset, ctx.labels),
        }
        shown = ", ".join(f"{label} {share:.3g}" for label, share in shares.items())
        told = "as often as it was told" if self.shares else "alike often"
        disclosed = f"moved its answers so that on {len(said)} rows without labels it says each class {told} ({shown})"
        ctx.facts[self.name] = {**facts, "disclosed": disclosed}
        logger.info("label_shift: %s", facts)
        return model

    def _wanted(self, labels: tuple[str, ...]) -> Array:
        """Shares (C,), which sum to 1."""
        given: Mapping[str, float] = self.shares or dict.fromkeys(labels, 1.0)
        found = np.array([given[label] for label in labels], dtype=np.float64)
        shares: Array = found / found.sum()
        return shares


def offsets(said: Array, wanted: Array) -> Array:
    """What to add to logits (C,), with mean 0, so that the mean of softmax(log p + b) over N rows is `wanted`.

    The least of Σ_n logsumexp(log p_n + b) - N q·b + |b|² / 2σ², which is convex and whose slope is N times the
    difference of the means, but for a weak prior on b that keeps a few sure rows from moving a class without bound.

    Args:
        said: probabilities (N, C).
        wanted: q (C,), above 0, of sum 1.
    """
    logs = np.log(np.maximum(said.astype(np.float64), np.finfo(np.float32).tiny))

    def loss(b: Array) -> tuple[float, Array]:
        value = logsumexp(logs + b, axis=1).sum() - len(logs) * wanted @ b + b @ b / (2 * USUAL**2)
        slope = softmax(logs + b, axis=1).sum(0) - len(logs) * wanted + b / USUAL**2
        return value, slope

    found = minimize(loss, np.zeros(len(wanted)), jac=True, method="L-BFGS-B").x
    centred: Array = found - found.mean()
    return centred


def _positive(share: Any) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < math.inf


def _by_label(values: Array, labels: tuple[str, ...]) -> dict[str, float]:
    return {label: round(float(value), 4) for label, value in zip(labels, values, strict=True)}
