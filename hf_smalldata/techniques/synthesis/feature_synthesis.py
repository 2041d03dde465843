"""Feature synthesis: a head that learns from the rows' frozen features and from more that are drawn around them.

Helps where classes differ in what varies little, and many classes show together how far rows of one class reach:
points drawn around each row by that spread (`kind: mixture`) then stand for rows that nobody labelled. Costs seconds,
and works for all rows that a network turns into one vector. Does nothing, or a little harm, on good features with a
well shrunk head at hand: on photos, cells, reviews and questions no kind was better than `logistic_head` alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.covariance import ledoit_wolf
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.logistic_heads import Rows, logistic
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.fitted import fit_head
from hf_smalldata.techniques.synthesis.feature_vae import drawn as drawn_by_network

Array = np.ndarray[Any, Any]
Kind = Literal["gaussian", "mixture", "smote", "vae"]


class FeatureSynthesis(Technique):
    """Fills the last layer by logistic regression on real and drawn features; with `num_train_epochs: 0` that is all.

    Real rows alone choose the penalty: within each fold features are drawn around those that are not left out. No
    keeper: a point in feature space is no row that one could show, and drawn by class it has its label by design.
    """

    name = "feature_synthesis"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/1702.05538"

    kind: Kind = "smote"  # around class means; around each row; between a row and one near it; by a small network
    per_class: PositiveInt = 50  # features drawn of each class
    weight: float = Field(default=0.5, ge=0, lt=1)  # of what is learnt, the share that drawn features make; 0: none
    spread: PositiveFloat = 0.5  # of the standard deviation within classes; for `gaussian` and `mixture`
    neighbours: PositiveInt = 5  # of the class that a row is joined with; for `smote`

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled.

        Raises:
            UserError: rows that have no one class each.
        """
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"feature_synthesis: for rows of one class each, and these are {ctx.problem_type}; use "
                            "ridge_head")  # fmt: skip
        filled = fit_head(model, ctx, self.name, lambda z, targets, kin: logistic(
            z, targets, ctx.problem_type, ctx.seed, grow=lambda x, wanted: self.grown(x, wanted, ctx.seed), kin=kin
        ))  # fmt: skip
        share = f"{self.weight:.0%} of the weight that its head learnt from"
        ctx.facts[self.name]["disclosed"] = f"drew up to {self.per_class} features of each class, {share}"
        return filled

    def grown(self, x: Array, targets: Array, seed: int) -> Rows:
        """Features (N, K) and those drawn, which together weigh N, with their targets."""
        if self.weight == 0:
            return Rows(x, targets)
        labels = targets.argmax(1)
        made, of = synthesised(x, labels, self.kind, self.per_class, self.spread, self.neighbours, seed)
        if not len(made):
            return Rows(x, targets)
        shares = [np.full(len(x), 1 - self.weight), np.full(len(made), self.weight * len(x) / len(made))]
        return Rows(np.concatenate([x, made]), np.concatenate([targets, targets[of]]), np.concatenate(shares))


def synthesised(
    x: Array, labels: Array, kind: Kind, per_class: int, spread: float, neighbours: int, seed: int
) -> tuple[Array, Array]:
    """Features drawn for each class that occurs (M, K), and for each one the row that it was drawn around (M,).

    gaussian: the class's mean + e; mixture: a row + e; e drawn from N(0, spread² S), with S the covariance of all rows
    about the means of their classes, shrunk by Ledoit and Wolf: few rows a class say nothing of a covariance each.
    smote: x_i + u (x_j - x_i) with u uniform in (0, 1) and x_j one of the nearest rows of the class (Chawla et al.
    2002, https://arxiv.org/abs/1106.1813, section 4.2); a class of one row gets none. vae: see `feature_vae`.

    Args:
        x: features (N, K).
        labels: classes (N,).
        kind: how.
        per_class: M by class.
        spread: see above; of gaussian and mixture.
        neighbours: of smote.
        seed: of the draws.
    """
    rng, classes = np.random.default_rng([seed, len(x)]), np.unique(labels)
    means = {label: x[labels == label].mean(0) for label in classes}
    made, of = [], []
    if kind == "smote":
        for label in classes:
            own = np.flatnonzero(labels == label)
            if len(own) > 1:
                near = _nearest(x[own], neighbours)
                first = rng.integers(len(own), size=per_class)
                second = near[first, rng.integers(near.shape[1], size=per_class)]
                made.append(x[own[first]] + rng.random((per_class, 1)) * (x[own[second]] - x[own[first]]))
                of.append(own[first])
    elif kind == "vae":
        features, names = drawn_by_network(x, labels, per_class, int(rng.integers(2**31)))
        made.append(features)
        of.append(np.array([rng.choice(np.flatnonzero(labels == name)) for name in names]))
    else:
        root = _root(x - np.stack([means[label] for label in labels]))
        for label in classes:
            drawn = rng.choice(np.flatnonzero(labels == label), per_class)
            centre = x[drawn] if kind == "mixture" else means[label]
            made.append(centre + spread * rng.standard_normal((per_class, len(root))) @ root)
            of.append(drawn)
    return (np.concatenate(made), np.concatenate(of)) if made else (np.zeros((0, x.shape[1])), np.zeros(0, dtype=int))


def _root(residuals: Array) -> Array:
    """A square root (K, K) of the shrunk covariance of residuals (N, K): of which the mean is 0."""
    covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    root: Array = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return root


def _nearest(x: Array, count: int) -> Array:
    """The nearest other rows of each, at most `count` (N, k)."""
    distances = np.square(x[:, None] - x[None]).sum(-1)
    np.fill_diagonal(distances, np.inf)
    found: Array = np.argsort(distances, axis=1, kind="stable")[:, : min(count, len(x) - 1)]
    return found
