"""The label audit: made rows are judged by a model that has seen neither them nor the rows they were made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_smalldata import audit
from hf_smalldata.audit import audit_labels, relabelled
from hf_smalldata.data.made import with_made
from hf_smalldata.fitting import Fitting
from hf_smalldata.pipeline import read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.technique import Technique
from hf_smalldata.testing import image_of, text_rows


def clusters(per_class: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4) around three corners, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(3 * per_class) % 3
    return 4 * np.eye(3, 4)[labels] + rng.normal(0, 0.5, (len(labels), 4)), labels


def test_made_rows_with_another_label_than_they_look_like_are_found():
    points, labels = clusters()
    given = labels.copy()
    given[:6] = (given[:6] + 1) % 3
    of_real, of_made = relabelled(points, labels, points + 0.01, given, range(30), seed=0)
    assert of_made.tolist() == [1.0] * 6 + [0.0] * 24
    assert of_real.tolist() == [0.0] * 30


def test_a_row_of_a_wrong_label_does_not_vouch_for_its_variants():
    """Cross-fitted: the variant stands on its parent, whose label is wrong, and is told all the same."""
    points, labels = clusters()
    wrong = labels.copy()
    wrong[4] = (wrong[4] + 1) % 3
    of_real, of_made = relabelled(points, wrong, points[[4]], wrong[[4]], [4], seed=0)
    assert of_made.tolist() == [1.0]
    assert of_real[4] == 1.0


def test_rows_without_a_parent_are_judged_by_all_and_those_of_a_class_of_one_row_by_none():
    points, labels = clusters()
    points, labels = np.concatenate([points, [[0, 0, 0, 9.0]]]), np.append(labels, 3)
    made, of = points[[0, 30, 30]], [-1, 30, -1]
    of_real, of_made = relabelled(points, labels, made, labels[[0, 30, 30]], of, seed=0)
    assert np.isnan(of_real[30])
    assert of_made[0] == 0
    assert np.isnan(of_made[1])
    assert of_made[2] == 0


@pytest.fixture
def context(text, tmp_path):
    return replace(text.context(), work_dir=tmp_path, train=text_rows(12))


def variants(rows, flip: bool) -> list[dict[str, object]]:
    return [{"text": f"{row['text']} today", "label": (row["label"] + flip) % 3, "parent": row["id"]} for row in rows]


def test_shares_are_told_by_technique_beside_that_of_real_rows(context, caplog):
    rows = context.train
    both = with_made(with_made(rows, variants(rows, False), "sound"), variants(rows, True), "broken")
    state = torch.random.get_rng_state()
    with caplog.at_level("INFO"):
        audit_labels(both, context)
    found = context.facts["label_audit"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [each["made"] for each in found["by"].values()] == [36, 36]
    assert found["by"]["sound"]["relabelled"] < found["by"]["broken"]["relabelled"] - 0.3
    assert abs(found["by"]["sound"]["relabelled"] - found["relabelled_real"]) < 0.2
    assert "of 36 by sound" in caplog.text


def test_without_made_rows_nothing_is_said(context):
    audit_labels(context.train, context)
    assert context.facts == {}


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification", "token_classification"])
def test_rows_of_no_one_class_are_skipped_and_the_reason_is_said(problem_type, context, caplog):
    rows = with_made(context.train, variants(context.train, False), "sound")
    with caplog.at_level("INFO"):
        audit_labels(rows, replace(context, problem_type=problem_type))
    assert context.facts["label_audit"] == {"skipped": f"for rows of one class each, and these are {problem_type}"}
    assert "label audit: skipped: for rows of one class" in caplog.text


def test_images_are_judged_by_the_embedding_of_their_network(image, tmp_path):
    made = [{"image": row["image"], "label": row["label"], "parent": row["id"]} for row in image.rows]
    context = replace(image.context(), work_dir=tmp_path)
    audit_labels(with_made(image.rows, made, "again"), context)
    assert context.facts["label_audit"]["by"]["again"]["made"] == len(image.rows)


class Shown(Technique):
    """An `example` hook: the picture of another class, or of the own one."""

    name = "shown"
    tasks = frozenset({"image-classification"})
    other: int

    def example(self, example):
        return {**example, "image": image_of((example["label"] + self.other) % 3, example["rng"])}


def test_draws_of_example_hooks_are_judged_beside_made_rows(image, tmp_path, caplog):
    context = replace(image.context(), work_dir=tmp_path)
    found = {}
    for other in (0, 1):
        with caplog.at_level("INFO"):
            audit_labels(image.rows, context, [Shown(other=other)])
        found[other] = context.facts["label_audit"]
        assert found[other]["by"]["shown"]["made"] == len(image.rows)
    assert found[1]["by"]["shown"]["relabelled"] > found[0]["by"]["shown"]["relabelled"] + 0.5
    assert found[0]["relabelled_real"] == found[1]["relabelled_real"]
    assert "of 12 by shown; of real rows" in caplog.text
    made = [{"image": row["image"], "label": row["label"], "parent": row["id"]} for row in image.rows]
    audit_labels(with_made(image.rows, made, "again"), context, [Shown(other=1)])
    assert {name: each["made"] for name, each in context.facts["label_audit"]["by"].items()} == {
        "again": 12,
        "shown": 12,
    }


def test_of_many_rows_some_draws_are_judged(image, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "MOST_DRAWN", 7)
    context = replace(image.context(), work_dir=tmp_path)
    audit_labels(image.rows, context, [Shown(other=0)])
    assert context.facts["label_audit"]["by"]["shown"]["made"] == 7


class Wrong(Technique):
    """A `rows` hook: each row once more, as the next class."""

    name = "wrong"
    tasks = frozenset({"text-classification"})

    def rows(self, train, ctx):
        return with_made(train, variants(train, True), self.name)


def test_a_run_holds_the_audit(text, sources, tmp_path):
    recipe = Recipe.parse({
        "task": "text-classification", "data": sources["text-classification"], "model": text.spec.model_dump(),
        "techniques": [Wrong()], "train": {"num_train_epochs": 0, "disable_tqdm": True},
    })  # fmt: skip
    data = read_rows(recipe, text.task)
    facts = Fitting.of(recipe, data, tmp_path).learn(data.train, 0).facts
    assert facts["techniques"]["label_audit"]["by"]["wrong"]["made"] == len(data.train)
