"""Label cells: the problem they pose, the names they give, the numbers they become."""

from __future__ import annotations

import random

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.spec import DataSpec


def read(columns: dict, **spec) -> Splits:
    return load(DataSpec(name="rows", **spec), "text", objects=columns)


def test_label_order_does_not_depend_on_the_order_of_rows():
    rows = [(f"t{at}", label) for at, label in enumerate(["10", "9", "2", "10"])]
    shuffled = random.Random(0).sample(rows, len(rows))
    names = [read({"text": [t for t, _ in r], "label": [v for _, v in r]}).labels for r in (rows, shuffled)]
    assert names == [("2", "9", "10")] * 2  # whole numbers by size, not by alphabet


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([True, False], ("false", "true")),
        (["True", "False"], ("false", "true")),
        ([1.0, 2.0], ("1", "2")),
        (["007", "08"], ("007", "08")),
        ([3, -1], ("-1", "3")),
    ],
)
def test_labels_of_any_kind_are_named(cells, names):
    assert read({"text": ["a", "b"], "label": cells}).labels == names


def test_numbers_with_a_fraction_are_regression_unless_told_otherwise():
    columns = {"text": ["a", "b", "c"], "label": ["0.5", "1.0", "2.5"]}
    splits = read(columns)
    assert (splits.problem_type, splits.labels, splits.train["label"][0]) == ("regression", (), 0.5)
    assert read(columns, problem_type="single_label_classification").labels == ("0.5", "1.0", "2.5")
    override = load(DataSpec(name="x"), "text", "regression", {"text": ["a", "b"], "label": [1, 2]})
    assert list(override.train["label"]) == [1.0, 2.0]


def test_multi_label_comes_as_lists_separated_cells_or_columns():
    lists = read({"text": ["a", "b", "c"], "label": [["x", "y"], [], ["y"]]})
    cells = read({"text": ["a", "b", "c"], "label": ["x; y", "", "y"]}, label_separator=";")
    columns = read({"text": ["a", "b", "c"], "x": [1, 0, 0], "y": ["1", "0", "1"]}, label_column=("x", "y"))
    hot = read({"text": ["a", "b", "c"], "label": [[1, 1], [0, 0], [0, 1]]})
    feature = Features(text=Value("string"), label=List(ClassLabel(names=["x", "y"])))
    named = read(Dataset.from_dict({"text": ["a", "b", "c"], "label": [[0, 1], [], [1]]}, features=feature))
    for splits in (lists, cells, columns, hot, named):
        assert splits.problem_type == "multi_label_classification"
        assert list(splits.train["label"]) == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    assert lists.labels == cells.labels == columns.labels == named.labels == ("x", "y")


def test_labels_without_training_rows_are_kept_and_warned_of():
    train, test = {"text": ["a", "b"], "label": ["x", "z"]}, {"text": ["c"], "label": ["y"]}
    splits = read({"train": train, "test": test})
    assert splits.labels == ("x", "y", "z")
    assert splits.warnings == ("no training row has the label y: it cannot be learnt",)


def test_labels_that_look_alike_are_warned_of_with_their_counts():
    splits = read({"text": list("abcd"), "label": ["positive", "Positive ", "negative", "positive"]})
    assert "'Positive ' (1 rows) and 'positive' (2 rows)" in splits.warnings[0]
    assert len(splits.labels) == 3
