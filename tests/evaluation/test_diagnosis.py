"""Diagnosis: counts, bins and errors by hand, and everything JSON-ready."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from hf_smalldata.evaluation.diagnosis import confusion, diagnose, per_class, reliability, worst_errors
from hf_smalldata.evaluation.intervals import wilson

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
LABELS = ("ant", "bee", "cat")


def single(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), rows)
    return probabilities, np.array([rng.choice(3, p=each) for each in probabilities])


def test_confusion_is_scikit_learns_with_classes_that_do_not_occur():
    probabilities, references = single()
    predicted = probabilities.argmax(axis=1)
    assert confusion(predicted, references, 4) == confusion_matrix(references, predicted, labels=range(4)).tolist()


def test_bins_hold_all_rows_about_evenly_and_meet():
    probabilities, references = single(503)
    bins = reliability(probabilities, references)
    assert len(bins) == 10
    assert sum(each["count"] for each in bins) == 503
    assert all(49 <= each["count"] <= 52 for each in bins)
    assert [each["high"] for each in bins[:-1]] == [each["low"] for each in bins[1:]]
    assert bins[0]["low"] == probabilities.max(axis=1).min()
    assert bins[-1]["high"] == probabilities.max(axis=1).max()
    assert all(each["low"] <= each["confidence"] <= each["high"] for each in bins)


def test_a_bin_says_how_often_its_rows_are_right():
    probabilities, references = single(40)
    first = reliability(probabilities, references, bins=4)[0]
    confidence = probabilities.max(axis=1)
    rows = np.argsort(confidence)[: first["count"]]
    right = (probabilities.argmax(axis=1) == references)[rows]
    interval = wilson(right.sum(), len(rows))
    assert first["confidence"] == pytest.approx(confidence[rows].mean())
    assert (first["accuracy"], first["accuracy_low"], first["accuracy_high"]) == pytest.approx(interval)


def test_a_calibrated_model_lies_on_the_diagonal():
    assert all(
        each["accuracy_low"] - 0.02 <= each["confidence"] <= each["accuracy_high"] + 0.02
        for each in reliability(*single(5000))
    )


def test_few_rows_make_few_bins():
    assert [len(reliability(*single(rows))) for rows in (3, 19, 20, 45, 5000)] == [1, 1, 2, 4, 10]


def test_rows_of_equal_confidence_share_a_bin():
    probabilities = np.array([[0.9, 0.1]] * 70 + [[0.4, 0.6]] * 30)
    bins = reliability(probabilities, [0] * 100)
    assert [(each["count"], each["low"]) for each in bins] in ([(100, 0.6)], [(30, 0.6), (70, 0.9)])
    assert len(reliability([[0.9, 0.1]] * 50, [0] * 50)) == 1


def test_the_most_confident_errors_come_first_and_right_rows_never():
    probabilities = [[0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.9, 0.02, 0.08], [0.4, 0.3, 0.3], [0.2, 0.8, 0.0]]
    errors = worst_errors(list("abcde"), [0, 1, 1, 0, 1], probabilities, LABELS, SINGLE)
    assert errors == [
        {"id": "c", "label": "bee", "prediction": "ant", "score": 0.9, "score_of_label": 0.02},
        {"id": "b", "label": "bee", "prediction": "ant", "score": 0.9, "score_of_label": 0.05},
        {"id": "a", "label": "ant", "prediction": "bee", "score": 0.8, "score_of_label": 0.1},
    ]
    assert worst_errors(list("abcde"), [0, 1, 1, 0, 1], probabilities, LABELS, SINGLE, most=1) == errors[:1]


def test_multi_label_errors_are_ordered_by_loss_and_scored_by_geometric_means():
    probabilities = np.array([[0.9, 0.2, 0.1], [0.6, 0.2, 0.1], [0.9, 0.9, 0.1]])
    references = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=float)
    errors = worst_errors(list("abc"), references, probabilities, LABELS, MULTI)
    assert [(each["id"], each["label"], each["prediction"]) for each in errors] == [
        ("a", [], ["ant"]),
        ("b", [], ["ant"]),
    ]
    assert errors[0]["score"] == pytest.approx((0.9 * 0.8 * 0.9) ** (1 / 3))
    assert errors[0]["score_of_label"] == pytest.approx((0.1 * 0.8 * 0.9) ** (1 / 3))


def test_the_largest_errors_of_values_come_first():
    errors = worst_errors(list("abc"), [1.0, 2.0, 3.0], [1.5, 0.0, 3.0], (), REGRESSION)
    assert [(each["id"], each["label"], each["prediction"], each["score"]) for each in errors] == [
        ("b", 2.0, 0.0, None),
        ("a", 1.0, 1.5, None),
    ]


def test_a_diagnosis_is_json_and_leaves_out_what_does_not_apply():
    probabilities, references = single(60)
    ids = [f"row {at}" for at in range(60)]
    found = diagnose(ids, references, probabilities, LABELS, SINGLE)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert np.sum(found["confusion"]) == sum(each["count"] for each in found["reliability"]) == 60
    assert found["per_class"] is not None
    wrong = 60 - np.trace(found["confusion"])
    assert len(found["errors"]) == min(20, wrong)
    multi = diagnose(ids, np.eye(3)[references], probabilities, LABELS, MULTI)
    values = diagnose(ids, references.astype(float), probabilities[:, 0], (), REGRESSION)
    for other in (multi, values):
        assert list(other) == ["per_class", "confusion", "reliability", "errors"]
        assert [other[name] for name in ("per_class", "confusion", "reliability")] == [None] * 3
        assert json.loads(json.dumps(other, allow_nan=False)) == other
        assert len(other["errors"]) == 20


def test_per_class_figures_are_those_of_scikit_learn_within_their_intervals():
    probabilities, references = single(60)
    predicted = probabilities.argmax(-1)
    found = per_class(predicted, references, LABELS)
    wanted = precision_recall_fscore_support(references, predicted, labels=[0, 1, 2], zero_division=0)
    for at, label in enumerate(LABELS):
        for name, values in zip(("precision", "recall", "f1"), wanted, strict=False):
            value, low, high = found[label][name].values()
            assert value == pytest.approx(values[at])
            assert low < value < high
        assert found[label]["support"] == wanted[3][at]
    low, high = (wilson(3, 10)[at] for at in (1, 2))  # 3 right, 4 missed, 3 too many: F1 of 6/13
    few = per_class([0] * 3 + [1] * 4 + [0] * 3 + [1] * 5, [0] * 7 + [1] * 8, ["a", "b"])["a"]["f1"]
    assert few == pytest.approx({"value": 6 / 13, "low": 2 * low / (1 + low), "high": 2 * high / (1 + high)})


def test_a_class_that_is_neither_there_nor_given_has_no_interval():
    nothing = {"value": 0.0, "low": None, "high": None}
    assert per_class([0, 1], [0, 1], ["a", "b", "c"])["c"] == {"precision": nothing, "recall": nothing, "f1": nothing,
                                                              "support": 0}  # fmt: skip
