"""Learning curves: laws that are known are found again, and bands hold what comes as often as they say."""

import math

import numpy as np
import pytest

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation import curve
from hf_smalldata.evaluation.curve import PowerLaw, fit, forecast, learning_curve
from hf_smalldata.evaluation.intervals import t_interval

ROWS = np.array([8, 16, 32, 64, 128])


def measured(law, rows, seeds=5, noise=0.02, seed=0):
    """Accuracies (S, K) on nested draws: what a seed has more by luck it keeps in part at larger budgets."""
    rng = np.random.default_rng(seed)
    luck = np.zeros((seeds, len(rows)))
    for at, n in enumerate(rows):
        kept = math.sqrt(rows[at - 1] / n) if at else 0.0
        luck[:, at] = kept * luck[:, at - 1] + math.sqrt(1 - kept**2) * rng.normal(size=seeds)
    return 1 - law.at(rows) + noise * luck


@pytest.mark.parametrize("law", [PowerLaw(0.1, 0.9, 0.5), PowerLaw(0.0, 0.8, 0.25), PowerLaw(0.05, 3.0, 1.0)])
@pytest.mark.parametrize("budgets", [3, 4, 5])
def test_fit_finds_a_made_power_law(law, budgets):
    found = fit(ROWS[:budgets], law.at(ROWS[:budgets]))
    assert found.exponent == pytest.approx(law.exponent, rel=2e-3)
    assert found.at([256, 1024]) == pytest.approx(law.at([256, 1024]), abs=2e-4)


@pytest.mark.parametrize("errors", [[0.2, 0.2, 0.2, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0, 0.0]])
def test_a_flat_or_rising_curve_is_fitted_by_its_weighted_mean(errors):
    found = fit(ROWS, errors, weights=np.ones(5))
    assert found.scale == pytest.approx(0, abs=1e-12)
    assert found.floor == pytest.approx(np.mean(errors))


def test_no_fit_promises_an_error_below_zero():
    found = fit([10, 20, 40], [0.5, 0.3, 0.02])  # steeper than any power law with a floor
    assert found.floor == 0
    assert (found.at([80, 1e9]) >= 0).all()


def test_weights_decide_which_budgets_are_followed():
    errors = [0.9, 0.4, 0.32, 0.27, 0.25]
    followed = fit(ROWS, errors, weights=[1e-9, 1, 1, 1, 1])
    assert followed.at(ROWS[1:]) == pytest.approx(errors[1:], abs=5e-3)
    assert fit(ROWS, errors, weights=[1, 1, 1, 1, 1]).at(ROWS)[1] > 0.45


def test_at_measured_budgets_the_curve_is_the_mean_and_its_t_interval():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS)
    band = learning_curve(ROWS, values, ROWS[[0, 4]], level=0.9, resamples=20_000)
    for column, *found in zip((0, 4), *band, strict=True):
        value, low, high = t_interval(values[:, column], 0.9)
        assert found[0] == pytest.approx(value)
        assert found[1:] == pytest.approx((low, high), abs=0.1 * (high - low))


def test_a_forecast_without_noise_is_the_law():
    law = PowerLaw(0.1, 0.9, 0.5)
    values = np.repeat(1 - law.at(ROWS)[None, :], 3, axis=0)
    gain = forecast(ROWS, values, 128)
    assert gain.value == pytest.approx(law.at([128])[0] - law.at([256])[0], abs=1e-4)
    assert 0 < gain.low < gain.value < gain.high  # the law itself may fail beyond what was measured


def test_a_flat_curve_promises_no_gain():
    values = measured(PowerLaw(0.3, 0.0, 0.5), ROWS)
    gain = forecast(ROWS, values, 60)
    assert gain.value == pytest.approx(0, abs=0.005)
    assert gain.low < 0 < gain.high


def test_no_rows_bring_no_gain():
    assert forecast(ROWS, measured(PowerLaw(0.1, 0.9, 0.5), ROWS), 0) == (0, 0, 0)


def test_gains_are_paired_so_luck_of_a_seed_at_all_budgets_cancels():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS, noise=0.002)
    luckier = values + np.array([[0.04], [-0.04], [0.02], [-0.02], [0.0]])
    bands = [np.ptp(learning_curve(ROWS, each, [160])[1:]) for each in (values, luckier)]
    gains = [forecast(ROWS, each, 32) for each in (values, luckier)]
    assert bands[1] > 4 * bands[0]
    assert gains[1].value == pytest.approx(gains[0].value)
    assert gains[1].high - gains[1].low < 0.5 * bands[1]


def test_the_band_widens_with_distance():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS)
    band = learning_curve(ROWS, values, [128, 136, 160, 192, 256, 512, 1024])
    assert (np.diff(band.high - band.low) > 0).all()
    gains = [forecast(ROWS, values, more) for more in (8, 32, 128, 384, 896)]
    assert (np.diff([gain.high - gain.low for gain in gains]) > 0).all()


