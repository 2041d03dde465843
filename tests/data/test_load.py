"""Sources, columns and labels: what is read and what it becomes."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image

from hf_smalldata.data import hub
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError

ROWS = [("good film", "pos"), ("bad film", "neg"), ("fine film", "pos"), ("dull film", "neg")]


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return str(path)


def csv_text(rows=ROWS, header="text,label", delimiter=",") -> str:
    return "\n".join([header, *(delimiter.join(map(str, row)) for row in rows)]) + "\n"


def read(columns: dict, **spec) -> Splits:
    return load(DataSpec(name="rows", **spec), "text", objects=columns)


def pictured(pictures: list[Image.Image], labels: list[int]) -> Dataset:
    features = Features(image=datasets.Image(), label=ClassLabel(names=["z", "a"]))
    return Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def test_csv_rows_carry_id_text_and_label_index(tmp_path):
    splits = load(DataSpec(name=write(tmp_path / "reviews.csv", csv_text())), "text")
    assert splits.train.column_names == ["id", "text", "label"]
    assert splits.train[1] == {"id": "reviews.csv:1", "text": "bad film", "label": 0}
    assert splits.labels == ("neg", "pos")
    assert splits.problem_type == "single_label_classification"
    assert (splits.validation, splits.test, splits.warnings) == (None, None, ())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_even_when_texts_hold_commas(tmp_path, delimiter):
    rows = [(f'"{text}, {text}; so | so"', label) for text, label in ROWS]
    text = csv_text(rows, f"text{delimiter}label", delimiter)
    splits = load(DataSpec(name=write(tmp_path / "a.csv", text)), "text")
    assert splits.train[0]["text"] == "good film, good film; so | so"


def test_unquoted_commas_do_not_hide_a_semicolon(tmp_path):
    text = csv_text([("well, good", "pos"), ("bad, oh, bad", "neg")], "text;label", ";")
    assert load(DataSpec(name=write(tmp_path / "a.csv", text)), "text").train["text"][1] == "bad, oh, bad"


def test_quoted_fields_may_hold_line_breaks_and_doubled_quotes(tmp_path):
    text = 'text,label\r\n"two\r\nlines, ""so""",pos\r\nbad,neg\r\n\r\n'
    splits = load(DataSpec(name=write(tmp_path / "a.csv", text)), "text")
    assert splits.train["text"][0] == 'two\r\nlines, "so"'
    assert len(splits.train) == 2


def test_tab_separated_texts_may_carry_bare_quotes(tmp_path):
    text = 'text\tlabel\n"Great" film\tpos\n"never closed\tneg\n'
    assert load(DataSpec(name=write(tmp_path / "a.tsv", text)), "text").train["text"][0] == '"Great" film'


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    splits = load(DataSpec(name=write(tmp_path / "a.csv", "\ufeff" + csv_text())), "text")
    assert len(splits.train) == 4


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_given_encoding_reads_the_file(tmp_path, encoding):
    path = write(tmp_path / "a.csv", csv_text([("café", "pos"), ("thé", "neg")]), encoding)
    assert load(DataSpec(name=path, encoding=encoding), "text").train["text"][0] == "café"


def test_a_text_of_a_megabyte_is_read(tmp_path):
    path = write(tmp_path / "a.csv", csv_text([("a" * 10**6, "pos"), ("b", "neg")]))
    assert len(load(DataSpec(name=path), "text").train["text"][0]) == 10**6


def test_json_jsonl_and_parquet_give_the_same_rows(tmp_path):
    objects = [{"text": text, "label": label} for text, label in ROWS]
    write(tmp_path / "a.json", json.dumps(objects))
    write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, objects)))
    write(tmp_path / "c.json", "\n".join(map(json.dumps, objects)))  # an object a line, in a .json file
    pd.DataFrame(objects).to_parquet(tmp_path / "d.parquet")
    read_all = [
        load(DataSpec(name=str(tmp_path / name)), "text") for name in ("a.json", "b.jsonl", "c.json", "d.parquet")
    ]
    assert all(list(s.train["text"]) == [text for text, _ in ROWS] for s in read_all)
    assert all(list(s.train["label"]) == [1, 0, 1, 0] for s in read_all)


