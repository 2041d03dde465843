"""Intervals against scipy's numbers, and against what they promise: to hold the truth as often as they say."""

import math

import numpy as np
import pytest
from scipy import stats

from hf_smalldata.evaluation import intervals
from hf_smalldata.evaluation.intervals import (
    Interval,
    bootstrap,
    paired_difference,
    t_interval,
    wilson,
)


def mean_of(values):
    return lambda weights: weights @ values / len(values)


@pytest.mark.parametrize(("successes", "n"), [(8, 10), (0, 5), (5, 5), (943, 1000), (1, 1)])
def test_wilson_is_scipys_wilson(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((successes / n, expected.low, expected.high), abs=1e-9)


def test_wilson_of_8_in_10_is_the_textbook_number():
    assert wilson(8, 10) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)


def test_wilson_holds_the_truth_about_as_often_as_it_says():
    n, truth = 100, 0.9
    covered = [wilson(k, n).low <= truth <= wilson(k, n).high for k in range(n + 1)]
    assert stats.binom.pmf(np.arange(n + 1), n, truth)[covered].sum() == pytest.approx(0.95, abs=0.03)


def test_a_wider_level_gives_a_wider_interval():
    assert wilson(80, 100, 0.99).low < wilson(80, 100, 0.95).low < wilson(80, 100, 0.5).low


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_t_interval_is_scipys():
    values = [0.71, 0.74, 0.69, 0.80, 0.75]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx((np.mean(values), *expected))


def test_one_seed_has_a_value_and_no_bounds():
    interval = t_interval([0.7])
    assert interval.value == 0.7
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_paired_difference_is_the_paired_t_test():
    a, b = [0.71, 0.74, 0.69, 0.80], [0.70, 0.70, 0.68, 0.77]
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert paired_difference(a, b)[1:] == pytest.approx((expected.low, expected.high))


def test_unpaired_lengths_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        paired_difference([0.1, 0.2], [0.1])


def test_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(mean_of(values), 400)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(400), rel=0.08)


def test_bootstrap_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).exponential(size=80)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert bootstrap(mean_of(values), 80, resamples=4000)[1:] == pytest.approx(expected, rel=0.04)


def test_bootstrap_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for repetition in range(300):
        values = rng.normal(size=50)
        interval = bootstrap(mean_of(values), 50, resamples=400, seed=repetition)
        held += interval.low <= 0 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_the_same_seed_draws_the_same_rows():
    values = np.arange(30.0)
    assert bootstrap(mean_of(values), 30, seed=3) == bootstrap(mean_of(values), 30, seed=3)
    assert bootstrap(mean_of(values), 30, seed=3) != bootstrap(mean_of(values), 30, seed=4)


def test_resamples_are_drawn_in_chunks_of_bounded_size(monkeypatch):
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 1000)
    shapes = []

    def statistic(weights):
        shapes.append(weights.shape)
        assert (weights.sum(axis=1) == weights.shape[1]).all()
        return weights[:, 0]

    bootstrap(statistic, 300, resamples=10)
    assert shapes == [(1, 300), (3, 300), (3, 300), (3, 300), (1, 300)]


def test_a_few_undefined_resamples_are_left_out():
    def sometimes_undefined(weights):  # row 0 misses in 37 % of resamples, rows 0 to 3 together in 1.6 %
        return np.where(weights[:, :4].sum(axis=1) > 0, weights[:, 4] / 1.0, np.nan)

    interval = bootstrap(sometimes_undefined, 60)
    assert interval.low == 0
    assert interval.high == 3


def test_many_undefined_resamples_leave_no_bounds():
    interval = bootstrap(lambda weights: 1 / (weights[:, 0] > 0), 60)
    assert interval.value == 1
    assert math.isnan(interval.low)


def test_one_row_leaves_no_bounds_and_no_row_is_an_error():
    assert math.isnan(bootstrap(mean_of(np.ones(1)), 1).low)
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(mean_of(np.ones(1)), 0)


def test_an_interval_shows_itself():
    assert str(Interval(0.9432, 0.9211, 0.9619)) == "0.943 (0.921 to 0.962)"
    assert Interval(0.5, math.nan, math.nan).show(2) == "0.50 (no interval)"


def test_a_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"0\.95"):
        wilson(1, 2, level=95)
