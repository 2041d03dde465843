"""Entities in tagged sentences: which were found, how sure that is, and what a mere list of known names would find.

Tags are integers in one convention: 0 is outside, 2t + 1 begins an entity of type t and 2t + 2 goes on with it. An
entity counts as found only if start, end and type are all right, and numbers are micro averages over all entities, as
in conlleval and seqeval. Rows of a bootstrap are sentences, since entities of one sentence resemble each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_smalldata.evaluation.intervals import Array, Interval, Statistic, bootstrap, wilson

Tags = Sequence[int] | np.ndarray[Any, Any]  # of one sentence
Sentences = Sequence[Tags] | np.ndarray[Any, Any]
Entity = tuple[int, int, int]  # first token, token after the last, type

_RIGHT, _PREDICTED, _TRUE = range(3)


def entities(tags: Tags) -> list[Entity]:
    """Entities (start, end, type), end exclusive; an I- that goes on with nothing of its type begins one."""
    found: list[Entity] = []
    for at, tag in enumerate(tags):
        if tag == 0:
            continue
        kind, begins = (int(tag) - 1) // 2, tag % 2 == 1
        if not begins and found and found[-1][1:] == (at, kind):
            found[-1] = (found[-1][0], at + 1, kind)
        else:
            found.append((at, at + 1, kind))
    return found


def counts(predicted: Sentences, references: Sentences) -> Array:
    """(N, 3): entities that are right, predicted and true, a sentence."""
    return np.array(
        [[len(given & true), len(given), len(true)] for given, true in _pairs(predicted, references)], dtype=np.float64
    ).reshape(-1, 3)


def entity_f1(predictions: Sentences, references: Sentences) -> Statistic:
    """2 right / (predicted + true) entities; 0 where none is predicted and none true."""
    counted = counts(predictions, references)
    return _ratio_of(2 * counted[:, _RIGHT], counted[:, _PREDICTED] + counted[:, _TRUE])


def entity_precision(predictions: Sentences, references: Sentences) -> Statistic:
    """Share of predicted entities that are right; 0 where none is predicted."""
    counted = counts(predictions, references)
    return _ratio_of(counted[:, _RIGHT], counted[:, _PREDICTED])


def entity_recall(predictions: Sentences, references: Sentences) -> Statistic:
    """Share of true entities that are found; 0 where none is true."""
    counted = counts(predictions, references)
    return _ratio_of(counted[:, _RIGHT], counted[:, _TRUE])


def token_accuracy(predictions: Sentences, references: Sentences) -> Statistic:
    """Share of tokens with the right tag. High for a model that finds nothing: most tokens are outside."""
    pairs = [(np.asarray(given), np.asarray(true)) for given, true in zip(predictions, references, strict=True)]
    right = np.array([(given == true).sum() for given, true in pairs], dtype=np.float64)
    return _ratio_of(right, np.array([len(true) for _, true in pairs], dtype=np.float64))


def linearised_f1(predicted: Sentences, references: Sentences) -> Array:
    """A value a sentence (N,) whose mean is the micro F1 and whose spread is that of the F1.

    With it, whatever compares means of rows (paired over models, crossed with seeds) compares F1. F is a ratio of sums,
    sum a / sum b; its linear part in sentence i is (a_i - F b_i) / mean b: Cochran, Sampling Techniques, 1977, ch. 6.
    Values may lie outside [0, 1]. All 0, as is the F1, where no entity is predicted or true.
    """
    counted = counts(predicted, references)
    a, b = 2 * counted[:, _RIGHT], counted[:, _PREDICTED] + counted[:, _TRUE]
    if not b.any():
        return np.zeros(len(b))
    f1 = a.sum() / b.sum()
    return np.asarray(f1 + (a - f1 * b) / b.mean())


def per_type(
    predicted: Sentences, references: Sentences, types: Sequence[str], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 of each type with 95 % intervals, and its number of true entities, by type.

    Bounds are the wider of two. A bootstrap of the sentences that have the type or are given it sees that entities of
    one sentence resemble each other; Wilson's interval over entities has a width where all of a handful are right. On
    made types of 10 sentences, 90 % found, they hold the truth 84 %, 93 % and, the wider, 99 % of the time; of 100
    sentences 93 %, 91 % and 95 %. F1 is 2 J / (1 + J), as in `diagnosis.per_class`. A value without entities to judge
    it by is 0 and has no interval.

    Args:
        predicted: tags of N sentences.
        references: tags of N sentences.
        types: names, in the order of the tags.
        seed: of the bootstrap.
    """
    counted = np.zeros((len(types), len(references), 3))  # (types, N, 3)
    for row, (given, true) in enumerate(_pairs(predicted, references)):
        for column, found in ((_RIGHT, given & true), (_PREDICTED, given), (_TRUE, true)):
            for _, _, kind in found:
                counted[kind, row, column] += 1
    return {name: _of_type(each[each.any(axis=1)], seed) for name, each in zip(types, counted, strict=True)}


