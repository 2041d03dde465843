"""Metrics against scikit-learn's and scipy's numbers, with and without resampling."""

import json
import math
import socket
import time

import evaluate
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation import weighted
from hf_smalldata.evaluation.intervals import Interval, bootstrap, wilson
from hf_smalldata.evaluation.metrics import (
    MAIN_METRIC,
    METRICS,
    greater_is_better,
    intervals,
    metric_names,
    score,
    within_range,
)

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def single(rows=200, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), rows)
    return probabilities, np.array([rng.choice(classes, p=p) for p in probabilities])


def multi(rows=200, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.random((rows, labels))
    return probabilities, (rng.random((rows, labels)) < probabilities).astype(float)


def values(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 6, rows).astype(float)  # many ties
    return np.round(references + rng.normal(size=rows), 1), references


def test_no_interval_leaves_the_range_of_its_metric():
    wide = Interval(0.5, -0.7, 1.3)
    assert within_range(wide, "accuracy") == (0.5, 0.0, 1.0)
    assert within_range(wide, "mcc") == (0.5, -0.7, 1.0)
    assert within_range(wide, "rmse") == (0.5, 0.0, 1.3)
    assert all(map(math.isnan, within_range(Interval(0.5, math.nan, math.nan), "accuracy")[1:]))


def test_single_label_metrics_are_scikit_learns():
    p, y = single()
    chosen = p.argmax(axis=1)
    result = score(p, y, SINGLE)
    assert result.pop("ece") >= 0
    assert result == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, chosen),
            "macro_f1": sk.f1_score(y, chosen, average="macro"),
            "mcc": sk.matthews_corrcoef(y, chosen),
            "log_loss": sk.log_loss(y, p),
        }
    )


def test_multi_label_metrics_are_scikit_learns():
    p, y = multi()
    expected = {f"{a}_f1": sk.f1_score(y, p >= 0.5, average=a) for a in ("macro", "micro")}
    assert score(p, y, MULTI) == pytest.approx(expected)


def test_regression_metrics_are_scikit_learns_and_scipys():
    p, y = values()
    expected = {"rmse": sk.root_mean_squared_error(y, p), "spearman": stats.spearmanr(p, y).statistic}
    assert score(p, y, REGRESSION) == pytest.approx(expected)


def test_ece_is_the_sum_over_bins_of_the_paper():
    p, y = single(300)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    expected = 0.0
    for low in np.arange(15) / 15:
        members = (confidence > low) & (confidence <= low + 1 / 15)
        if members.any():
            expected += members.mean() * abs(right[members].mean() - confidence[members].mean())
    assert score(p, y, SINGLE)["ece"] == pytest.approx(expected)


def test_ece_of_confidence_one_and_half_right_is_one_half():
    p = np.array([[1.0, 0.0]] * 4)
    assert score(p, [0, 0, 1, 1], SINGLE)["ece"] == pytest.approx(0.5)


def test_macro_f1_leaves_out_classes_that_never_occur():
    p = np.eye(4)[[0, 1, 1, 0]]
    y = np.array([0, 1, 0, 0])
    assert score(p, y, SINGLE)["macro_f1"] == pytest.approx(sk.f1_score(y, p.argmax(axis=1), average="macro"))


