"""The keeper: copies, repeats and rows that a teacher labels otherwise are left out, and each class gets its share."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from datasets import Dataset
from pydantic import ValidationError

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.technique import Technique
from hf_smalldata.techniques.synthesis import keep
from hf_smalldata.techniques.synthesis.keep import (
    Judged,
    Keep,
    agreed,
    check_rows_a_class,
    directions,
    kept,
    sift,
)


def judged(similarity=(), agreement=None, confidence=None, among=None) -> Judged:
    count = len(similarity)
    return Judged(
        np.ones(count) if agreement is None else np.array(agreement),
        np.full(count, np.nan) if confidence is None else np.array(confidence),
        np.zeros(count, dtype=int), np.array(similarity), np.eye(count) if among is None else np.array(among),
    )  # fmt: skip


def written(kit, topics=("animals", "food", "weather")) -> list[dict]:
    """A new text of each topic: other words than any row of the kit has together."""
    words = {"animals": "cat fish horse cow", "food": "bread apple soup rice", "weather": "rain sun wind cloud"}
    return [{"text": f"we saw {words[topic]}", "label": kit.labels.index(topic)} for topic in topics]


def test_a_row_is_dropped_for_the_first_reason_that_holds():
    known = judged([0.99, 0.1, 0.1, 0.1, 0.1], agreement=[0, 0, 1, 1, 1], confidence=[0.1, 0.1, 0.1, 0.9, 0.9])
    assert sift(known, np.zeros(5, dtype=int), Keep(min_confidence=0.5), [1]) == [
        "copies", "disagree", "unsure", None, "surplus"
    ]  # fmt: skip


def test_a_repeat_is_measured_by_kept_rows_alone():
    among = np.full((3, 3), 0.99)
    known = judged([0.1] * 3, agreement=[0, 1, 1], among=among)
    assert sift(known, np.zeros(3, dtype=int), Keep(), [9]) == ["disagree", None, "repeats"]


def test_each_class_gets_its_share():
    known, groups = judged([0.1] * 6), np.array([0, 0, 0, 1, 1, 1])
    first = [None, "surplus", "surplus", None, None, "surplus"]
    assert sift(known, groups, Keep(diverse=False), [1, 2]) == first
    found = sift(known, groups, Keep(), [1, 2])
    assert (found[:3].count(None), found[3:].count(None)) == (1, 2)
    assert sift(known, groups, Keep(), [0, 9]) == [*["surplus"] * 3, *[None] * 3]


def test_of_more_rows_than_are_wanted_one_of_each_kind_is_kept_the_surest():
    rng = np.random.default_rng(0)
    kinds = np.array([0] * 9 + [1, 2, 3, 3])  # most are of one kind, and come first
    x = np.eye(4)[kinds] + 0.05 * rng.standard_normal((13, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    confidence = np.full(13, 0.6)
    confidence[[4, 12]] = 0.9
    known = judged([0.1] * 13, confidence=confidence, among=x @ x.T)
    kept_rows = [[at for at, why in enumerate(sift(known, np.zeros(13, dtype=int), keep, [4])) if why is None]
                 for keep in (Keep(max_similarity=1), Keep(max_similarity=1, diverse=False))]  # fmt: skip
    assert kept_rows == [[4, 9, 10, 12], [0, 1, 2, 3]]


def test_the_ratio_is_of_the_rows_of_a_class_and_per_class_is_even(text):
    rows, context = text.rows.select([0, 3, 6, 1]), text.context()  # three animals, one food
    assert Keep().wanted(rows, context) == [3, 1, 0]
    assert Keep(ratio=2).wanted(rows, context) == [6, 2, 0]
    assert Keep(per_class=5).wanted(rows, context) == [5, 5, 5]
    with pytest.raises(ValidationError, match="give `per_class` or `ratio`, not both"):
        Keep(per_class=5, ratio=1)


def test_agreement_of_one_class_is_that_of_the_likeliest():
    shares, sure = agreed(np.array([[0.7, 0.3], [0.4, 0.6]]), [0, 0], "single_label_classification")
    assert shares.tolist() == [1, 0]
    assert sure.tolist() == [0.7, 0.4]


def test_agreement_of_several_labels_is_the_share_of_those_that_either_gives():
    shares, sure = agreed(np.array([[0.9, 0.8, 0.1]]), [[1, 0, 0]], "multi_label_classification")
    assert shares.tolist() == [0.5]
    assert sure[0] == pytest.approx((0.9 + 0.2 + 0.9) / 3)


def test_agreement_of_tags_is_that_of_words_in_entities():
    said = np.eye(3)[[0, 1, 2, 0]] * 0.9
    shares, sure = agreed(ragged([said, said[:1]]), [[0, 1, 0, 0], [0]], "token_classification")
    assert shares.tolist() == [0.5, 1.0]  # of words 1 and 2 one; a sentence without entities agrees
    assert sure[0] == pytest.approx(0.9 * 3 / 4)


def test_cosines_are_about_the_mean_of_the_real_rows():
    real, made = directions(np.array([[9.0, 1.0], [9.0, -1.0]]), np.array([[9.0, 5.0], [10.0, 0.0]]))
    np.testing.assert_allclose(made @ real.T, [[1, -1], [0, 0]], atol=1e-12)


def test_a_class_of_which_nothing_is_kept_is_told(text, caplog):
    def fit(rows: Dataset):
        return lambda others: np.eye(3)[[min(row["label"], 1) for row in others]]  # weather is taken for food

    context = replace(text.context(), fit=fit)
    kept(text.rows, written(text), context, Keep(max_similarity=1), "writer")
    assert "writer: kept none of weather, so that classes are less even" in caplog.text
    caplog.clear()
    kept(text.rows, written(text), text.context(), Keep(max_similarity=1, agreement=0), "writer")
    assert "kept none of" not in caplog.text


def test_copies_repeats_and_what_the_teacher_labels_otherwise_are_left_out(text):
    new = written(text)
    made = [{"text": text.rows[0]["text"], "label": 0}, *new, new[0], {"text": "bread rice soup", "label": 0}]

    def fit(rows: Dataset):
        assert rows["id"][:] == text.rows["id"][:]
        return lambda others: np.array(
            [[0.1, 0.8, 0.1] if "bread rice" in row["text"] else np.eye(3)[row["label"]] for row in others]
        )

    context = replace(text.context(), fit=fit)
    after = kept(text.rows, made, context, Keep(max_similarity=1), "writer")
    assert after["text"][len(text.rows) :] == [each["text"] for each in new]
    assert after["source"][len(text.rows) :] == ["writer"] * 3
    facts = context.facts["writer"]
    assert facts["made"], facts["kept"] == (6, 3)
    assert facts["dropped"] == {"copies": 1, "disagree": 1, "unsure": 0, "repeats": 1, "surplus": 0}
    assert facts["kept_by_class"] == {"animals": 1, "food": 1, "weather": 1}
    assert facts["share_of_training_rows"] == 0.2


def test_what_is_known_of_each_made_row_is_written_down(text, tmp_path):
    made = [{**each, "prompt": "a topic"} for each in written(text)]
    context = replace(text.context(seed=7), work_dir=tmp_path)
    after = kept(text.rows, made, context, Keep(), "writer")
    lines = [json.loads(line) for line in (tmp_path / "writer.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines if line["kept"]] == after["id"][len(text.rows) :]
    assert {line["prompt"] for line in lines} == {"a topic"}
    assert {line["seed"] for line in lines} == {7}
    assert all(line["nearest"] in text.rows["id"][:] and line["agreement"] == 1 for line in lines)


def test_no_teacher_is_trained_where_none_is_asked(text, tmp_path):
    def fit(rows):
        raise AssertionError("a teacher was asked")

    after = kept(
        text.rows, written(text), replace(text.context(), fit=fit, work_dir=tmp_path), Keep(agreement=0), "writer"
    )
    assert len(after) == len(text.rows) + 3
    known = [json.loads(line) for line in (tmp_path / "writer.jsonl").read_text().splitlines()]
    assert [(line["agreement"], line["confidence"]) for line in known] == [(None, None)] * 3


@pytest.mark.parametrize("task", ["image-classification", "audio-classification", "sequence-classification",
                                  "token-classification"])  # fmt: skip
def test_rows_of_every_modality_are_judged(task, kits):
    kit = kits[task]
    learnt, others = kit.rows.select(range(6)), kit.rows.select(range(6, 12))
    made = [{name: value for name, value in row.items() if name != "id"} for row in [*others, learnt[0]]]
    after = kept(learnt, made, kit.context(), Keep(max_similarity=1, ratio=9), "again")
    assert after["source"][:].count("again") == 6  # all but the copy


def test_nothing_kept_is_an_error_that_counts_the_reasons(text):
    copies = [{"text": row["text"], "label": row["label"]} for row in text.rows]
    with pytest.raises(UserError, match=r"writer: kept 0 of 12: 12 copies of real rows; raise keep.max_similarity"):
        kept(text.rows, copies, text.context(), Keep(), "writer")
    with pytest.raises(UserError, match="writer: made no rows"):
        kept(text.rows, [], text.context(), Keep(), "writer")


def test_classes_of_too_few_rows_are_named_with_what_still_works(text):
    rows = text.rows.select([0, 3, 6, 9, 1])
    with pytest.raises(UserError, match=r"at least 4 rows of each class.*fewer of food \(1\).*feature_synthesis"):
        check_rows_a_class(rows, text.context(), "gan")
    check_rows_a_class(text.rows, text.context(), "gan")


def test_rows_with_values_are_refused(text):
    with pytest.raises(UserError, match="no teacher can agree"):
        kept(text.rows, written(text), replace(text.context(), problem_type="regression"), Keep(), "writer")


def test_made_rows_are_disclosed_by_card_and_report(tmp_path, kits, sources, no_page, monkeypatch):
    class Again(Technique):
        name: ClassVar[str] = "again"
        tasks: ClassVar = frozenset({"text-classification"})

        def rows(self, train, ctx):
            monkeypatch.setattr(keep, "agreed", lambda predicted, labels, problem: np.ones((2, len(predicted))))
            made = [{"text": row["text"].replace("a", "the"), "label": row["label"]} for row in train]
            return kept(train, made, ctx, Keep(max_similarity=1), self.name)

    task = "text-classification"
    recipe = Recipe.parse({
        "task": task, "data": sources[task], "model": {"name": str(kits[task].folder)}, "techniques": [Again()],
        "train": {"num_train_epochs": 1, "disable_tqdm": True},
    })  # fmt: skip
    run = train(recipe, tmp_path / "run")
    found = run.metrics["runs"][0]["techniques"]["again"]
    assert found["kept"] >= 1
    assert run.metrics["runs"][0]["train_rows"] == 12 + found["kept"]
    sentence = f"again made 12 rows, of which {found['kept']} were learnt from"
    for page in ("README.md", "smalldata/report.md"):
        assert sentence in (run.folder / page).read_text(encoding="utf-8")
    known = [json.loads(line) for line in run.part("provenance.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["source"] for line in known] == ["again"] * 12
    assert sum(line["kept"] for line in known) == found["kept"]
    assert {line["seed"] for line in known} == {0}