def worst_sentences(
    ids: Sequence[str],
    predicted: Sentences,
    references: Sentences,
    types: Sequence[str],
    most: int = 20,
) -> list[dict[str, Any]]:
    """The sentences with the most missed and wrongly predicted entities, in the form of `diagnosis.worst_errors`.

    Args:
        ids: of N sentences.
        predicted: their tags.
        references: their tags.
        types: names, in the order of the tags.
        most: sentences at most.

    Returns:
        For each id, label and prediction as lists such as `Disease[3:5]` (tokens from 0, end exclusive), no scores.
    """
    pairs = list(_pairs(predicted, references))
    wrong = np.array([len(given ^ true) for given, true in pairs], dtype=np.int64)
    worst = np.argsort(-wrong, kind="stable")[: min(most, int((wrong > 0).sum()))]

    def named(found: set[Entity]) -> list[str]:
        return [f"{types[kind]}[{start}:{end}]" for start, end, kind in sorted(found)]

    return [
        {
            "id": ids[row],
            "label": named(pairs[row][1]),
            "prediction": named(pairs[row][0]),
            "score": None,
            "score_of_label": None,
        }
        for row in worst
    ]


def lexicon(
    train_tokens: Sequence[Sequence[str]], train_tags: Sentences, test_tokens: Sequence[Sequence[str]]
) -> list[NDArray[np.int64]]:
    """The baseline that learns names by heart: tags of the test sentences by the longest entities known from training.

    From left to right, case-sensitive; a name of several types has its most frequent one. A name that more often stands
    outside all entities than as one ("can", "March") is left out. Cost grows with the number of tokens, times the
    longest run of them that a known entity begins with.
    """
    seen: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for tokens, tags in zip(train_tokens, train_tags, strict=True):
        for start, end, kind in entities(tags):
            seen[tuple(tokens[start:end])][kind] += 1
    prefixes = {name[:length] for name in seen for length in range(1, len(name) + 1)}
    outside: Counter[tuple[str, ...]] = Counter()
    for tokens, tags in zip(train_tokens, train_tags, strict=True):
        tagged = np.asarray(tags)
        for start in np.flatnonzero(tagged == 0).tolist():
            names = _names_at(tokens, start, seen, prefixes)
            outside.update(name for name in names if not tagged[start : start + len(name)].any())
    known = {
        name: max(sorted(kinds), key=kinds.__getitem__)
        for name, kinds in seen.items()
        if outside[name] <= kinds.total()
    }
    return [_looked_up(tokens, known, prefixes) for tokens in test_tokens]


def _pairs(predicted: Sentences, references: Sentences) -> Iterator[tuple[set[Entity], set[Entity]]]:
    for given, true in zip(predicted, references, strict=True):
        if len(given) != len(true):
            raise ValueError(f"expected a predicted tag a token, got {len(given)} for {len(true)} tokens")
        yield set(entities(given)), set(entities(true))


def _ratio_of(above: Array, below: Array) -> Statistic:
    """Sum of `above` (N,) over sum of `below` (N,), 0 where that is 0."""

    def statistic(weights: Array) -> Array:
        a, b = weights @ above, weights @ below
        return np.divide(a, b, out=np.zeros_like(a), where=b > 0)

    return statistic


def _of_type(counted: Array, seed: int) -> dict[str, Any]:
    """What `per_type` says of one type; counts (n, 3) of the sentences with it."""
    right, predicted, true = counted.T
    either = predicted + true - right
    return {
        "precision": _share(right, predicted, seed),
        "recall": _share(right, true, seed),
        "f1": {bound: None if j is None else 2 * j / (1 + j) for bound, j in _share(right, either, seed).items()},
        "support": int(true.sum()),
    }


def _share(right: Array, of: Array, seed: int) -> dict[str, float | None]:
    if not of.any():
        return {"value": 0.0, "low": None, "high": None}
    value, low, high = wilson(float(right.sum()), int(of.sum()))
    sentences = bootstrap(lambda weights: (weights @ right) / (weights @ of), len(of), seed=seed)
    # fmin and fmax pass over the nan bounds that a bootstrap of one sentence has
    return Interval(value, float(np.fmin(low, sentences.low)), float(np.fmax(high, sentences.high)))._asdict()


def _names_at(
    tokens: Sequence[str], start: int, known: Any, prefixes: set[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    """Known names that begin at a token, the shortest first."""
    for end in range(start + 1, len(tokens) + 1):
        name = tuple(tokens[start:end])
        if name not in prefixes:
            return
        if name in known:
            yield name


def _looked_up(
    tokens: Sequence[str], known: dict[tuple[str, ...], int], prefixes: set[tuple[str, ...]]
) -> NDArray[np.int64]:
    tags = np.zeros(len(tokens), dtype=np.int64)
    start = 0
    while start < len(tokens):
        *_, longest = ((), *_names_at(tokens, start, known, prefixes))
        if longest:
            tags[start : start + len(longest)] = 2 * known[longest] + 2
            tags[start] -= 1
        start += max(1, len(longest))
    return tags
