"""Episodes: how well a representation tells NEW classes apart, from a few rows of each.

An episode draws some classes that nothing was trained on, a few rows of each as its whole training set and others to
ask; the score is the mean over many episodes. It judges features, not a classifier: what users of a model meet when
their classes are not those of its training (a new alphabet, new parts of a machine, new intents). Where the classes of
training and use are the same, a test split says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation.intervals import Array

Metric = Literal["cosine", "euclidean"]
Indices = NDArray[np.int64]


class Episode(NamedTuple):
    """Rows of one episode by their index: `support[c, :k]` (W, K) are the k shots of class c, `query` (Q,) are asked.

    `target` (Q,) is the place in `support` of each query's class.
    """

    support: Indices
    query: Indices
    target: Indices


def draw_episodes(
    labels: Sequence[int], names: Sequence[str], ways: int, shots: int, queries: int, episodes: int, seed: int = 0
) -> list[Episode]:
    """Episodes of `ways` classes with `shots` rows to learn from and `queries` others to ask, of each class.

    Draws are nested: the first k of an episode's shots are its k-shot training set, so that shots are compared on the
    same queries.

    Args:
        labels: class index of each row (N,).
        names: of the classes, for messages.
        ways: classes of an episode, at least 2.
        shots: most shots that are wanted.
        queries: of each class.
        episodes: how many.
        seed: of the draws.

    Raises:
        UserError: fewer classes than ways, or classes with fewer rows than shots and queries take.
    """
    of_class = [np.flatnonzero(np.asarray(labels) == at) for at in range(len(names))]
    rows = shots + queries
    small = [f"{name}: {len(found)}" for name, found in zip(names, of_class, strict=True) if len(found) < rows]
    if len(names) < ways:
        raise UserError(f"--ways: {ways} classes an episode, but there are only {len(names)}; use {len(names)} or less")
    if small:
        raise UserError(
            f"{shots} shots and {queries} queries take {rows} rows of a class, too few are in {listed(small)}; "
            "lower --shots or --queries, or leave these classes out"
        )
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(ways), queries)
    drawn = []
    for _ in range(episodes):
        classes = rng.choice(len(names), ways, replace=False)
        chosen = np.stack([rng.choice(of_class[at], rows, replace=False) for at in classes])  # (W, K + Q)
        drawn.append(Episode(chosen[:, :shots], chosen[:, shots:].ravel(), target))
    return drawn


def accuracies(features: Any, episodes: Sequence[Episode], shots: int, metric: Metric) -> Array:
    """Share of each episode's queries that lie nearest to the mean of the first `shots` of their own class: (E,).

    Source: Snell et al. 2017, https://arxiv.org/abs/1703.05175, eq. 1 and 2. A tie goes to the class that was drawn
    first, so features that tell nothing score 1 / ways on average.

    Args:
        features: (N, d), an array or a sparse matrix.
        episodes: of these rows.
        shots: at most those that were drawn.
        metric: squared Euclidean distance, or cosine of rows that were given length 1 before the mean.
    """
    given = unit_rows(features) if metric == "cosine" else features
    return np.array([_accuracy(given, episode, shots, metric) for episode in episodes])


def unit_rows(features: Any) -> Any:
    """Rows of length 1, dense or sparse; a row of zeros stays."""
    squares = features.multiply(features).sum(axis=1) if issparse(features) else np.square(features).sum(axis=1)
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)).reshape(-1, 1)
    scale = 1.0 / np.where(lengths > 0, lengths, 1.0)
    return features.multiply(scale).tocsr() if issparse(features) else features * scale


def _accuracy(features: Any, episode: Episode, shots: int, metric: Metric) -> float:
    """By inner products alone, which are as cheap for a sparse matrix of 50,000 words."""
    support, ways = episode.support[:, :shots], len(episode.support)
    known = features[support.ravel()]
    shared = _dense(features[episode.query] @ known.T).reshape(-1, ways, shots).mean(axis=2)  # (Q, W): q · mean
    own = _dense(known @ known.T).reshape(ways, shots, ways, shots).mean(axis=(1, 3)).diagonal()  # |mean|²
    if metric == "cosine":
        return _share(shared / np.sqrt(np.maximum(own, np.finfo(np.float64).tiny)), episode)
    return _share(2 * shared - own, episode)  # -|q - mean|² + |q|²


def _share(nearness: Array, episode: Episode) -> float:
    return float((nearness.argmax(axis=1) == episode.target).mean())


def _dense(product: Any) -> Array:
    return np.asarray(product.toarray() if issparse(product) else product, dtype=np.float64)
