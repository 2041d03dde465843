"""Learning curves: what more labels would bring, with a band that says how little a few budgets tell.

The mean error over seeds falls with the number n of training rows as a + b n^-c (Cortes et al. 1993, "Learning curves:
asymptotic values and rate of convergence"; Hestness et al. 2017, https://arxiv.org/abs/1712.00409; survey: Viering and
Loog, https://arxiv.org/abs/2103.10948). `forecast` says before paying for 60 labels whether 60 labels would help. It is
of no use far from what was measured: beyond four times the rows the band mostly says that nobody knows.

Three doubts make the band. Seeds: whole seeds are drawn anew, all budgets together, since a seed's draws are nested.
Scatter: measured means lie off any smooth curve, and so will the next. Shape: beyond the last budget a curve may fall
faster or slower than its law. Test rows are the same at all budgets, so their luck moves the curve as a whole and is
not in the band: `intervals.wilson` tells it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation.intervals import Array, Interval

LEAST_BUDGETS = 3  # as many as the power law has parameters
# The next three were chosen on the Learning Curve Database (Mohr et al. 2022,
# https://doi.org/10.1007/978-3-031-26419-1_1): 246 tabular sets, 20 learners and 5 test splits, each with 5 draws of
# nested rows; 3 to 5 budgets, forecast at 1.4 to 8 times the rows. There 86 to 95 % lay inside 90 % bands.
STEEPEST = 1.0  # exponent; with a few noisy budgets a steeper one mostly promises a floor too soon
TRUST = 1.5  # a budget weighs n^TRUST; 1 is for a variance that falls as 1/n, the rest for a law that holds best nearby
MISFIT = 0.3  # standard deviation of true over forecast gain at twice the rows; grows as the root of the doublings
FLATTEST = 0.01  # exponent, below which the law is a straight line in log n
_ZOOMS, _EXPONENTS = 4, 24  # of the search for the exponent; each zoom is some ten times finer


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale n^-exponent, n training rows; the floor is the asymptotic error."""

    floor: float
    scale: float
    exponent: float

    def at(self, rows: ArrayLike) -> Array:
        """Errors (M,) at numbers of training rows (M,)."""
        return np.asarray(self.floor + self.scale * np.asarray(rows, dtype=np.float64) ** -self.exponent)


class Band(NamedTuple):
    """A learning curve between its bounds, (M,) each, in the metric's own units; bounds are nan for one seed."""

    value: Array
    low: Array
    high: Array


def fit(rows: ArrayLike, errors: ArrayLike, weights: ArrayLike | None = None) -> PowerLaw:
    """The power law nearest to measured errors: weighted least squares, floor and scale >= 0, 0 < exponent <= 1.

    A curve that is flat or rises gets scale 0 and its weighted mean as floor. A few budgets hardly determine the floor:
    read it as what fits, not as what can be reached. Weighting as in Hoiem et al. 2021,
    https://arxiv.org/abs/2010.11029, but steeper (see TRUST).

    Args:
        rows: numbers of training rows (K,), rising, K >= 3.
        errors: what falls as rows are added, (K,), none below 0: 1 - accuracy, RMSE.
        weights: of the squared residuals (K,); n^TRUST when not given.

    Raises:
        UserError: fewer than 3 budgets.
    """
    sizes, measured = _checked(rows, errors, best=0, sign=-1)
    trust = _trust(sizes) if weights is None else np.asarray(weights, dtype=np.float64)
    floor, scale, exponent = (float(part[0]) for part in _fit(sizes, measured, trust))
    return PowerLaw(floor, scale * float(sizes[-1]) ** exponent, exponent)


