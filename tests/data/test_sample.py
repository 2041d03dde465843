"""Rows held out and rows drawn: stratified, nested, and the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.sample import apply_rows, draw, draw_for, rows_record, split
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError


def spec(**given) -> DataSpec:
    return DataSpec(name="rows", **given)


def rows_of(labels, texts=None, **columns) -> Splits:
    texts = texts or [f"text {at}" for at in range(len(labels))]
    given = spec(group="group") if "group" in columns else spec()
    return load(given, "text", objects={"text": texts, "label": labels, **columns})


def few(per_class: dict[str, int]) -> Splits:
    return rows_of([name for name, count in per_class.items() for _ in range(count)])


def drawn_ids(splits: Splits, seed: int = 0, **given) -> list[str]:
    return list(draw(splits.train, spec(**given), splits.labels, splits.problem_type, seed)["id"])


def ids(rows: Dataset | None) -> set[str]:
    return set(rows["id"]) if rows is not None else set()


def test_test_and_validation_rows_are_held_out_by_class():
    cut = split(few({"a": 100, "b": 50}), spec(validation_fraction=0.25))
    assert Counter(cut.test["label"]) == {0: 20, 1: 10}
    assert Counter(cut.validation["label"]) == {0: 20, 1: 10}
    assert Counter(cut.train["label"]) == {0: 60, 1: 30}
    parts = [ids(rows) for rows in (cut.train, cut.validation, cut.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 150


def test_given_test_rows_are_left_as_they_are():
    train, test = ({"text": [f"{name} {at}" for at in "abcd"], "label": [0, 1, 0, 1]} for name in ("old", "new"))
    splits = load(spec(), "text", objects={"train": train, "test": test})
    cut = split(splits, spec())
    assert cut is splits


def test_training_rows_that_are_held_out_as_well_are_left_out():
    train = {"text": ["a", "b", "c", "d", "e"], "label": [0, 1, 0, 1, 0], "group": ["p", "q", "r", "s", "t"]}
    test = {"text": ["a ", "z"], "label": [0, 1], "group": ["u", "q"]}
    validation = {"text": ["z", "y"], "label": [0, 1], "group": ["v", "w"]}
    given = spec(group="group")
    cut = split(load(given, "text", objects={"train": train, "validation": validation, "test": test}), given)
    assert cut.train["text"][:] == ["c", "d", "e"]
    assert cut.validation["text"][:] == ["y"]
    assert cut.test["text"][:] == ["a ", "z"]
    why = "(equal or nearly equal inputs, or one group) and are left out:"
    assert f"2 training rows belong to test rows {why} train:0, train:1" in cut.warnings
    assert f"1 validation rows belong to test rows {why} validation:0" in cut.warnings


def test_nothing_is_left_to_learn_from_when_all_of_it_is_tested():
    columns = {"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]}
    with pytest.raises(UserError, match="every training row is a test or validation row as well"):
        split(load(spec(), "text", objects={"train": columns, "test": columns}), spec())


def test_near_duplicates_stay_together_unless_only_equal_rows_should():
    texts = [f"{word} is what the customer said when he called about his broken {thing}, {end}"
             for word, thing in zip(("late", "wrong", "lost", "torn"), ("lamp", "chair", "table", "clock"), strict=True)
             for end in ("twice", "twice!", "Twice")]  # fmt: skip
    splits = rows_of([at // 3 % 2 for at in range(12)], texts)
    near = {int(row_id.split(":")[1]) // 3 for row_id in ids(split(splits, spec(test_fraction=0.3)).test)}
    held = split(splits, spec(test_fraction=0.3)).test
    assert len(held) == 3 * len(near)
    loose = split(splits, spec(test_fraction=0.3, keep_together="equal")).test
    assert len({int(row_id.split(":")[1]) // 3 for row_id in ids(loose)}) * 3 > len(loose)


def test_the_split_depends_on_split_seed_and_ids_and_not_on_the_order_of_rows():
    splits = few({"a": 30, "b": 30})
    turned = Splits(splits.train.select(range(59, -1, -1)), None, None, splits.labels, splits.problem_type)
    held = ids(split(splits, spec()).test)
    assert ids(split(turned, spec()).test) == held
    assert ids(split(splits, spec(split_seed=1)).test) != held


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_rows_a_class_leave_each_class_on_both_sides(count):
    cut = split(few({"a": count, "b": count, "c": count}), spec())
    assert set(cut.train["label"]) == set(cut.test["label"]) == {0, 1, 2}
    assert cut.warnings == ()


def test_a_class_of_one_row_stays_in_training_with_a_warning():
    cut = split(few({"a": 10, "rare": 1}), spec())
    assert list(cut.train["label"]).count(1) == 1
    assert cut.warnings == ("no test row could be held out for rare: too few rows, kept for training",)


def test_rows_of_a_group_stay_together():
    labels = [at % 2 for at in range(120)]
    cut = split(rows_of(labels, group=[f"g{at // 4}" for at in range(120)]), spec(group="group"))
    assert not set(cut.train["group"]) & set(cut.test["group"])
    assert Counter(cut.test["label"]) == {0: 12, 1: 12}


def test_identical_texts_stay_together():
    texts = [f"text {at // 3}" + " " * (at % 3) for at in range(120)]
    cut = split(rows_of([at // 3 % 2 for at in range(120)], texts), spec())
    train, test = ({" ".join(text.split()) for text in rows["text"]} for rows in (cut.train, cut.test))
    assert not train & test
    assert 20 <= len(cut.test) <= 28


def test_identical_images_stay_together():
    rng = np.random.default_rng(0)
    pictures = [picture for _ in range(20) for picture in [rng.integers(0, 255, (16, 16), dtype=np.uint8)] * 2]
    splits = load(spec(), "image", objects={"image": pictures, "label": [at // 2 % 2 for at in range(40)]})
    cut = split(splits, spec())
    train, test = ({value["bytes"] for value in rows["image"]} for rows in (cut.train, cut.test))
    assert not train & test
    assert len(cut.test) == 8


def test_one_group_for_all_rows_cannot_be_split():
    with pytest.raises(UserError, match="largest group of rows that stay together has 10"):
        split(rows_of([0, 1] * 5, group=["g"] * 10), spec(group="group"))


def test_regression_rows_are_held_out_over_the_whole_range():
    cut = split(rows_of([at + 0.5 for at in range(100)]), spec())
    assert len(cut.test) == 20
    assert Counter(int(value // 10) for value in cut.test["label"]) == dict.fromkeys(range(10), 2)


def test_multi_label_rows_are_held_out_with_every_label():
    labels = [[name for name, step in (("a", 2), ("b", 5), ("c", 10)) if at % step == 0] for at in range(100)]
    cut = split(rows_of(labels), spec())
    assert len(cut.test) == 20
    assert np.all(np.asarray(cut.test["label"]).sum(axis=0) >= 1)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_draw_has_its_rows_of_each_class_in_their_own_order(count):
    splits = few({"a": 4, "b": 9})
    drawn = draw(splits.train, spec(labels_per_class=count), splits.labels, splits.problem_type, 0)
    assert Counter(drawn["label"]) == {0: count, 1: count}
    order = {row_id: at for at, row_id in enumerate(splits.train["id"])}
    positions = [order[row_id] for row_id in drawn["id"]]
    assert positions == sorted(positions)


def test_draws_of_one_seed_are_nested_and_seeds_differ():
    splits = few({"a": 40, "b": 40})
    assert set(drawn_ids(splits, labels_per_class=4)) < set(drawn_ids(splits, labels_per_class=8))
    assert set(drawn_ids(splits, fraction=0.1)) < set(drawn_ids(splits, fraction=0.2))
    assert drawn_ids(splits, seed=1, labels_per_class=4) != drawn_ids(splits, seed=0, labels_per_class=4)
    assert drawn_ids(splits, labels_per_class=4) == drawn_ids(splits, labels_per_class=4)


def test_a_draw_does_not_depend_on_the_order_of_rows():
    splits = few({"a": 20, "b": 20})
    turned = Splits(splits.train.select(range(39, -1, -1)), None, None, splits.labels, splits.problem_type)
    assert set(drawn_ids(turned, labels_per_class=3)) == set(drawn_ids(splits, labels_per_class=3))


def test_a_fraction_is_stratified_and_one_is_all():
    splits = few({"a": 40, "b": 10, "c": 1})
    drawn = draw(splits.train, spec(fraction=0.2), splits.labels, splits.problem_type, 0)
    assert Counter(drawn["label"]) == {0: 8, 1: 2, 2: 1}
    assert len(drawn_ids(splits, fraction=1.0)) == len(drawn_ids(splits)) == 51


def test_classes_with_too_few_rows_are_listed_with_their_counts():
    with pytest.raises(UserError, match=r"labels_per_class is 8.*: b 3, c 1; draw fewer"):
        drawn_ids(few({"a": 9, "b": 3, "c": 1}), labels_per_class=8)


def test_multi_label_draws_take_rows_for_each_label():
    splits = rows_of([["a", "b"] if at % 4 == 0 else ["a"] for at in range(40)])
    drawn = draw(splits.train, spec(labels_per_class=4), splits.labels, splits.problem_type, 0)
    a, b = np.asarray(drawn["label"]).sum(axis=0)
    assert b >= 4
    assert a >= 4
    assert len(drawn) <= 8


def test_regression_draws_fractions_only():
    splits = rows_of([at + 0.5 for at in range(20)])
    assert len(drawn_ids(splits, fraction=0.5)) == 10
    with pytest.raises(UserError, match=r"use data\.fraction"):
        drawn_ids(splits, labels_per_class=2)


@pytest.fixture
def recorded(tmp_path):
    """Splits as loaded, as cut, and the rows.json of a run over seeds 0 and 1."""
    loaded = few({"a": 30, "b": 30})
    cut = split(loaded, spec(validation_fraction=0.2))
    draws = {seed: draw(cut.train, spec(labels_per_class=4), cut.labels, cut.problem_type, seed) for seed in (0, 1)}
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows_record(cut, draws)))
    return loaded, cut, draws, file


def test_a_record_gives_back_its_splits_and_draws(recorded):
    loaded, cut, draws, file = recorded
    given = spec(rows=str(file), split_seed=7, labels_per_class=2)  # the record goes before seeds and budgets
    again = apply_rows(loaded, given)
    assert list(again.test) == list(cut.test)
    assert list(again.validation) == list(cut.validation)
    assert list(again.train) == list(cut.train)
    assert list(draw_for(again, given, 1)) == list(draws[1])
    with pytest.raises(UserError, match="no draw of seed 5; it has the seeds 0, 1"):
        draw_for(again, given, 5)
    assert rows_record(again, again.draws) == json.loads(file.read_text())


def test_a_record_names_rows_that_are_gone_or_changed(recorded):
    loaded, cut, _, file = recorded
    gone, changed = cut.test["id"][0], cut.validation["id"][0]
    train = loaded.train.filter(lambda row: row["id"] != gone)
    train = train.map(lambda row: {"text": "other"} if row["id"] == changed else row)
    other = Splits(train, None, None, loaded.labels, loaded.problem_type)
    with pytest.raises(UserError) as caught:
        apply_rows(other, spec(rows=str(file)))
    assert f"rows are no longer in the data: {gone}" in str(caught.value)
    assert f"rows have another input or label now: {changed}" in str(caught.value)


def test_a_record_that_judges_by_rows_it_learns_from_is_refused(recorded):
    loaded, cut, _, file = recorded
    record = json.loads(file.read_text())
    record["train"]["0"] += [cut.test["id"][0], cut.validation["id"][0]]
    file.write_text(json.dumps(record))
    with pytest.raises(UserError) as caught:
        apply_rows(loaded, spec(rows=str(file)))
    assert f"1 test rows are train rows as well: {cut.test['id'][0]}" in str(caught.value)
    assert "1 validation rows are train rows as well" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("{", "is not JSON"), ('{"train": 1}', "train:")]
)
def test_what_is_no_record_is_refused(tmp_path, content, said):
    file = tmp_path / "rows.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=said):
        apply_rows(few({"a": 2, "b": 2}), spec(rows=str(file)))
