"""Intervals: how far a number measured on few rows or few seeds can be trusted.

With 100 test rows an accuracy of 0.90 is anything from 0.83 to 0.94, so no number is reported without its interval.
Rows and seeds are different sources of doubt: `wilson` and `bootstrap` speak of the test rows, `t_interval` and
`paired_difference` of the seeds, `comparison.crossed_difference` of both. How often each holds the truth was measured
on made studies (scripts/bench/coverage.py). None of them sees that test rows resemble each other (texts of one author,
photographs of one patient): then all of these are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # row weights (R, N) -> values (R,)

_CHUNK_CELLS = 2**20  # 8 MiB a matrix: the seven that counting and the widest statistic hold stay below 64 MiB
_FINITE_SHARE = 0.9  # of the resamples, below which bounds would describe an easier data set than ours


class Interval(NamedTuple):
    """A measured value between its bounds; both bounds are nan where the data cannot tell."""

    value: float
    low: float
    high: float

    def show(self, digits: int = 3) -> str:
        """`0.943 (0.921 to 0.962)`, or `0.943 (no interval)` without bounds."""
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.{digits}f} (no interval)"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def __str__(self) -> str:
        """As `show()`."""
        return self.show()


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Interval of a share, e.g. accuracy: `successes` of `n` independent rows.

    Never leaves [0, 1] and has a width even at 0 of n and n of n, where a bootstrap has none.
    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Raises:
        ValueError: n < 1, or successes outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share, z = successes / n, float(ndtri(1 - tail(level)))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 of n and n of n one bound is the share itself; rounding must not push it past.
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def bootstrap(statistic: Statistic, n: int, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap over `n` test rows, for any metric that can be written with row weights.

    Resamples where the statistic is not finite (a class absent, a division by zero) are left out: the bounds are those
    given that the statistic exists. If more than 10 % are left out, or n is 1, the bounds are nan.

    Honest for a metric that is roughly unbiased. It has no width when every row scores alike, it is too narrow below
    some 20 rows or where fewer than some 10 rows are wrong (an accuracy of 0.9 on 40 rows: 91 % instead of 95 %; 0.98:
    55 %), and for a metric that noise pushes one way (calibration error: up) the value can lie outside it.
    Source: Efron 1979, https://doi.org/10.1214/aos/1176344552.

    Args:
        statistic: maps weights (R, N), how often each resample drew each row (rows sum to N), to values (R,). Called
            once with all weights 1 for the value, then with chunks of at most 8 MiB.
        n: test rows, at least 1. Time grows as resamples x n.
        resamples: 2,000 keep the bounds of a 95 % interval still to a few hundredths of its width.
        level: share of repetitions in which the interval should hold the truth, in (0, 1).
        seed: of the draws; the same seed draws the same rows for every statistic.
    """
    if n < 1:
        raise ValueError(f"expected at least one row to resample, got {n}")
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is counted below
        value = float(statistic(np.ones((1, n)))[0])
        if n == 1:
            return Interval(value, math.nan, math.nan)
        values = np.concatenate([statistic(weights) for weights in _resampled(rng, resamples, n)])
    return _percentiles(value, values, level)


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds and Student's t interval of that mean. One seed has a mean and no interval: bounds are nan.

    It speaks of other seeds (draws of training rows, initial weights) on these same test rows, not of other test rows.
    Too narrow for scores with a long tail, as of accuracies near 1: 90 % instead of 95 %.
    """
    seeds = np.asarray(values, dtype=np.float64).ravel()
    if len(seeds) == 0:
        raise ValueError("expected the values of at least one seed, got none")
    mean = float(seeds.mean())
    if len(seeds) == 1:
        return Interval(mean, math.nan, math.nan)
    t = float(stdtrit(len(seeds) - 1, 1 - tail(level)))
    half = t * float(seeds.std(ddof=1)) / math.sqrt(len(seeds))
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of a - b over seeds and its t interval; a[i] and b[i] ran with the same seed, hence the same training rows.

    Pairing removes what a draw of training rows does to both, usually most of the spread among seeds.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"expected one value a seed on both sides, got shapes {first.shape} and {second.shape}")
    return t_interval(first - second, level)


def tail(level: float) -> float:
    """Probability beyond each bound of a two-sided interval: 0.025 for the level 0.95."""
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, e.g. 0.95, got {level}")
    return (1 - level) / 2


def _resampled(rng: np.random.Generator, resamples: int, n: int) -> Iterator[Array]:
    """Multinomial counts of `resamples` draws of n rows with replacement, in chunks (R, N)."""
    a_chunk = max(1, _CHUNK_CELLS // n)
    for start in range(0, resamples, a_chunk):
        r = min(a_chunk, resamples - start)
        cells = rng.integers(n, size=(r, n))
        cells += np.arange(0, r * n, n)[:, None]  # so that one count serves all resamples of the chunk
        yield np.bincount(cells.ravel(), minlength=r * n).reshape(r, n).astype(np.float64)


def _percentiles(value: float, values: Array, level: float) -> Interval:
    beyond = tail(level)
    finite = values[np.isfinite(values)]
    if not math.isfinite(value) or len(finite) < _FINITE_SHARE * len(values) or len(finite) == 0:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(finite, [beyond, 1 - beyond])
    return Interval(value, float(low), float(high))
