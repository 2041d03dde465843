"""Calibration: known temperatures come back, sets hold the label as often as promised, no row judges itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax

from hf_smalldata.evaluation.calibration import (
    calibrate,
    conformal_threshold,
    cross_fitted,
    fit_temperature,
    prediction_sets,
    with_temperature,
)


def made(rows, temperature=1.0, classes=4, scale=2.0, seed=0):
    """Probabilities whose logits are `temperature` times too large, and references drawn from the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * scale
    references = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return softmax(temperature * logits, axis=1), references


def repeated(rows, repeats, classes=4, seed=0):
    """Predictions of several models for each row, with their rows and the folds of 5-fold repeats."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    references = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    models = [3 * softmax_logits for softmax_logits in logits + rng.normal(size=(repeats, rows, classes))]
    folds = [5 * at + rng.permutation(rows) % 5 for at in range(repeats)]
    names = np.array([f"row {at}" for at in range(rows)])
    return (
        softmax(np.concatenate(models), axis=1),
        np.tile(references, repeats),
        np.concatenate(folds),
        np.tile(names, repeats),
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_comes_back(temperature):
    assert fit_temperature(*made(5000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_scaling_is_dividing_the_logits():
    logits = np.random.default_rng(0).normal(size=(20, 3)) * 4
    assert with_temperature(softmax(logits, axis=1), 2.5) == pytest.approx(softmax(logits / 2.5, axis=1))


def test_a_probability_of_zero_stays_finite():
    scaled = with_temperature([[1.0, 0.0]], 20.0)
    assert np.isfinite(scaled).all()
    assert scaled[0, 0] > 0.9
    assert math.isfinite(fit_temperature([[1.0, 0.0]] * 5, [1] * 5))


@pytest.mark.parametrize("rows", [5, 50, 5000])
def test_the_temperature_of_rows_that_are_all_right_is_where_prior_and_rows_balance(rows):
    margin = math.log(0.9 / 0.1)

    def slope(inverse):  # of 4 (1 / T + log T) - the log-likelihood, by 1 / T
        return 4 * (1 - 1 / inverse) - rows * margin / (1 + math.exp(inverse * margin))

    expected = 1 / brentq(slope, 1e-3, 50)
    assert fit_temperature([[0.9, 0.1]] * rows, [0] * rows) == pytest.approx(expected, rel=1e-3)
    assert 0.2 < expected < 1


def test_few_rows_leave_probabilities_better_than_without_a_temperature():
    new, truth = made(4000, 2.0, classes=2, scale=5.0, seed=99)

    def log_loss(probabilities):
        return -np.log(probabilities[np.arange(len(truth)), truth]).mean()

    fitted = [fit_temperature(*made(20, 2.0, classes=2, scale=5.0, seed=seed)) for seed in range(30)]
    assert np.mean([log_loss(with_temperature(new, each)) for each in fitted]) < log_loss(new)


def test_predictions_of_a_row_share_its_weight():
    probabilities, references = made(60, 2.0)
    thrice, names = np.repeat(probabilities, 3, axis=0), np.repeat(np.arange(60), 3)
    truth = np.repeat(references, 3)
    assert fit_temperature(thrice, truth, names) == pytest.approx(fit_temperature(probabilities, references))
    assert conformal_threshold(thrice, truth, 0.9, names) == conformal_threshold(probabilities, references, 0.9)
    folds = np.arange(60) % 5
    once = calibrate(probabilities, references, folds)
    again = calibrate(thrice, truth, np.repeat(folds, 3), names)
    assert again.pop("conformal") == [pytest.approx(each) for each in once.pop("conformal")]
    assert again == pytest.approx(once)


@pytest.mark.parametrize(("rows", "coverage", "place"), [(9, 0.9, 9), (99, 0.55, 55), (100, 0.8, 81), (200, 0.95, 191)])
def test_the_threshold_is_the_score_of_that_place(rows, coverage, place):
    probabilities, references = made(rows)
    scores = np.sort(1 - probabilities[np.arange(rows), references])
    assert conformal_threshold(probabilities, references, coverage) == scores[place - 1]


def test_too_few_rows_give_sets_of_all_labels_however_many_predictions_they_have():
    probabilities, references, _, names = repeated(8, 50)
    threshold = conformal_threshold(probabilities, references, 0.9, names)
    assert threshold == math.inf
    assert prediction_sets(probabilities, threshold).all()


@pytest.mark.parametrize("coverage", [0, 1, 90])
def test_a_coverage_is_a_share(coverage):
    with pytest.raises(ValueError, match="coverage between 0 and 1"):
        conformal_threshold(*made(50), coverage)


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_new_rows_are_covered_as_promised_and_no_more(coverage):
    rows, draws, new = 40, 400, 100
    held = []
    for seed in range(draws):
        probabilities, references = made(rows + new, 3.0, seed=seed)
        threshold = conformal_threshold(probabilities[:rows], references[:rows], coverage)
        scores = 1 - probabilities[np.arange(rows, rows + new), references[rows:]]
        held.append(np.mean(scores <= threshold))
    error = np.std(held) / math.sqrt(draws)
    assert coverage - 3 * error <= np.mean(held) <= coverage + 1 / (rows + 1) + 3 * error


def test_a_single_model_is_covered_by_the_thresholds_of_repeats():
    held = []
    for seed in range(200):
        probabilities, references, _, names = repeated(80, 3, seed=seed)
        known = np.isin(names, names[:40])
        threshold = conformal_threshold(probabilities[known], references[known], 0.9, names[known])
        held.append(np.mean(1 - probabilities[~known, references[~known]] <= threshold))
    assert np.mean(held) >= 0.9 - 3 * np.std(held) / math.sqrt(len(held))


def test_a_set_is_never_empty_and_always_holds_the_most_probable_label():
    probabilities, _ = made(50)
    sets = prediction_sets(probabilities, 0.01)
    assert (sets.sum(axis=1) == 1).all()
    assert sets[np.arange(50), probabilities.argmax(axis=1)].all()


def test_a_row_has_no_say_in_its_own_calibration():
    probabilities, references, folds, names = repeated(30, 2)
    scaled = cross_fitted(probabilities, references, folds, names)
    inside = folds == 3
    changed = np.where(np.isin(names, names[inside]), (references + 1) % 4, references)
    again = cross_fitted(probabilities, changed, folds, names)
    assert np.array_equal(again[inside], scaled[inside])
    assert not np.allclose(again, scaled)


def test_a_single_fold_has_no_others_to_learn_from():
    with pytest.raises(ValueError, match="two folds or more"):
        cross_fitted(*made(10), np.zeros(10))


def test_calibration_mends_a_model_too_sure_and_measures_what_it_promises():
    probabilities, references, folds, names = repeated(600, 2)
    found = calibrate(probabilities, references, folds, names)
    assert found["temperature"] > 2
    assert found["ece_after"] < found["ece_before"] / 2
    assert found["log_loss_after"] < found["log_loss_before"]
    assert found["rows"] == 600
    assert [each["coverage"] for each in found["conformal"]] == [0.8, 0.9, 0.95]
    for each in found["conformal"]:
        assert each["measured_coverage"] == pytest.approx(each["coverage"], abs=0.03)
    sizes = [each["mean_labels"] for each in found["conformal"]]
    assert 1 < sizes[0] < sizes[1] < sizes[2] < 4


def test_calibration_of_few_rows_is_json_without_infinities():
    probabilities, references, folds, names = repeated(12, 1)
    found = json.loads(json.dumps(calibrate(probabilities, references, folds, names), allow_nan=False))
    assert found["conformal"][2] == {
        "coverage": 0.95,
        "threshold": None,
        "measured_coverage": 1.0,
        "mean_labels": 4.0,
        "single_label_share": 0.0,
    }
