"""Draws of rows from sources too large to hold: even, repeatable, from shards of each kind, of the files alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from pydantic import ValidationError

from hf_smalldata.data import stream
from hf_smalldata.data.domains import table_of
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.stream import draw_rows
from hf_smalldata.errors import UserError
from hf_smalldata.testing import image_folder, text_rows

COUNT = 60


def spec(**more) -> DataSpec:
    return DataSpec(train="labelled.csv", **more)


def write(folder, kind):
    """Three shards of COUNT texts in all, `text 0` to `text 59`, and a folder for them."""
    folder.mkdir()
    for at, part in enumerate(np.array_split(np.arange(COUNT), 3)):
        rows = pd.DataFrame({"text": [f"text {number}" for number in part], "shop": ["ab"[n % 2] for n in part]})
        file = folder / f"part-{at}.{kind}"
        if kind == "parquet":
            rows.to_parquet(file)
        elif kind == "jsonl":
            file.write_text("\n".join(json.dumps(row) for row in rows.to_dict("records")))
        elif kind == "txt":
            file.write_text("\n".join(rows["text"]))
        else:
            rows.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv", "txt"])
def test_rows_of_shards_of_each_kind_are_drawn_with_their_places(kind, tmp_path):
    folder = write(tmp_path / "shards", kind)
    table = draw_rows(str(folder), 10, spec())
    places = [int(row_id.split(":")[1]) for row_id in table.ids]
    assert places == sorted(set(places))
    assert len(places) == 10
    assert table.columns["text"] == [f"text {place}" for place in places]
    again, other = draw_rows(str(folder), 10, spec()), draw_rows(str(folder), 10, spec(split_seed=1))
    assert again.ids == table.ids != other.ids
    one = draw_rows(str(folder / f"part-1.{kind}"), 1000, spec())
    assert one.columns["text"] == [f"text {number}" for number in range(20, 40)]


def test_each_row_is_as_likely_as_any_other_however_small_the_batches(tmp_path, monkeypatch):
    folder = write(tmp_path / "shards", "parquet")
    monkeypatch.setattr(stream, "BATCH", 7)
    drawn = [draw_rows(str(folder), 6, spec(split_seed=seed)).ids for seed in range(100)]
    assert {len(ids) for ids in drawn} == {6}
    counts = np.bincount([int(row_id.split(":")[1]) for ids in drawn for row_id in ids], minlength=COUNT)
    expected = 100 * 6 / COUNT
    assert ((counts - expected) ** 2 / expected).sum() < 112  # chi square of 59 degrees of freedom: p > 0.00003


def test_images_and_class_names_of_parquet_keep_what_they_are(tmp_path):
    files = sorted(str(file) for file in image_folder(tmp_path / "photos", 6).rglob("*.*"))
    kinds = Features({"image": Image(), "shop": ClassLabel(names=["a", "b"]), "note": Value("string")})
    rows = {"image": files, "shop": [at % 2 for at in range(len(files))], "note": files}
    Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "rows.parquet")
    table = draw_rows(str(tmp_path / "rows.parquet"), 4, spec())
    assert table.label_names == {"shop": ("a", "b")}
    assert len(table.columns["image"]) == 4


def test_several_sources_give_even_shares_and_folders_of_files_are_drawn_from_too(tmp_path):
    sources = [str(write(tmp_path / name, "jsonl")) for name in ("one", "two")]
    tables = [table_of(source, spec(unlabelled=sources, unlabelled_rows=9), "text", 2) for source in sources]
    assert [len(table.ids) for table in tables] == [5, 5]
    photos = image_folder(tmp_path / "photos", 6)
    table = table_of(str(photos), spec(unlabelled=str(photos), unlabelled_rows=4), "image")
    assert len(table.ids) == 4 < len(table_of(str(photos), spec(unlabelled=str(photos)), "image").ids)


def test_a_training_learns_from_the_drawn_rows_alone(command, kits, tmp_path):
    table = text_rows(8)
    labels = [str(label) for label in table["label"]]
    pd.DataFrame({"text": table["text"], "label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    folder = write(tmp_path / "shards", "parquet")
    code, _, wrong = command(
        "train", "--task", "text-classification", "--model", kits["text-classification"].folder, "--data",
        tmp_path / "rows.csv", f"data.unlabelled={folder}", "data.unlabelled_rows=12", "techniques=[mcc]",
        "train.num_train_epochs=1", "--output", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, wrong
    assert json.loads((tmp_path / "run/smalldata/metrics.json").read_text())["rows"]["unlabelled"] == 12


def test_what_cannot_be_read_in_parts_is_one_error(tmp_path):
    folder = write(tmp_path / "shards", "csv")
    (folder / "more.jsonl").write_text('{"text": "a"}')
    with pytest.raises(UserError, match=r"files of one kind.*found \.csv, \.jsonl"):
        draw_rows(str(folder), 4, spec())
    (tmp_path / "rows.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"data\.unlabelled_rows: .*rows\.xlsx: expected .*\.parquet"):
        draw_rows(str(tmp_path / "rows.xlsx"), 4, spec())
    for name, content in (("broken.jsonl", '{"text": "a"\n{"x'), ("broken.parquet", "PAR1 no"), ("none.jsonl", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=rf"data\.unlabelled: .*{name} (cannot be read|holds no rows)"):
            draw_rows(str(tmp_path / name), 4, spec())
    with pytest.raises(UserError, match=r"'nobody/nothing' is no file .* taken for a Hub data set"):
        draw_rows("nobody/nothing", 4, spec())
    with pytest.raises(UserError, match=r"no such file or folder: .*shards.none\.parquet"):
        draw_rows(str(folder / "none.parquet"), 4, spec())
    with pytest.raises(UserError, match="bundled/bbc-news is small; leave unlabelled_rows out"):
        draw_rows("bundled/bbc-news", 4, spec())
    with pytest.raises(ValidationError, match="unlabelled_rows"):
        spec(unlabelled="rest", unlabelled_rows=4)