def test_jsonl_rows_may_have_different_keys(tmp_path):
    lines = ['{"text": "a", "label": "x", "more": 1}', '{"label": "y", "text": "b"}', '{"text": "c"}']
    splits = load(DataSpec(name=write(tmp_path / "a.jsonl", "\n".join(lines))), "text")
    assert len(splits.train) == 2
    assert "1 of 3 rows have no 'label': a.jsonl:2; left out" in splits.warnings[0]


def test_a_folder_of_files_gives_its_splits(tmp_path):
    for name in ("train.csv", "dev.csv", "test.csv", "train_5.csv"):
        write(tmp_path / name, csv_text())
    splits = load(DataSpec(name=str(tmp_path)), "text")
    assert splits.validation["id"][0] == "dev.csv:0"
    assert splits.test["id"][0] == "test.csv:0"


def test_each_split_may_name_its_own_file_and_ids_stay_unique(tmp_path):
    train, test = write(tmp_path / "a" / "rows.csv", csv_text()), write(tmp_path / "b" / "rows.csv", csv_text())
    splits = load(DataSpec(train=train, test=test), "text")
    assert splits.train["id"][0] == "train/rows.csv:0"
    assert splits.test["id"][0] == "test/rows.csv:0"


def test_validation_may_be_the_test_split_of_name_and_serves_once(tmp_path):
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name, csv_text())
    splits = load(DataSpec(name=str(tmp_path), validation="test"), "text")
    assert splits.validation["id"][0] == "test.csv:0"
    assert splits.test is None


