"""Comparing two ways to train: helped, hurt or not resolved, and how many more seeds or rows would resolve it.

Both were scored on the same test rows by the same seeds (`crossed_difference`), or on the same folds where there are no
rows to spare for a test set (`corrected_difference`). A difference speaks of other rows and other seeds only if both
count as drawn at random: more seeds do not make up for 40 test rows, nor more test rows for one draw of training rows.

None of this sees that rows resemble each other (texts of one author, photographs of one patient). Intervals are not
widened for the number of comparisons, p is (`holm`): a difference may be not resolved beside an interval without 0.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from hf_smalldata.evaluation.intervals import Array, Interval, t_interval, tail

MOST_SEEDS, MOST_ROWS = 100, 100_000  # beyond these nobody with few labels goes: `needed` says None
Verdict = Literal["helped", "hurt", "not resolved"]
_SMALLEST = 1e-200  # a p below it is told as this


class Comparison(NamedTuple):
    """A difference, how likely chance alone makes one as large, and where the doubt comes from.

    `by_row`, `by_seed` and `residual` are the variance components of one row's difference under one seed; estimates
    below 0 are kept. The mean's variance is by_row / rows + by_seed / seeds + residual / (rows seeds).
    """

    difference: Interval  # bounds are nan where they cannot be told
    p: float  # two-sided, not corrected; nan where it cannot be told
    seeds: int  # of cross-validation: repeats
    rows: int | None
    by_row: float
    by_seed: float
    residual: float
    folds: float | None = None  # folds a repeat; None for one set of test rows


class Needed(NamedTuple):
    """How many in all would resolve a difference, the other number staying as it is; None: no sensible number would."""

    seeds: int | None  # of cross-validation: repeats
    rows: int | None


def crossed_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Comparison:
    """Mean of a - b over seeds and test rows, both of which are drawn at random and every seed scores every row.

    The variance is that of the two-way random-effects model, as in multi-reader multi-case studies with seeds for
    readers: V = V_rows + V_seeds - V_residual, never below V_rows or V_seeds. Sources: Gallas et al. 2007,
    https://doi.org/10.1364/JOSAA.24.000B70, for right and wrong answers; Hillis et al. 2005,
    https://doi.org/10.1002/sim.2024, for the bound.

    The critical value is Cochran and Cox's (1950): Student's t for the degrees of freedom of the seeds and of the rows,
    averaged by V_seeds / V and the rest; p is where it meets the measured t (as in SAS,
    https://support.sas.com/documentation/cdl/en/statug/67523/HTML/default/statug_ttest_details14.htm). We depart here
    from the degrees of freedom of Satterthwaite, usual in such studies, since they believe a V_seeds that is small by
    chance: of 4 techniques without effect, 3 seeds each, one or more is called helped or hurt in up to 14 % of studies
    in spite of Holm's correction. Here it is up to 5 %, with two seeds 8 %.

    Measured (scripts/bench/coverage.py): 95 % intervals hold the truth in 94 to 98 % where seeds differ, and in 97 to
    99 % where they hardly do, which 5 seeds are too few to know. With 40 rows and next to no errors (accuracy 0.98
    against 0.95) it is 89 to 94 % from 5 seeds on: they miss a larger difference, and do not make a false "helped".

    One seed has an interval over rows, which speaks of this seed only, and no p. Scores that differ by the same amount
    everywhere have no interval, and p = 1 if that amount is 0: so few rows cannot tell how rare a difference is.

    Args:
        a: scores by seed and row (S, N), or (N,) for one seed; the metric must be a mean over rows.
        b: the other's scores, the same shape, seeds and rows in the same order.
        level: share of repetitions in which the interval should hold the truth, in (0, 1).
    """
    first, second = np.atleast_2d(np.asarray(a, dtype=np.float64)), np.atleast_2d(np.asarray(b, dtype=np.float64))
    if first.shape != second.shape or first.ndim != 2 or first.size == 0:
        raise ValueError(f"expected scores (S, N) of the same rows on both sides, got {first.shape} and {second.shape}")
    difference = first - second
    (seeds, rows), mean = difference.shape, float(difference.mean())
    of_row, of_seed = difference.mean(0), difference.mean(1)
    rest = difference - of_row - of_seed[:, None] + mean
    residual = float(np.square(rest).sum()) / max(1, (seeds - 1) * (rows - 1))
    components = (_variance(of_row) - residual / seeds, _variance(of_seed) - residual / rows, residual)
    found = Comparison(Interval(mean, math.nan, math.nan), math.nan, seeds, rows, *components)
    if _is_constant(difference) or rows == 1 or not math.isfinite(mean):
        return found._replace(p=math.nan if mean or rows == 1 or seeds == 1 else 1.0)
    judged = _judged(found, level)
    return judged._replace(p=math.nan) if seeds == 1 else judged


def corrected_difference(
    differences: ArrayLike, test_share: float, level: float = 0.95, rows: int | None = None
) -> Comparison:
    """Mean difference under (repeated) cross-validation: Nadeau and Bengio's corrected resampled t-test.

    Training sets of different folds share most of their rows, so J folds tell less than J independent experiments:
    variance (1 / J + n_test / n_train) s², Student's t with J - 1 degrees of freedom. It speaks of other rows and other
    training sets of this size. Sources: Nadeau and Bengio 2003, https://doi.org/10.1023/A:1024068626366; for repeats
    Bouckaert and Frank 2004, https://doi.org/10.1007/978-3-540-24775-3_3.

    Measured (scripts/bench/coverage.py): 95 % intervals of 5 folds hold the truth in 97 to 100 % with one repeat, in 95
    to 98 % with more; at most 3 % of techniques without effect are called a help. Differences equal in all folds have
    no interval, and p = 1 if they are 0.

    Args:
        differences: one a fold and repeat, any shape with J values; seeds of a fold are averaged before.
        test_share: n_test / n_train, 1 / (K - 1) for K folds: 0.25 for 5.
        level: as in `crossed_difference`.
        rows: judged in all; without them `needed` says nothing of rows.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    difference = corrected_interval(values, test_share, level)
    repeats = max(1, round(len(values) / (1 + 1 / test_share)))
    folds, variance = len(values) / repeats, _variance(values)
    # Of V = variance (test_share + 1 / J) the first part stays with more repeats, and both fall with more rows.
    found = Comparison(difference, math.nan, repeats, rows, (rows or 1) * test_share * variance, 0.0,
                       (rows or 1) * variance / folds, folds)  # fmt: skip
    if math.isnan(difference.low):
        return found._replace(p=math.nan if difference.value or len(values) == 1 else 1.0)
    return _judged(found, level)


def corrected_interval(values: ArrayLike, test_share: float, level: float = 0.95) -> Interval:
    """Mean score under (repeated) cross-validation, with the variance of `corrected_difference`.

    Too narrow for a score near the end of its scale: for accuracies of 0.9 on 40 rows it holds the truth in 91 to 94 %.

    Args:
        values: the score of each fold and repeat, any shape with J values.
        test_share: as in `corrected_difference`.
        level: as in `crossed_difference`.
    """
    scores = np.asarray(values, dtype=np.float64).ravel()
    mean, low, _ = t_interval(scores, level)
    if _is_constant(scores):
        return Interval(mean, math.nan, math.nan)
    half = (mean - low) * math.sqrt(1 + len(scores) * test_share)
    return Interval(mean, mean - half, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of a family of comparisons, in the order given; nan stays nan and does not count.

    The chance of one or more false findings stays below alpha whatever the comparisons have in common.
    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    adjusted, largest = [math.nan] * len(p_values), 0.0
    order = sorted((at for at, p in enumerate(p_values) if not math.isnan(p)), key=p_values.__getitem__)
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def verdict(comparison: Comparison, adjusted_p: float, alpha: float = 0.05) -> Verdict:
    """What may be said of a technique whose scores are `a`; an adjusted p of nan, as of one seed, resolves nothing."""
    if not adjusted_p <= alpha:
        return "not resolved"
    return "helped" if comparison.difference.value > 0 else "hurt"


def needed(comparison: Comparison, level: float = 0.95) -> Needed:
    """Seeds in all, or test rows in all, with which an interval about this observed difference would exclude 0.

    A guess: it takes the observed difference and its variance components as true, and even then the next study
    resolves it every second time only. Seeds are None when the rows alone leave too much doubt, rows when the seeds
    do, both when there is no p. Under cross-validation more repeats take away little of the doubt; for rows, folds are
    taken to vary as one over their size.

    Args:
        comparison: of `crossed_difference` or `corrected_difference`.
        level: of the interval; to reach a verdict among m comparisons take 1 - 0.05 / m.
    """
    seeds, rows = comparison.seeds, comparison.rows

    def resolves(seeds: int, rows: int) -> bool:
        doubt = _doubt(comparison, seeds, rows)
        return doubt.critical(tail(level)) * doubt.error < abs(comparison.difference.value)

    if math.isnan(comparison.p) or comparison.difference.value == 0:
        return Needed(None, None)
    return Needed(
        _first(range(seeds, max(seeds, MOST_SEEDS) + 1), lambda more: resolves(more, rows or 1)),
        None if rows is None else _first(range(rows, max(rows, MOST_ROWS) + 1), lambda more: resolves(seeds, more)),
    )


def resolution(rows: int, disagreement: float, level: float = 0.95) -> float:
    """Smallest difference in accuracy that test rows can resolve: half the width of a paired interval about 0.

    It is the bound for any number of seeds: 0.098 for 40 rows on a tenth of which the two disagree.

    Args:
        rows: test rows.
        disagreement: share of rows that one gets right and the other wrong.
        level: as in `crossed_difference`.
    """
    if rows < 1 or not 0 <= disagreement <= 1:
        raise ValueError(f"expected rows >= 1 and a share of disagreement, got {rows} and {disagreement}")
    return float(ndtri(1 - tail(level))) * math.sqrt(disagreement / rows)


class _Doubt(NamedTuple):
    error: float  # standard error of the mean difference
    seed_share: float
    seed_degrees: float
    row_degrees: float

    def critical(self, beyond: float) -> float:
        """Value that difference / error exceeds with probability `beyond` by chance alone."""
        of_seeds, of_rows = stdtrit(self.seed_degrees, beyond), stdtrit(self.row_degrees, beyond)
        return -float(self.seed_share * of_seeds + (1 - self.seed_share) * of_rows)


def _judged(found: Comparison, level: float) -> Comparison:
    """With bounds and p, which agree: p is 1 - level of the interval that just touches 0."""
    doubt, mean = _doubt(found, found.seeds, found.rows or 1), found.difference.value
    half = doubt.critical(tail(level)) * doubt.error
    t = min(abs(mean) / doubt.error, doubt.critical(_SMALLEST / 2))
    log_tail = brentq(lambda log: doubt.critical(math.exp(log)) - t, math.log(_SMALLEST / 4), math.log(0.6))
    return found._replace(difference=Interval(mean, mean - half, mean + half), p=min(1.0, 2 * math.exp(log_tail)))


def _doubt(found: Comparison, seeds: int, rows: int) -> _Doubt:
    """The doubt that would be left with these numbers of seeds and rows."""
    residual = found.residual / (seeds * rows)
    from_rows, from_seeds = found.by_row / rows + residual, found.by_seed / seeds + residual
    variance = max(from_rows, residual) + max(from_seeds, residual) - residual
    if found.folds is not None:
        return _Doubt(math.sqrt(variance), 1.0, seeds * found.folds - 1, 1)
    share = min(1.0, max(0.0, from_seeds / variance))
    return _Doubt(math.sqrt(variance), share, max(1, seeds - 1), rows - 1)


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _is_constant(values: Array) -> bool:
    """Equal up to rounding, which would otherwise pass for a tiny variance."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _first(candidates: range, resolves: Callable[[int], bool]) -> int | None:
    """The first that resolves; once one does, all larger ones do."""
    at = bisect_left(candidates, True, key=resolves)
    return candidates[at] if at < len(candidates) else None
