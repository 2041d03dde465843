"""Folds: every row tested once, no group on both sides, classes spread evenly, whatever the order of the rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hf_smalldata.data.folds import folds
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError


def rows_of(labels, texts=None, **columns) -> Splits:
    texts = texts or [f"text {at}" for at in range(len(labels))]
    spec = DataSpec(name="rows", group="group" if columns else None)
    return load(spec, "text", objects={"text": texts, "label": labels, **columns})


def few(per_class: dict[str, int]) -> Splits:
    return rows_of([name for name, count in per_class.items() for _ in range(count)])


def turned(splits: Splits) -> Splits:
    order = np.random.default_rng(0).permutation(len(splits.train))
    return replace(splits, train=splits.train.select(order))


def rows_judged(cuts: list[Splits]) -> list[set[str]]:
    return [set(cut.test["id"]) for cut in cuts]


def multi_label(count: int) -> Splits:
    every = {"a": 2, "b": 5, "c": 9, "d": 7}
    return rows_of([[name for name, step in every.items() if at % step == 0] for at in range(count)])


KINDS = {
    "classes": few({"a": 31, "b": 17, "c": 6}),
    "groups": rows_of([at // 2 % 3 for at in range(90)], group=[f"g{at // 3}" for at in range(90)]),
    "multi-label": multi_label(90),
    "values": rows_of([at**2 / 7 for at in range(50)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_tested_once_and_never_by_a_model_that_learnt_it(kind):
    splits = KINDS[kind]
    cuts = folds(splits, 5, 0, 0)
    every = set(splits.train["id"])
    assert len(cuts) == 5
    assert sum(len(cut.test) for cut in cuts) == len(every)
    for cut in cuts:
        assert cut.validation is None
        assert len(cut.test) + len(cut.train) == len(every)
        assert set(cut.test["id"]) | set(cut.train["id"]) == every
        assert cut.warnings == splits.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_folds_depend_on_seed_repeat_and_ids_and_not_on_the_order_of_rows(kind):
    splits = KINDS[kind]
    chosen = rows_judged(folds(splits, 3, 0, 0))
    assert rows_judged(folds(turned(splits), 3, 0, 0)) == chosen
    assert rows_judged(folds(splits, 3, 1, 0)) != chosen
    assert rows_judged(folds(splits, 3, 0, 1)) != chosen


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("sizes", [(40, 40), (101, 37, 10), tuple(range(10, 30))])
def test_single_rows_are_spread_to_one_row_in_each_class_and_in_all(sizes, count):
    splits = few({f"c{at:02}": size for at, size in enumerate(sizes)})
    cuts = folds(splits, count, 0, 0)
    counts = np.array([np.bincount(cut.test["label"], minlength=len(sizes)) for cut in cuts])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_no_group_lies_in_two_folds():
    cuts = folds(KINDS["groups"], 5, 0, 0)
    for cut in cuts:
        assert not set(cut.test["group"]) & set(cut.train["group"])
        assert set(cut.test["label"]) == {0, 1, 2}
    assert max(len(cut.test) for cut in cuts) <= 21


def test_identical_texts_lie_in_one_fold():
    texts = [f"text {at // 3}" + " " * (at % 3) for at in range(90)]
    for cut in folds(rows_of([at // 3 % 2 for at in range(90)], texts), 3, 0, 0):
        train, test = ({" ".join(text.split()) for text in rows["text"]} for rows in (cut.train, cut.test))
        assert not train & test
        assert len(cut.test) == 30


def test_every_label_of_a_multi_label_set_is_in_every_fold_about_evenly():
    splits = multi_label(180)
    counts = np.array([np.asarray(cut.test["label"]).sum(axis=0) for cut in folds(splits, 5, 0, 0)])
    share = np.asarray(splits.train["label"]).sum(axis=0) / 5
    assert np.all(counts >= 1)
    assert np.all(np.abs(counts - share) <= 3)


def test_values_are_tested_over_their_whole_range_in_every_fold():
    for cut in folds(rows_of([at + 0.5 for at in range(100)]), 5, 0, 0):
        assert Counter(int(value // 10) for value in cut.test["label"]) == dict.fromkeys(range(10), 2)


def test_as_many_folds_as_rows_leave_one_value_out():
    assert [len(cut.test) for cut in folds(rows_of([0.5, 1.5, 2.5, 4.0, 9.0]), 5, 0, 0)] == [1] * 5


def test_a_class_whose_groups_all_fell_into_one_fold_is_told(monkeypatch):
    splits = KINDS["groups"]
    where = (np.asarray(splits.train["label"]) == 2).astype(int)
    monkeypatch.setattr("hf_smalldata.data.folds._deal", lambda *_: where)
    assert [cut.warnings[len(splits.warnings) :] for cut in folds(splits, 2, 0, 0)] == [
        ("fold 0 is judged by a model that saw no row of 0, 1: all its groups fell there",),
        ("fold 1 is judged by a model that saw no row of 2: all its groups fell there",),
    ]


def test_classes_with_fewer_rows_than_folds_are_listed():
    expected = "--folds: 5 folds need 5 rows of each class; mould has 3, rust has 4; use --folds 3 or fewer"
    with pytest.raises(UserError) as caught:
        folds(few({"fine": 20, "mould": 3, "rust": 4}), 5, 0, 0)
    assert str(caught.value) == expected
    assert len(folds(few({"fine": 20, "mould": 3, "rust": 4}), 3, 0, 0)) == 3


def test_a_class_needs_groups_and_not_rows_alone():
    splits = rows_of(["a", "b"] * 20, group=[f"g{at // 10}" for at in range(40)])
    with pytest.raises(UserError, match=r"5 folds need 5 groups of rows .* a has 4, b has 4; use --folds 4 or fewer"):
        folds(splits, 5, 0, 0)


def test_a_class_of_one_row_cannot_be_cross_validated():
    with pytest.raises(UserError, match="rare has 1; two folds need two of each: add rows"):
        folds(few({"a": 5, "rare": 1}), 2, 0, 0)


def test_more_folds_than_groups_of_values_are_refused():
    splits = rows_of([at + 0.5 for at in range(12)], group=[f"g{at % 3}" for at in range(12)])
    with pytest.raises(UserError, match=r"4 folds need 4 groups of rows .*; found 3; use --folds 3 or fewer"):
        folds(splits, 4, 0, 0)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_fewer_than_two_folds_are_refused(count):
    with pytest.raises(UserError, match=f"expected 2 folds or more, got {count}"):
        folds(few({"a": 5, "b": 5}), count, 0, 0)