def test_image_folders_with_splits_have_paths_as_ids_and_stay_undecoded(tmp_path):
    for split, name in (("train", "ants"), ("train", "bees"), ("val", "ants"), ("val", "bees")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(folder / "x.png")
    write(tmp_path / "train" / "ants" / "notes.txt", "no image")
    splits = load(DataSpec(name=str(tmp_path)), "image")
    assert splits.train.column_names == ["id", "image", "label"]
    assert splits.train[0] == {
        "id": "train/ants/x.png",
        "image": {"bytes": None, "path": str(tmp_path / "train" / "ants" / "x.png")},
        "label": 0,
    }
    assert splits.labels == ("ants", "bees")
    assert "notes.txt" in splits.warnings[0]
    alone = load(DataSpec(train=str(tmp_path / "train"), test=str(tmp_path / "val")), "image")
    assert list(alone.train["id"]) == list(splits.train["id"])


def test_classes_may_be_called_train(tmp_path):
    for name in ("train", "plane"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "1.png")
    assert load(DataSpec(name=str(tmp_path)), "image").labels == ("plane", "train")


def test_image_paths_of_a_csv_are_relative_to_the_csv(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    path = write(tmp_path / "rows.csv", "path,label,group\na.png,x,g1\nb.png,y,\n")
    splits = load(DataSpec(name=path, group="group"), "image")
    assert splits.train.column_names == ["id", "image", "label", "group"]
    assert splits.train[0]["image"]["path"] == str(tmp_path / "a.png")
    assert list(splits.train["group"]) == ["g1", "rows.csv:1"]


def test_images_in_memory_become_bytes():
    pictures = [Image.new("RGB", (2, 2), color) for color in ("red", "blue", "green")]
    from_lists = load(DataSpec(name="x"), "image", objects={"image": pictures, "label": ["a", "b", None]})
    rows = pictured(pictures, [0, 1, 0])
    from_dataset = load(DataSpec(name="x"), "image", objects={"train": rows, "test": rows.select([1, 0])})
    assert from_lists.train[0]["image"]["bytes"].startswith(b"\x89PNG")
    assert len(from_lists.train) == 2
    assert from_dataset.test[0]["image"] == from_dataset.train[1]["image"]
    assert from_dataset.labels == ("z", "a")


def test_a_dataset_with_dropped_rows_keeps_images_and_labels_together():
    pictures = [Image.new("RGB", (2, 2), color) for color in ("red", "blue", "green")]
    rows = pictured(pictures, [0, -1, 1])
    whole = load(DataSpec(name="x"), "image", objects=rows.filter(lambda row: row["label"] >= 0))
    splits = load(DataSpec(name="x"), "image", objects=rows)
    assert list(splits.train["id"]) == ["train:0", "train:2"]
    assert splits.train[1]["image"] == whole.train[1]["image"]


@pytest.mark.parametrize("kind", ["frame", "dataset", "lists", "splits"])
def test_rows_in_memory_are_read_in_every_form(kind):
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    rows = Dataset.from_dict(columns)
    objects = {
        "frame": {"train": pd.DataFrame(columns), "test": pd.DataFrame(columns)},
        "dataset": DatasetDict(train=rows, validation=rows, test=rows),
        "lists": columns,
        "splits": {"train": columns, "test": rows},
    }[kind]
    splits = load(DataSpec(name="reviews"), "text", objects=objects)
    assert splits.train["id"][3] == "train:3"
    assert list(splits.train["label"]) == [1, 0, 1, 0]
    assert (splits.test is None) == (kind == "lists")


def test_columns_are_found_by_name_then_by_content(tmp_path):
    by_name = read({"id": [1, 2], "title": ["a", "b"], "Review": ["long one", "short"], "sentiment": ["x", "y"]})
    assert list(by_name.train["text"]) == ["long one", "short"]
    words = ["one two three", "four five six", "seven eight nine", "ten eleven twelve"]
    by_content = read({"n": [1.5, 2.5, 3.5, 4.5], "words": words, "kind": ["x", "y", "x", "y"]})
    assert list(by_content.train["text"]) == words
    assert by_content.labels == ("x", "y")


def test_a_text_pair_is_kept_when_named():
    splits = read({"a": ["p", "q"], "b": ["r", "s"], "label": [0, 1]}, input_column="a", text_pair_column="b")
    assert splits.train[1] == {"id": "train:1", "text": "q", "text_pair": "s", "label": 1}


def test_rows_without_text_or_label_are_left_out_and_named():
    splits = read({"text": ["a", " ", "b", None, "c"], "label": ["x", "y", "y", "x", None]})
    assert list(splits.train["id"]) == ["train:0", "train:2"]
    assert splits.warnings == (
        "the train rows: 2 of 5 rows have an empty 'text': train:1, train:3; left out",
        "the train rows: 1 of 5 rows have no 'label': train:4; left out",
    )


def test_a_test_split_with_hidden_labels_is_not_used():
    features = Features(text=Value("string"), label=ClassLabel(names=["n", "p"]))
    train = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    test = Dataset.from_dict({"text": ["c", "d"], "label": [-1, -1]}, features=features)
    splits = read({"train": train, "test": test})
    assert splits.test is None
    assert "carry no labels" in splits.warnings[0]


def test_a_hub_data_set_gives_its_splits_and_label_names(monkeypatch):
    features = Features(text=Value("string"), label=ClassLabel(names=["z", "a"]))
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    calls = []

    def load_dataset(name, config, revision):
        calls.append((name, config, revision))
        return DatasetDict(train=rows, dev=rows, unsupervised=rows)

    monkeypatch.setattr(hub.datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)
    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub.datasets.config, "HF_HUB_OFFLINE", False)
    splits = load(DataSpec(name="me/reviews", config="en", revision="v1"), "text")
    assert calls == [("me/reviews", "en", "v1")]
    assert splits.labels == ("z", "a")
    assert splits.validation["id"][1] == "dev:1"


@pytest.mark.parametrize("why", ["no network", "offline"])
def test_an_unreachable_hub_is_one_error_that_names_the_bundled_sets(monkeypatch, why):
    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: why == "offline")
    monkeypatch.setattr(hub, "_hub_answers", lambda: why == "offline")
    with pytest.raises(UserError, match=r"me/reviews(?s:.)*bundled/bbc-news, bundled/mnist-5k"):
        load(DataSpec(name="me/reviews"), "text")


def test_two_hundred_thousand_rows_are_read_in_seconds(tmp_path):
    rows = "".join(f"text number {at},{'pos' if at % 2 else 'neg'}\n" for at in range(200_000))
    splits = load(DataSpec(name=write(tmp_path / "a.csv", "text,label\n" + rows)), "text")
    assert len(splits.train) == 200_000
