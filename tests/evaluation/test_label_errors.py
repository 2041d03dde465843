"""Label errors: flipped labels are found, right ones left alone, and what cannot be judged is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, softmax

from hf_smalldata.evaluation.label_errors import label_errors

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
LABELS = ("ant", "bee", "cat")


def made(rows=60, flipped=(3, 30), seed=0):
    """Ids, references of which some are wrong, probabilities of a good model, and the true labels."""
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % 3
    logits = rng.normal(size=(rows, 3)) + 5 * np.eye(3)[truth]
    logits[list(flipped)] = 6 * np.eye(3)[truth[list(flipped)]]  # confident learning passes over what is unsure
    references = truth.copy()
    references[list(flipped)] = (truth[list(flipped)] + 1) % 3
    return [f"row {at}" for at in range(rows)], references, softmax(logits, axis=1), truth


def made_multi(rows=80, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((rows, 3)) < 0.4).astype(int)
    return [f"row {at}" for at in range(rows)], truth, expit(rng.normal(size=(rows, 3)) + 6 * truth - 3)


def test_flipped_labels_are_found_with_their_own_label_the_worst_first():
    ids, references, probabilities, truth = made()
    found = label_errors(ids, references, probabilities, LABELS, SINGLE)
    assert {each["id"] for each in found} == {"row 3", "row 30"}
    for each in found:
        row = int(each["id"].split()[1])
        assert each["given"] == LABELS[references[row]]
        assert each["suggested"] == LABELS[truth[row]]
        assert each["self_confidence"] == pytest.approx(probabilities[row, references[row]])
    assert found[0]["self_confidence"] <= found[1]["self_confidence"]
    assert json.loads(json.dumps(found)) == found


def test_labels_that_are_all_right_are_left_alone():
    ids, references, probabilities, _ = made(flipped=())
    assert label_errors(ids, references, probabilities, LABELS, SINGLE) == []


def test_predictions_of_one_row_are_averaged_whatever_their_order():
    ids, references, probabilities, _ = made()
    turned = np.random.default_rng(1).permutation(120)
    either = np.concatenate([probabilities, probabilities[:, ::-1] * 0.2 + probabilities * 0.8])
    both = (either[:60] + either[60:]) / 2
    expected = label_errors(ids, references, both, LABELS, SINGLE)
    again = label_errors(
        [(ids * 2)[at] for at in turned], np.tile(references, 2)[turned], either[turned], LABELS, SINGLE
    )
    assert [each["id"] for each in again] == [each["id"] for each in expected]
    assert [each["self_confidence"] for each in again] == pytest.approx([each["self_confidence"] for each in expected])


def test_rows_of_a_class_with_too_few_rows_are_not_judged():
    ids, references, probabilities, _ = made(flipped=(3,))
    few = np.flatnonzero(references == 2)[4:]
    kept = np.setdiff1d(np.arange(60), few)
    probabilities[kept[references[kept] == 2]] = [0.98, 0.01, 0.01]  # all four look wrong
    found = label_errors([ids[at] for at in kept], references[kept], probabilities[kept], LABELS, SINGLE)
    assert [each["id"] for each in found] == ["row 3"]


def test_one_class_alone_gives_nothing_to_compare_with():
    ids, _, probabilities, _ = made()
    assert label_errors(ids, np.zeros(60, dtype=int), probabilities, LABELS, SINGLE) == []


def test_missing_and_surplus_labels_of_a_multi_label_row_are_both_found():
    ids, truth, probabilities = made_multi()
    references = truth.copy()
    missing, surplus = np.flatnonzero(truth[:, 0])[2], np.flatnonzero((truth[:, :2] == 0).all(axis=1))[4]
    probabilities[missing, 0], probabilities[surplus, 1] = 0.99, 0.02
    references[missing, 0], references[surplus, 1] = 0, 1
    found = label_errors(ids, references.astype(float), probabilities, LABELS, MULTI)
    by_id = {each["id"]: each for each in found}
    for row, confidence in ((missing, 0.01), (surplus, 0.02)):
        each = by_id[f"row {row}"]
        assert each["given"] == [LABELS[at] for at in range(3) if references[row, at]]
        assert each["suggested"] == [LABELS[at] for at in range(3) if truth[row, at]]
        assert each["self_confidence"] == pytest.approx(confidence)
    assert [each["self_confidence"] for each in found] == sorted(each["self_confidence"] for each in found)
    assert len(found) <= 4


def test_a_multi_label_name_that_hardly_any_row_has_is_not_judged():
    ids, truth, probabilities = made_multi()
    truth[:, 2] = 0
    truth[:3, 2] = 1
    probabilities[:, 2] = np.where(truth[:, 2], 0.01, 0.99)
    assert all(
        ("cat" in each["given"]) == ("cat" in each["suggested"])
        for each in label_errors(ids, truth, probabilities, LABELS, MULTI)
    )


def test_regression_has_no_labels_to_be_wrong():
    with pytest.raises(ValueError, match="needs classes"):
        label_errors(["a"], [1.0], [1.0], (), "regression")
