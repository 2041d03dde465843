"""Files of predictions: what stands in them when inputs come from anyone."""

from __future__ import annotations

import csv
import json

import pytest
from datasets import Dataset

from hf_smalldata.prediction import longest_first, write_predictions

ANSWER = [{"label": "good", "score": 0.9}]


@pytest.mark.parametrize("name", ["=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula_and_jsonl_has_names_as_they_are(name, tmp_path):
    write_predictions(tmp_path / "out.csv", [name], [ANSWER])
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "label", "score"], [f"'{name}", "good", "0.9"]]
    write_predictions(tmp_path / "out.jsonl", [name], [ANSWER])
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == name


@pytest.mark.parametrize("name", ["-1", "+2.5", "a=b", "", "it's"])
def test_cells_that_are_no_formula_stay_as_they_are(name, tmp_path):
    write_predictions(tmp_path / "out.csv", [name], [ANSWER])
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == [name, "good", "0.9"]


def test_texts_of_like_length_stand_together_and_all_else_stays_in_its_order():
    assert longest_first(Dataset.from_dict({"text": ["a", "four", "b", "two"]})) == [1, 3, 0, 2]
    assert longest_first(Dataset.from_dict({"text": ["a", "four"], "text_pair": ["seventh", ""]})) == [0, 1]
    assert longest_first(Dataset.from_dict({"image": ["long.png", "a.png"], "id": ["x", "yy"]})) == [0, 1]
