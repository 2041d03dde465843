"""Pseudo-labels: which rows are the surest, how the teacher is judged, and that more rows make a better student."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.calibration import fit_temperature
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.selftrain.pseudo_labels import PseudoLabels, dealt, surest
from hf_smalldata.testing import TOPICS, text_rows


def test_of_each_class_the_surest_are_chosen():
    values = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.7, 0.3], [0.99, 0.01]])
    assert surest(values, 0.0, 0.0, 1.0, None).tolist() == [0, 1, 2, 3, 4, 5]
    assert surest(values, 0.7, 0.0, 1.0, None).tolist() == [0, 2, 4, 5]
    assert surest(values, 0.0, 0.5, 1.0, None).tolist() == [0, 2, 5]
    assert surest(values, 0.0, 0.0, 0.5, None).tolist() == [0, 2, 5]
    assert surest(values, 0.0, 0.0, 1.0, 1).tolist() == [2, 5]


def test_a_share_of_a_class_is_rounded_up():
    values = np.tile([0.9, 0.1], (3, 1))
    assert len(surest(values, 0, 0, 1 / 3, None)) == 1
    assert len(surest(values, 0, 0, 0.4, None)) == 2


def test_folds_hold_alike_many_rows_of_each_class_and_few_rows_are_not_dealt():
    labels = np.array([0] * 6 + [1] * 3)
    parts = dealt(labels, 3, 0)
    assert [[int(((parts == fold) & (labels == label)).sum()) for label in (0, 1)] for fold in range(3)] == [[2, 1]] * 3
    assert dealt(labels, 4, 0) is None
    assert dealt(labels, 0, 0) is None


def points(count, seed, hidden=False):
    """Two far clouds of ids and labels, and their places by id."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    places = {f"{seed}:{at}": rng.normal(0, 1, 30) + (2 * label - 1) * 0.5 for at, label in enumerate(labels)}
    rows = Dataset.from_dict({"id": list(places), "text": list(places), "label": labels.tolist()})
    return (rows.remove_columns("label").add_column("domain", ["a"] * count) if hidden else rows), places


def context_of(kit, train, unlabelled, places, trained):
    """A context whose teachers are logistic regressions on the places."""

    def fit(rows):
        trained.append(len(rows))
        model = LogisticRegression().fit([places[text] for text in rows["text"]], rows["label"][:])
        return lambda others: model.predict_proba([places[text] for text in others["text"]])

    return replace(kit.context(), train=train, unlabelled=unlabelled, fit=fit, labels=("left", "right"), facts={})


def test_students_of_more_rows_are_better_than_their_teachers(text):
    gains = []
    for seed in range(10):
        (labelled, a), (rest, b), (test, c) = points(8, seed), points(300, seed + 100, True), points(500, seed + 200)
        context = context_of(text, labelled, rest, a | b | c, [])
        made = PseudoLabels(rounds=3).rows(labelled, context)
        right = [float((context.fit(rows)(test).argmax(1) == test["label"][:]).mean()) for rows in (labelled, made)]
        gains.append(right[1] - right[0])
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / 10**0.5 > 0


def test_each_round_has_a_teacher_of_its_own_that_learnt_the_round_before(text):
    (labelled, a), (rest, b), trained = points(12, 0), points(40, 1, True), []
    made = PseudoLabels(rounds=2, confidence=0, folds=3).rows(
        labelled, context_of(text, labelled, rest, a | b, trained)
    )
    assert trained[:4] == [8, 8, 8, 12]
    assert 12 + 20 <= trained[4] <= 12 + 21  # half of each class
    assert len(made) == 52
    assert made["source"][:] == [None] * 12 + ["pseudo_labels"] * 40
    assert made["id"][12] == "pseudo_labels:0"
    assert "domain" not in made.column_names


