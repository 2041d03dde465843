"""How good made rows are, in numbers: near real ones, as varied as they are, no copies, and fit to learn from.

All but those of texts are about features of rows, whichever network they come from: figures of two networks cannot be
compared, nor can Fréchet distances of different numbers of rows, which shrink as rows become more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

Array = np.ndarray[Any, Any]

NEIGHBOURS = 3  # of the paper: the radius of a row is the distance to its third neighbour
LONGEST_NGRAM = 4
INVERSE_PENALTY = 3.0
MOST_STEPS = 2000
_SMALLEST = 1e-12


def frechet_distance(x: Array, y: Array) -> float:
    """Fréchet distance of the normal distributions that have means and covariances of x (N, d) and y (M, d).

    |m_x - m_y|² + tr(S_x + S_y - 2 (S_x S_y)^½), Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6. With
    S_x = AᵀA and S_y = BᵀB the last trace is the sum of the singular values of ABᵀ (N, M): exact, and small where rows
    are fewer than features.
    """
    gap = x.mean(0) - y.mean(0)
    a, b = ((each - each.mean(0)) / math.sqrt(max(len(each) - 1, 1)) for each in (x, y))
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + np.square(a).sum() + np.square(b).sum() - 2 * shared)


def kernel_distance(x: Array, y: Array) -> float:
    """Unbiased squared maximum mean discrepancy by the kernel (xᵀy / d + 1)³: KID; of equal distributions about 0.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4. x: (N, d), y: (M, d), at least two rows each.
    """
    size = x.shape[1]

    def within(rows: Array) -> float:
        values = (rows @ rows.T / size + 1) ** 3
        return float((values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1)))

    return within(x) + within(y) - 2 * float(((x @ y.T / size + 1) ** 3).mean())


def precision_and_recall(real: Array, made: Array, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares of made rows among the real ones, and of real rows among the made ones.

    A row is among others if it lies within the distance of one of these to its k-th neighbour. Kynkäänniemi et al.
    2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2.

    Args:
        real: features (N, d).
        made: features (M, d).
        neighbours: k, less where there are not so many.
    """

    def among(points: Array, others: Array) -> float:
        own = np.sort(_distances(others, others), axis=1)  # the first is the row itself
        radius = own[:, min(neighbours, len(others) - 1)]
        return float((_distances(points, others) <= radius).any(1).mean())

    return among(made, real), among(real, made)


def accuracy_of(x: Array, labels: Array, test: Array, truth: Array) -> float:
    """Accuracy on test rows (features (T, d), classes (T,)) of a logistic regression of x (N, d) and labels (N,)."""
    if len(set(labels.tolist())) < 2:
        return float((truth == labels[0]).mean())
    mean = x.mean(0)
    scale = max(float(np.sqrt(np.square(x - mean).sum() / min(x.shape))), _SMALLEST)
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_STEPS, class_weight="balanced")
    return float((model.fit((x - mean) / scale, labels).predict((test - mean) / scale) == truth).mean())


def distinct(texts: Sequence[str], size: int) -> float:
    """Share of n-grams of words that are different ones: 1 if none occurs twice.

    Li et al. 2016, https://arxiv.org/abs/1510.03055, section 5.2. Falls as texts become more: compare like numbers.
    """
    found = Counter(gram for text in texts for gram in _ngrams(_words(text), size))
    return len(found) / max(found.total(), 1)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against all others, of 1 to 4 words: 1 if each occurs twice, 0 if they share no word.

    Zhu et al. 2018, https://arxiv.org/abs/1802.01886. Matches of two words and more count from 1 on (Lin and Och 2004),
    else a short text had none.
    """
    split = [_words(text) for text in texts]
    if len(split) < 2:
        return 0.0
    counts = [[Counter(_ngrams(words, size)) for size in range(1, LONGEST_NGRAM + 1)] for words in split]
    most = _most_of_others([gram for each in counts for gram in each])
    lengths = [len(words) for words in split]
    return float(np.mean([_bleu(own, most, at, lengths) for at, own in enumerate(counts)]))


def _bleu(own: Sequence[Counter[Any]], most: dict[Any, tuple[int, int, int]], at: int, lengths: Sequence[int]) -> float:
    logs = []
    for size, grams in enumerate(own, start=1):
        matched = sum(min(count, _of_others(most[gram], at)) for gram, count in grams.items())
        smooth = int(size > 1)
        if matched + smooth == 0:
            return 0.0
        logs.append(math.log((matched + smooth) / (grams.total() + smooth)))
    nearest = min((length for other, length in enumerate(lengths) if other != at),
                  key=lambda length: (abs(length - lengths[at]), length))  # fmt: skip
    brevity = min(0.0, 1 - nearest / lengths[at])
    return math.exp(brevity + sum(logs) / len(logs))


def _most_of_others(grams: Iterable[Counter[Any]]) -> dict[Any, tuple[int, int, int]]:
    """Of each n-gram the highest count in a text, which text that is, and the highest in any other."""
    most: dict[Any, tuple[int, int, int]] = {}
    for number, each in enumerate(grams):
        for gram, count in each.items():
            first, who, second = most.get(gram, (0, -1, 0))
            text = number // LONGEST_NGRAM
            most[gram] = (count, text, first) if count > first else (first, who, max(second, count))
    return most


def _of_others(known: tuple[int, int, int], at: int) -> int:
    first, who, second = known
    return second if who == at else first


def _words(text: str) -> list[str]:
    return text.lower().split()


def _ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def _distances(x: Array, y: Array) -> Array:
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * x @ y.T
    found: Array = np.sqrt(np.maximum(squares, 0))
    return found
