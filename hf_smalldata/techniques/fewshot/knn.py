"""Nearest neighbours: each test row has the label of the training rows most like it, by the pretrained model untrained.

Helps to tell what training is worth: embeddings and a look at the nearest rows cost seconds, and where that is as good
as the trained model, the training added nothing. Does nothing to the model itself; it is one more row of the results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from pydantic import PositiveInt
from sklearn.neighbors import KNeighborsRegressor

from hf_smalldata.nn.fold import fold_mean, foldable, hasten
from hf_smalldata.tasks.task import Predictions
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.beside import once_for
from hf_smalldata.techniques.fewshot.rows import features_of

Array = np.ndarray[Any, Any]

LARGEST_STATE = 30.0  # that a mean is folded in for: 896 times its strength, and float32 ends far above


def votes(train: Array, targets: Array, test: Array, k: int) -> Array:
    """Means of the targets of the k nearest rows by cosine distance, each weighted by 1 / distance.

    Args:
        train: (N, d).
        targets: (N, C): one-hot or multi-hot labels, whose means are probabilities, or values.
        test: (M, d).
        k: of more neighbours than there are, all.

    Returns:
        (M, C). A row that equals training rows has the mean of theirs alone.
    """
    model = KNeighborsRegressor(n_neighbors=min(k, len(train)), weights="distance", metric="cosine")
    return np.asarray(model.fit(train, targets).predict(test), dtype=np.float64)


class Knn(Technique):
    """A row of the results: nearest neighbours among the pretrained model's embeddings."""

    name = "knn"
    tasks = ALL_TASKS - {"token-classification"}
    paper = "https://doi.org/10.1109/TIT.1967.1053964"

    k: PositiveInt = 5

    def baseline(self, test: Dataset, ctx: Context) -> Predictions:
        """Probabilities (N, C) by the labels of the nearest drawn rows; values (N, 1) for regression."""
        width = max(len(ctx.labels), 1)
        targets = ctx.task.targets(ctx.train["label"][:], width, ctx.problem_type).numpy()
        unseen = once_for(test, ctx, ("embeddings", ctx.model), lambda: embeddings_of(test, ctx))
        return votes(embeddings_of(ctx.train.remove_columns("label"), ctx), targets, unseen, self.k)

    def baseline_name(self, ctx: Context) -> str:
        """`5 nearest neighbours`."""
        return f"{self.k} nearest neighbours" if self.k > 1 else "nearest neighbour"


def embeddings_of(rows: Dataset, ctx: Context) -> Array:
    """Embeddings (N, d) of rows without labels, by the model as it was pretrained; of token states the mean."""
    model = ctx.task.load_model(ctx.model, ctx.labels, ctx.problem_type).to(PartialState().device)
    if foldable(model) and not hasten(model):
        fold_mean(model, LARGEST_STATE)
        hasten(model)
    found, _ = features_of(
        model, ctx, rows.add_column("label", [0] * len(rows))
    )  # encoded rows have one; it's not read
    return found.numpy()
