"""Known shares of the classes: for techniques that are told how frequent each class is where the model serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from pydantic import field_validator
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from hf_smalldata.errors import UserError, did_you_mean, listed
from hf_smalldata.technique import Context, Technique

Array = np.ndarray[Any, Any]

USUAL = 2.0  # standard deviation of an offset before any row is seen: a few rows move no class without bound


class KnownShares(Technique):
    """The field `shares`, checked against the classes that there are."""

    shares: dict[str, float] | None = None  # of each class, or any counts

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
            raise UserError(f"{self.name}: for rows of one class each, and these are {ctx.problem_type}; leave it out")
        if self.shares is None:
            return
        lacking = [label for label in ctx.labels if label not in self.shares]
        strange = [label for label in self.shares if label not in ctx.labels]
        if lacking or strange:
            said = [f"none for {listed(lacking)}"] if lacking else []
            said += [f"no class '{label}'{did_you_mean(label, ctx.labels)}" for label in strange[:3]]
            raise UserError(f"{self.name}.shares: expected a share above 0 for each of "
                            f"{listed(list(ctx.labels))}; found {', '.join(said)}")  # fmt: skip

    def given(self, labels: tuple[str, ...]) -> Array | None:
        """The shares (C,), which sum to 1; None where there are none."""
        if self.shares is None:
            return None
        found = np.array([self.shares[label] for label in labels], dtype=np.float64)
        shares: Array = found / found.sum()
        return shares


def offsets(said: Array, wanted: Array) -> Array:
    """What to add to logits (C,), with mean 0, so that the mean of softmax(log p + b) over N rows is `wanted`.

    The least of Σ_n logsumexp(log p_n + b) - N q·b + |b|² / 2σ², which is convex and whose slope is N times the
    difference of the means, but for a weak prior on b that keeps a few sure rows from moving a class without bound.

    Args:
        said: probabilities (N, C).
        wanted: q (C,), of sum 1.
    """
    logs = np.log(np.maximum(said.astype(np.float64), np.finfo(np.float32).tiny))

    def loss(b: Array) -> tuple[float, Array]:
        value = logsumexp(logs + b, axis=1).sum() - len(logs) * wanted @ b + b @ b / (2 * USUAL**2)
        slope = softmax(logs + b, axis=1).sum(0) - len(logs) * wanted + b / USUAL**2
        return value, slope

    found = minimize(loss, np.zeros(len(wanted)), jac=True, method="L-BFGS-B").x
    centred: Array = found - found.mean()
    return centred


def by_label(values: Array, labels: tuple[str, ...]) -> dict[str, float]:
    """Numbers (C,) by the names of their classes, for the Run."""
    return {label: round(float(value), 4) for label, value in zip(labels, values, strict=True)}


def _positive(share: Any) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < math.inf