def learning_curve(
    rows: ArrayLike,
    values: ArrayLike,
    at: ArrayLike,
    best: float = 1.0,
    worst: float = 0.0,
    level: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """The mean over seeds at any number of training rows: through the measured means, and on along the power law.

    The band is for the mean over all seeds that there could be, on the same test rows: at a measured budget Student's t
    interval, beyond the last one wider with distance. What these seeds would score there lies in it about as often.

    Args:
        rows: numbers of training rows (K,), rising, K >= 3.
        values: the metric by seed and budget (S, K).
        at: numbers of training rows (M,), none below the smallest budget.
        best: the metric's best value: 1 for accuracy, 0 for RMSE. No bound passes it.
        worst: its worst value, `math.inf` for RMSE. Where it lies above `best`, less is better.
        level: share of such bands that should hold what is then measured, in (0, 1).
        resamples: 2,000 take about a tenth of a second.
        seed: of the resamples; the same seed gives the same band.

    Raises:
        UserError: fewer than 3 budgets.
    """
    sign = 1 if best > worst else -1
    sizes, errors = _checked(rows, values, best, sign)
    means, steps, _ = _resampled(sizes, errors, np.asarray(at, dtype=np.float64), abs(worst - best), resamples, seed)
    return Band(*_bounds(best - sign * np.clip(means + steps, 0, abs(worst - best)), level))


def forecast(
    rows: ArrayLike,
    values: ArrayLike,
    more: int,
    best: float = 1.0,
    worst: float = 0.0,
    level: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """What `more` training rows would bring beyond the largest budget: the gain in the metric, positive for better.

    Where less is better, the gain is by how much the metric falls. Both ends come from the same resample, and what a
    seed has more at all budgets cancels. The interval speaks of the difference that these seeds would show on the same
    test rows, the larger draws containing the smaller. Where all seeds score alike at all budgets, as at the ceiling,
    it has no width.

    Args:
        rows: as in `learning_curve`.
        values: as in `learning_curve`.
        more: training rows of all classes together, at least 0: 60 for 20 more labels in each of three classes.
        best: as in `learning_curve`.
        worst: as in `learning_curve`.
        level: as in `learning_curve`.
        resamples: as in `learning_curve`.
        seed: as in `learning_curve`; the same resamples for the same seed.

    Returns:
        The gain; its bounds are nan for one seed.

    Raises:
        UserError: fewer than 3 budgets.
    """
    if more < 0:
        raise ValueError(f"expected a number of rows to add, got {more}")
    sizes, errors = _checked(rows, values, best, sign=1 if best > worst else -1)
    last, most = float(errors[:, -1].mean()), abs(worst - best)
    _, steps, luck = _resampled(sizes, errors, sizes[-1:] + more, most, resamples, seed)
    gain = _bounds(np.clip(-steps - luck, last - most, last), level)  # no gain passes the best value, no loss the worst
    return Interval(*(float(bound[0]) for bound in gain))


def _checked(rows: ArrayLike, values: ArrayLike, best: float, sign: int) -> tuple[Array, Array]:
    """Rows (K,), and how far values are from the best, (S, K)."""
    sizes, found = np.asarray(rows, dtype=np.float64), np.atleast_2d(np.asarray(values, dtype=np.float64))
    if sizes.ndim != 1 or found.ndim != 2 or found.shape[1] != len(sizes):
        raise ValueError(f"expected one value a seed and budget, got shapes {sizes.shape} and {found.shape}")
    if len(sizes) < LEAST_BUDGETS:
        raise UserError(
            f"a learning curve needs at least {LEAST_BUDGETS} label budgets, found {len(sizes)} "
            f"({listed([f'{size:g} rows' for size in sizes])}); add half and a quarter of the largest"
        )
    if sizes[0] <= 0 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"expected rising numbers of training rows, got {listed(sizes.tolist())}")
    errors = sign * (best - found)
    wrong = ~(np.isfinite(errors) & (errors >= 0))
    if wrong.any():
        raise ValueError(f"expected finite values no better than {best:g}, got {listed(found[wrong].tolist())}")
    return sizes, errors


def _bounds(samples: Array, level: float) -> tuple[Array, Array, Array]:
    """Value, low and high, (M,) each, of the estimate and its resamples (1 + R, M); bounds are nan without any."""
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, e.g. 0.9, got {level}")
    value, others = samples[0], samples[1:]
    if len(others) == 0:
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    low, high = np.quantile(others, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return value, np.minimum(low, value), np.maximum(high, value)


def _resampled(
    rows: Array, errors: Array, at: Array, most: float, resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """Interpolated means, the power law's steps away from them, and luck of a difference, (1 + R, M) each.

    The first of each is as measured. Seeds are drawn anew by normal multipliers over the root of a chi square, not by
    counts: counts are coarse and too narrow for few seeds, while so the mean of every budget, and of every difference
    of budgets, has Student's t distribution. One seed gives no resamples.
    """
    rng, (seeds, budgets) = np.random.default_rng(seed), errors.shape
    resamples = resamples if seeds > 1 else 0
    mean, trust = errors.mean(axis=0), _trust(rows)
    deviations = (errors - mean) / math.sqrt(seeds * max(seeds - 1, 1))  # squares sum to the squared standard error
    inflation = np.sqrt((seeds - 1) / rng.chisquare(max(seeds - 1, 1), size=(resamples, 1)))
    others = mean + inflation * (rng.standard_normal((resamples, seeds)) @ deviations)  # (R, K)

    floor, scale, exponent = _fit(rows, mean[None, :], trust)
    residuals = mean - floor - scale * (rows / rows[-1]) ** -exponent
    # K - 2, not K - 3: more often than not a bound holds the floor or the exponent.
    misfit = math.sqrt(float(trust @ residuals**2) / (budgets - 2))
    noise = misfit / np.sqrt(trust) * rng.standard_normal((resamples, budgets))
    steps = _steps(rows, np.vstack([mean, np.clip(others + noise, 0, most)]), at)

    doublings = np.log2(np.maximum(at / rows[-1], 1))
    steps[1:] *= 1 + MISFIT * np.sqrt(doublings) * rng.standard_normal((resamples, 1))
    # The larger draw holds the smaller: what is new in it grows with distance, up to twice the rows, where the last two
    # budgets show how much differences scatter. The luck of each training is there at once, the luck of the rows grows:
    # the seeds cannot tell one from the other, hence the root, half-way between.
    novelty = np.sqrt(np.minimum(2 * (1 - np.minimum(rows[-1] / at, 1)), 1))
    steps[1:] += misfit * novelty * rng.standard_normal((resamples, 1))
    paired = np.linalg.norm(deviations[:, -1] - deviations[:, -2])  # standard error of the last difference
    luck = inflation * paired * np.sqrt(novelty) * rng.standard_normal((resamples, 1))
    luck = np.vstack([np.zeros_like(at), luck])
    return np.vstack([mean, others]) @ _interpolation(rows, at), steps, luck


def _steps(rows: Array, errors: Array, at: Array) -> Array:
    """Where each curve's (R, K) power law leads away from the interpolated means, (R, M); 0 at a measured budget.

    Beyond the last budget that is all that happens from there on. The law is tied to the last mean, for what the mean
    is off the law comes again at larger draws, as they contain these rows and meet the same test rows.
    """
    if at.min() < rows[0]:
        raise ValueError(f"expected at least {rows[0]:g} training rows, the smallest budget, got {at.min():g}")
    _, scale, exponent = (part[:, None] for part in _fit(rows, errors, _trust(rows)))
    return np.asarray(
        scale * ((at / rows[-1]) ** -exponent - (rows / rows[-1]) ** -exponent @ _interpolation(rows, at))
    )


def _interpolation(rows: Array, at: Array) -> Array:
    """What linear interpolation in log n takes of each budget, (K, M); beyond the last all of the last."""
    return np.stack([np.interp(np.log(at), np.log(rows), unit) for unit in np.eye(len(rows))])


def _trust(rows: Array) -> Array:
    """Weights (K,) of mean 1."""
    return np.asarray(rows**TRUST / np.mean(rows**TRUST))


def _fit(rows: Array, errors: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Floor, scale and exponent, (R,) each, of curves (R, K); the scale is that of (n / largest n)^-exponent.

    For a given exponent the others are linear least squares with bounds, in closed form. So only the exponent is
    searched for, all over its range, which needs no starting values and is as quick for thousands of curves.
    """
    share = weights / weights.sum()
    mean, every = (errors @ share)[:, None], np.arange(len(errors))  # (R, 1), (R,)
    low, high = np.full(len(errors), math.log(FLATTEST)), np.full(len(errors), math.log(STEEPEST))
    for _ in range(_ZOOMS):
        exponents = np.exp(np.linspace(low, high, _EXPONENTS, axis=1))  # (R, G)
        powers = (rows / rows[-1]) ** -exponents[..., None]  # (R, G, K)
        centre = powers @ share
        around = powers - centre[..., None]
        slope = np.einsum("rgk,rk->rg", around * share, errors - mean) / (around**2 @ share)
        no_floor = mean < slope * centre
        without = np.einsum("rgk,rk->rg", powers * share, errors) / (powers**2 @ share)
        scale = np.maximum(np.where(no_floor, without, slope), 0)
        floor = np.where(no_floor, 0, mean - scale * centre)
        residuals = errors[:, None, :] - floor[..., None] - scale[..., None] * powers
        best = (residuals**2 @ share).argmin(axis=1)
        spacing = (high - low) / (_EXPONENTS - 1)
        found = low + best * spacing
        low = np.maximum(found - spacing, math.log(FLATTEST))
        high = np.minimum(found + spacing, math.log(STEEPEST))
    return floor[every, best], scale[every, best], exponents[every, best]