def test_a_certain_and_wrong_row_has_a_finite_log_loss():
    assert score([[1.0, 0.0]], [1], SINGLE)["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))


def test_one_answer_for_all_rows_has_no_correlation():
    assert score([[0.9, 0.1]] * 6, [0, 0, 0, 1, 1, 1], SINGLE)["mcc"] == 0
    assert score([2.0] * 4, [1.0, 2.0, 3.0, 4.0], REGRESSION)["spearman"] == 0


def test_multi_label_without_any_positive_is_zero():
    assert score(np.zeros((3, 2)), np.zeros((3, 2)), MULTI) == {"macro_f1": 0, "micro_f1": 0}


@pytest.mark.parametrize(
    ("formula", "rows", "expected"),
    [
        (weighted.accuracy, single, lambda p, y: sk.accuracy_score(y, p.argmax(axis=1))),
        (weighted.macro_f1, single, lambda p, y: sk.f1_score(y, p.argmax(axis=1), average="macro")),
        (weighted.mcc, single, lambda p, y: sk.matthews_corrcoef(y, p.argmax(axis=1))),
        (weighted.log_loss, single, lambda p, y: sk.log_loss(y, p, labels=range(5))),
        (weighted.ece, single, lambda p, y: score(p, y, SINGLE)["ece"]),
        (weighted.multi_label_micro_f1, multi, lambda p, y: sk.f1_score(y, p >= 0.5, average="micro")),
        (weighted.multi_label_macro_f1, multi, lambda p, y: sk.f1_score(y, p >= 0.5, average="macro")),
        (weighted.rmse, values, lambda p, y: sk.root_mean_squared_error(y, p)),
        (weighted.spearman, values, lambda p, y: stats.spearmanr(p, y).statistic),
    ],
)
def test_row_weights_give_the_metric_of_the_repeated_rows(formula, rows, expected):
    p, y = rows(30)
    draws = np.random.default_rng(1).integers(30, size=(5, 30))
    weights = np.stack([np.bincount(draw, minlength=30) for draw in draws]).astype(float)
    assert formula(p, y)(weights) == pytest.approx([expected(p[draw], y[draw]) for draw in draws])


@pytest.mark.parametrize(("problem_type", "rows"), [(SINGLE, single), (MULTI, multi), (REGRESSION, values)])
def test_intervals_are_of_the_scored_values(problem_type, rows):
    p, y = rows()
    result = intervals(p, y, problem_type)
    assert tuple(result) == metric_names(problem_type)
    assert {name: interval.value for name, interval in result.items()} == pytest.approx(score(p, y, problem_type))
    assert all(interval.low < interval.high for interval in result.values())


def test_accuracy_has_wilsons_interval_and_the_others_a_bootstrap():
    p, y = single()
    result = intervals(p, y, SINGLE, seed=4)
    assert result["accuracy"] == wilson(int((p.argmax(axis=1) == y).sum()), len(y))
    assert result["mcc"] == bootstrap(weighted.mcc(p, y), len(y), seed=4)


def test_the_interval_of_an_f1_is_as_wide_as_its_spread_over_samples():
    scores = [score(*single(150, 3, seed), SINGLE)["macro_f1"] for seed in range(60)]
    low, high = intervals(*single(150, 3), SINGLE)["macro_f1"][1:]
    assert high - low == pytest.approx(2 * 1.96 * np.std(scores), rel=0.35)


def test_every_metric_knows_its_direction_and_main_metrics_come_first():
    better = {name for problem_type in METRICS for name in metric_names(problem_type) if greater_is_better(name)}
    assert better == {"accuracy", "macro_f1", "mcc", "micro_f1", "spearman", "entity_f1", "entity_precision",
                      "entity_recall", "token_accuracy"}  # fmt: skip
    assert all(metric_names(problem_type)[0] == main for problem_type, main in MAIN_METRIC.items())
    with pytest.raises(KeyError):
        greater_is_better("acuracy")


def test_scores_are_plain_numbers_that_json_takes():
    assert set(json.loads(json.dumps(score(*single(), SINGLE)))) == set(metric_names(SINGLE))


def test_scoring_uses_neither_the_network_nor_the_users_cache(monkeypatch, tmp_path):
    def refuse(*arguments, **settings):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluate.module.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    score(*single(), SINGLE)
    assert not list(tmp_path.iterdir())


def test_scoring_500_rows_is_cheap_enough_for_every_epoch():
    p, y = single(500)
    start = time.perf_counter()
    score(p, y, SINGLE)
    assert time.perf_counter() - start < 1  # 0.03 s alone; loose, for a busy machine


def test_scoring_leaves_numpys_global_generator_as_it_was():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    score(*single(), SINGLE)
    assert np.random.random() == expected


@pytest.mark.parametrize(
    ("predictions", "references", "problem_type", "message"),
    [
        ([[3.0, -2.0]], [0], SINGLE, "logits"),
        ([[0.9, 0.9]], [0], SINGLE, "sum to 1"),
        ([[0.5, 0.5]], [2], SINGLE, "class indices below 2"),
        ([[0.5, 0.5]], [0, 1], SINGLE, "do not fit"),
        ([[0.5, 0.5]], [[0, 1, 1]], MULTI, "do not fit"),
        ([[0.5], [0.5]], [0.5, 0.5], REGRESSION, "do not fit"),
        ([[3.0, 0.5]], [[0, 1]], MULTI, "logits"),
    ],
)
def test_inputs_that_would_give_a_wrong_number_are_refused(predictions, references, problem_type, message):
    with pytest.raises(ValueError, match=message):
        score(predictions, references, problem_type)


def test_diverged_predictions_and_empty_test_splits_are_said_in_words():
    with pytest.raises(UserError, match="1 of 2 rows are not finite"):
        score([[0.5, 0.5], [np.nan, np.nan]], [0, 1], SINGLE)
    with pytest.raises(UserError, match="no rows"):
        intervals(np.zeros((0, 2)), [], SINGLE)