def test_how_sure_the_teacher_may_be_is_learnt_from_rows_of_other_folds(text):
    (labelled, a), (rest, b) = points(30, 0), points(40, 1, True)
    context = context_of(text, labelled, rest, a | b, [])
    PseudoLabels().rows(labelled, context)
    facts = context.facts["pseudo_labels"]
    labels, parts = np.asarray(labelled["label"][:]), dealt(np.asarray(labelled["label"][:]), 3, 0)
    values = np.zeros((30, 2))
    for fold in range(3):
        out = np.flatnonzero(parts == fold)
        values[out] = context.fit(labelled.select(np.flatnonzero(parts != fold)))(labelled.select(out))
    assert facts["temperature"] == round(fit_temperature(values, labels), 3)
    assert facts["right_out_of_fold"] == round(float((values.argmax(1) == labels).mean()), 4)
    assert len(facts["rounds"]) == 2


def test_a_teacher_worse_than_chance_stops_it(text):
    (labelled, a), (rest, b) = points(12, 0), points(40, 1, True)
    wrong = labelled.remove_columns("label").add_column("label", [at // 2 % 2 for at in range(12)])
    wrong_side = replace(context_of(text, wrong, rest, a | b, []), fit=lambda rows: lambda others: np.array(
        [[label, 1 - label] for label in (others["label"] if "label" in others.column_names else [0] * len(others))],
        dtype=float))  # fmt: skip
    with pytest.raises(UserError, match=r"right on 0% of labelled rows .*, chance is 50%; label more rows"):
        PseudoLabels().rows(wrong, wrong_side)


def test_a_teacher_with_one_answer_adds_nothing_and_says_so(text, caplog):
    (labelled, a), (rest, b) = points(12, 0), points(40, 1, True)
    context = context_of(text, labelled, rest, a | b, [])
    context = replace(context, fit=lambda _: lambda rows: np.tile([0.9, 0.1], (len(rows), 1)))
    assert PseudoLabels(folds=0).rows(labelled, context) is labelled
    said = "had no effect: the teacher calls all unlabelled rows left"
    assert f"pseudo_labels: {said}" in caplog.text
    assert context.facts["pseudo_labels"]["disclosed"] == said
    assert context.facts["pseudo_labels"]["rounds"] == [{"left": 20, "right": 0}]


def test_a_teacher_that_is_sure_of_nothing_adds_nothing_and_says_so(text, caplog):
    (labelled, a), (rest, b) = points(12, 0), points(40, 1, True)
    made = PseudoLabels(confidence=0.9999, folds=0).rows(labelled, context_of(text, labelled, rest, a | b, []))
    assert len(made) == 12
    assert "pseudo_labels: had no effect" in caplog.text


def test_a_teacher_that_nobody_can_judge_is_told_of(text, caplog):
    (labelled, a), (rest, b) = points(12, 0), points(40, 1, True)
    few = labelled.select([0, *range(2, 12)]).select(range(3))
    PseudoLabels(folds=3).rows(few, context_of(text, few, rest, a | b, []))
    assert "the teacher is not judged, and may be worse than chance" in caplog.text


def test_rows_without_one_class_are_refused(text):
    with pytest.raises(UserError, match="pseudo_labels: for rows of one class each"):
        PseudoLabels().rows(text.rows, replace(text.context(), problem_type="regression"))


def test_a_run_learns_from_the_rest_of_its_rows(text, tmp_path, no_page):
    names = list(TOPICS)
    for name, per_class, seed in (("train", 20, 0), ("test", 6, 1)):
        frame = text_rows(per_class, seed).to_pandas()
        frame.assign(label=[names[at] for at in frame["label"]])[["text", "label"]].to_csv(tmp_path / f"{name}.csv")
    run = train(Recipe.parse({
        "task": "text-classification", "model": text.spec.model_dump(),
        "data": {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "labels_per_class": 6,
                 "unlabelled": "rest", "input_column": "text", "label_column": "label"},
        "techniques": [{"pseudo_labels": {"rounds": 1, "confidence": 0, "folds": 0}}],
        "train": {"num_train_epochs": 6, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "disable_tqdm": True},
    }), tmp_path / "run")  # fmt: skip
    pool = run.metrics["rows"]["pool"]
    assert run.metrics["rows"]["unlabelled"] == pool - 18
    facts = run.metrics["runs"][0]
    assert facts["train_rows"] == pool
    assert sum(facts["techniques"]["pseudo_labels"]["rounds"][0].values()) == pool - 18