def test_fewer_seeds_make_a_wider_band():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS, seeds=10)
    widths = [np.ptp(forecast(ROWS, values[:seeds], 64)[1:]) for seeds in (2, 10)]
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize(("rows", "more"), [(ROWS, 40), *(pytest.param(*each, marks=pytest.mark.slow)
                                                        for each in ((ROWS, 384), (ROWS[:3], 32)))])  # fmt: skip
def test_bands_hold_the_next_measurement_about_as_often_as_they_say(rows, more):
    rng, asked, inside = np.random.default_rng(0), rows[-1] + more, []
    for repeat in range(100):
        law = PowerLaw(rng.uniform(0.05, 0.2), rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.8))
        values = np.minimum(measured(law, [*rows, asked], seed=repeat), 1)
        last, truth = values[:, -2:].mean(axis=0)
        gain = forecast(rows, values[:, :-1], more, level=0.8, resamples=300)
        _, low, high = learning_curve(rows, values[:, :-1], [asked], level=0.8, resamples=300)
        expected = 1 - float(law.at(asked))
        inside.append((gain.low <= truth - last <= gain.high, low[0] <= expected <= high[0]))
    assert (np.mean(inside, axis=0) >= 0.75).all()
    assert (np.mean(inside, axis=0) <= 0.95).all()  # not 0.85: real curves have misfit, made ones don't


def test_where_less_is_better_the_curve_falls_and_the_gain_is_positive():
    errors = 1 - measured(PowerLaw(0.1, 0.9, 0.5), ROWS)
    scale = 40.0  # RMSE has the unit of the label
    band = learning_curve(ROWS, scale * errors, [128, 256], best=0, worst=math.inf)
    assert band.value[1] < band.value[0]
    assert (band.low < band.value).all()
    assert (band.value < band.high).all()
    gain = forecast(ROWS, scale * errors, 128, best=0, worst=math.inf)
    assert gain.value == pytest.approx(band.value[0] - band.value[1])
    assert gain == pytest.approx(scale * np.array(forecast(ROWS, 1 - errors, 128)), rel=1e-6)


def test_bands_stay_inside_the_metrics_range():
    values = np.clip(measured(PowerLaw(0.0, 1.0, 0.7), ROWS, noise=0.05), 0, 1)
    band = learning_curve(ROWS, values, [128, 256, 10_000])
    assert (band.high <= 1).all()
    assert (band.low >= 0).all()
    gain = forecast(ROWS, values, 10_000)
    assert gain.high <= 1 - values[:, -1].mean() + 1e-12


def test_at_the_ceiling_nothing_can_be_gained():
    values = np.ones((5, 5))
    assert forecast(ROWS, values, 60) == (0, 0, 0)
    assert [part.tolist() for part in learning_curve(ROWS, values, [200])] == [[1], [1], [1]]


def test_one_seed_has_a_forecast_and_no_bounds():
    values = 1 - PowerLaw(0.1, 0.9, 0.5).at(ROWS)[None, :]
    gain, band = forecast(ROWS, values, 60), learning_curve(ROWS, values, [128, 188])
    assert gain.value > 0
    assert math.isnan(gain.low)
    assert math.isnan(gain.high)
    assert np.isnan(band.low).all()
    assert band.value[1] - band.value[0] == pytest.approx(gain.value)


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS)
    first = forecast(ROWS, values, 60)
    assert forecast(ROWS, values, 60) == first
    other = forecast(ROWS, values, 60, seed=1)
    assert other != first
    assert other == pytest.approx(first, abs=0.1 * (first.high - first.low))


def test_too_few_budgets_are_an_error_that_says_what_to_add():
    with pytest.raises(UserError, match=r"at least 3 label budgets, found 2 \(8 rows, 16 rows\); add"):
        forecast([8, 16], [[0.5, 0.6], [0.5, 0.7]], 60)
    with pytest.raises(UserError, match="at least 3"):
        fit([8], [0.5])
    assert curve.LEAST_BUDGETS == 3


@pytest.mark.parametrize(
    ("rows", "values", "at", "told"),
    [
        ([8, 8, 16], [[0.5, 0.6, 0.7]], [32], "rising"),
        ([8, 16, 32], [[0.5, 0.6]], [32], "shapes"),
        ([8, 16, 32], [[50, 60, 70]], [32], "no better than 1"),
        ([8, 16, 32], [[0.5, math.nan, 0.7]], [32], "finite"),
        ([8, 16, 32], [[0.5, 0.6, 0.7]], [4], "smallest budget"),
    ],
)
def test_impossible_input_is_refused(rows, values, at, told):
    with pytest.raises(ValueError, match=told):
        learning_curve(rows, values, at)


def test_impossible_questions_are_refused():
    values = measured(PowerLaw(0.1, 0.9, 0.5), ROWS)
    with pytest.raises(ValueError, match="rows to add"):
        forecast(ROWS, values, -1)
    with pytest.raises(ValueError, match="level"):
        forecast(ROWS, values, 60, level=1.0)
