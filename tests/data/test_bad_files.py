"""Bad input: one message that says what was expected, what was found and what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_smalldata.data.load import load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.stream import draw_rows
from hf_smalldata.errors import UserError

GOOD = "text,label\ngood,pos\nbad,neg\n"


def error_of(tmp_path: Path, name: str, content: str | bytes, kind: str = "text", **spec) -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load(DataSpec(name=str(path), **spec), kind)
    return str(caught.value)


def error_in_memory(columns, **spec) -> str:
    with pytest.raises(UserError) as caught:
        load(DataSpec(name="x", **spec), "text", objects=columns)
    return str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path):
    (tmp_path / "reviews.csv").write_text(GOOD)
    with pytest.raises(UserError, match=r"no such file.*reviewz\.csv; did you mean 'reviews\.csv'"):
        load(DataSpec(name=str(tmp_path / "reviewz.csv")), "text")


@pytest.mark.parametrize("name", ["./nowhere", "nowhere/data.csv", "~/no_such_folder_here", "a/b/c", "reviews.csv"])
def test_what_looks_like_a_path_is_not_sought_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        load(DataSpec(name=name), "text")


def test_a_path_below_an_existing_folder_is_not_sought_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        load(DataSpec(name="data/reviews"), "text")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.json"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, name):
    assert "empty (0 bytes)" in error_of(tmp_path, name, "")


def test_a_file_of_blanks_or_of_a_header_only_has_no_rows(tmp_path):
    assert "blank space" in error_of(tmp_path, "a.csv", "\n \n")
    assert "expected rows, found none (columns: text, label)" in error_of(tmp_path, "b.csv", "text,label\n")
    assert "expected rows, found none" in error_of(tmp_path, "c.json", "[]")


@pytest.mark.parametrize("name", ["a.txt", "a.xlsx"])
def test_an_ending_that_is_not_read_is_refused(tmp_path, name):
    assert ".csv, .tsv, .json, .jsonl, .parquet" in error_of(tmp_path, name, "some text")


def test_broken_lines_are_all_named_with_their_fields(tmp_path):
    message = error_of(tmp_path, "a.csv", 'text,label\n"two\nlines",pos\nbad, oh bad,neg\nok,pos\nalone\n')
    assert message == (
        "2 problems in a.csv:\n"
        "  line 4: expected 2 fields cut by a comma, found 3\n"
        "  line 6: expected 2 fields cut by a comma, found 1"
    )


def test_of_many_broken_lines_twenty_are_named(tmp_path):
    message = error_of(tmp_path, "a.csv", "text,label\n" + "a,b,c\n" * 30)
    assert "line 21" in message
    assert "line 22" not in message
    assert "and 10 more like it" in message


def test_an_open_quote_is_named_with_the_line_it_begins_on(tmp_path):
    message = error_of(tmp_path, "a.csv", 'text,label\ngood,pos\n"never closed,neg\nbad,neg\n')
    assert "line 3: the quoted field never ends" in message


def test_a_wrong_delimiter_is_said_to_be_wrong(tmp_path):
    message = error_of(tmp_path, "a.csv", GOOD, delimiter=";")
    assert "data.delimiter is a semicolon" in message
    assert "a comma cuts it" in message
    assert "expected one character" in error_of(tmp_path, "a.csv", GOOD, delimiter=",,")


def test_another_encoding_is_named_with_offset_and_line(tmp_path):
    content = "text,label\ngood,pos\ncafé,neg\n".encode("cp1252")
    message = error_of(tmp_path, "a.csv", content)
    assert "byte 0xe9 at offset 23 (line 3)" in message
    assert "data.encoding=cp1252" in message


@pytest.mark.parametrize(("encoding", "advice"), [("utf-16", "utf-16"), ("utf-16-le", "utf-16-le")])
def test_utf_16_is_recognised(tmp_path, encoding, advice):
    assert f"data.encoding={advice}" in error_of(tmp_path, "a.csv", GOOD.encode(encoding))


def test_an_unknown_encoding_is_refused(tmp_path):
    assert "'utf8000' is no encoding" in error_of(tmp_path, "a.csv", GOOD, encoding="utf8000")


def test_a_repeated_header_is_refused(tmp_path):
    assert "found text more than once" in error_of(tmp_path, "a.csv", "text,label,text\na,b,c\n")


def test_a_missing_header_is_noticed(tmp_path):
    message = error_of(tmp_path, "a.csv", "good film,pos\nbad film,neg\nfine film,pos\ndull film,neg\n")
    assert "expected a header line" in message
    assert "'pos' is also a value" in message


def test_json_that_is_no_list_of_objects_is_refused(tmp_path):
    assert "found an object with the keys data" in error_of(tmp_path, "a.json", '{"data": []}')
    assert "item 2: expected an object" in error_of(tmp_path, "b.json", '[{"text": "a"}, "b"]')
    assert "broken JSON at line 2, column" in error_of(tmp_path, "c.json", '[{"text": "a"},\n{"text" "b"}]')


def test_broken_jsonl_lines_are_all_named(tmp_path):
    message = error_of(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b\n\n[1]\n{oops}\n')
    assert re.findall(r"line (\d+):", message) == ["2", "5"]
    assert "line 2: expected an object" in error_of(tmp_path, "b.jsonl", '{"text": "a"}\n[1]\n')


def test_a_damaged_parquet_file_is_refused(tmp_path):
    assert "expected a parquet file" in error_of(tmp_path, "a.parquet", b"PAR1 nothing of the kind")


def test_a_parquet_file_whose_texts_are_damaged_is_refused(tmp_path):
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 2, 4], dtype=np.int32)), pa.py_buffer(b"ab\xffd"))
    pq.write_table(pa.table({"text": texts, "label": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected a parquet file, found .* a damaged one: .*utf-8"):
        load(DataSpec(train=str(tmp_path / "a.parquet")), "text")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read: .*utf-8"):
        draw_rows(str(tmp_path / "a.parquet"), 2, DataSpec(train="labelled.csv"))


def test_halves_of_characters_are_refused(tmp_path):
    message = error_of(tmp_path, "a.jsonl", '{"text": "a\\ud83d", "label": 1}\n{"text": "b", "label": 2}\n')
    assert "halves of characters" in message
    assert "a.jsonl:0" in message


@pytest.mark.parametrize(("name", "kind", "content", "told"), [
    ("label.jsonl", "text", '{"text": "a", "label": "x\\ud800"}\n{"text": "b", "label": "y"}\n', "'label'"),
    ("shop.jsonl", "text", '{"text": "a", "label": 1, "shop": "\\ud800"}\n{"text": "b", "label": 2, "shop": "c"}\n',
     "'shop'"),
    ("words.csv", "tokens", 'tokens,tags\n"[""we""]","[""O""]"\n"[""a\\ud800""]","[""B-A""]"\n', "'tokens'"),
    ("tags.csv", "tokens", 'tokens,tags\n"[""we""]","[""O""]"\n"[""a""]","[""B-A\\ud800""]"\n', "'tags'"),
    ("spans.jsonl", "tokens", '{"text": "Ann", "spans": [{"start": 0, "end": 3, "label": "x\\ud800"}]}\n' * 2,
     "'spans'"),
])  # fmt: skip
def test_halves_of_characters_are_refused_wherever_they_stand(name, kind, content, told, tmp_path):
    (tmp_path / name).write_text(content)
    group = "shop" if "shop" in content else None
    with pytest.raises(UserError, match=rf"{told} holds halves of characters .*\d; mend it"):
        load(DataSpec(train=str(tmp_path / name), group=group), kind)


def test_a_missing_column_lists_those_found_and_the_nearest(tmp_path):
    message = error_of(tmp_path, "a.csv", GOOD, input_column="txt", label_column="labell", group="patient")
    assert "3 problems in a.csv" in message
    assert "no column 'txt', found text, label; did you mean 'text'?" in message
    assert "no column 'patient', found text, label\n" in message + "\n"


def test_one_column_cannot_be_text_and_label():
    columns = {"text": ["a", "b"], "label": ["x", "y"]}
    assert "are both 'label'" in error_in_memory(columns, input_column="label", label_column="label")


def test_two_columns_that_could_be_the_text_are_a_question():
    message = error_in_memory({"sentence": ["a", "b"], "review": ["c", "d"], "label": [0, 1]})
    assert "could be sentence or review; set data.input_column" in message
    pair = {"premise1": ["aaa", "bbb"], "premise2": ["cccc", "dddd"], "label": [0, 1]}
    assert "could be premise1 or premise2" in error_in_memory(pair)


def test_two_columns_that_could_be_the_label_are_a_question():
    message = error_in_memory({"text": list("abcd"), "u": list("xyxy"), "v": list("xxyy")})
    assert "could be u or v; set data.label_column" in message
    assert "found no label column among text; set data.label_column" in error_in_memory({"text": ["a", "b"]})


def test_a_test_file_without_the_label_column_is_refused():
    train, test = {"text": ["a", "b"], "label": [0, 1]}, {"text": ["c"]}
    assert "the test rows: no column 'label'" in error_in_memory({"train": train, "test": test})


def test_one_class_is_not_enough():
    assert "expected two classes or more" in error_in_memory({"text": ["a", "b"], "label": ["x", "x"]})
    assert "labelled alike" in error_in_memory({"text": ["a", "b"], "label": [["x"], ["x"]]})
    assert "found 0.5 in every row" in error_in_memory({"text": ["a", "b"], "label": [0.5, 0.5]})


def test_no_row_with_a_text_is_an_error():
    assert "no row is left" in error_in_memory({"text": ["", None], "label": [0, 1]})


def test_a_class_a_row_is_taken_for_a_mistake():
    numbers = list(range(100))
    columns = {"text": [f"t{n}" for n in numbers], "label": numbers}
    assert "has 100 values in 100 rows" in error_in_memory(columns)
    assert len(load(DataSpec(name="x", problem_type="regression"), "text", objects=columns).train) == 100


@pytest.mark.parametrize(
    ("labels", "problem_type", "said"),
    [
        (["x", "y"], "regression", "expected numbers for regression, found 'x', 'y'"),
        ([["x"], ["y"]], "single_label_classification", "holds lists"),
        ([["x"], ["y"]], "regression", "holds lists"),
        ([{"a": 1}, {"a": 2}], None, "found dict"),
    ],
)
def test_labels_that_do_not_fit_the_problem_type_are_refused(labels, problem_type, said):
    assert said in error_in_memory({"text": ["a", "b"], "label": labels}, problem_type=problem_type)


def test_label_columns_hold_zeros_and_ones_only():
    columns = {"text": ["a", "b"], "x": [0, 1], "y": [2, 0]}
    assert "train:0 y=2" in error_in_memory(columns, label_column=("x", "y"))


def test_lists_are_no_texts():
    message = error_in_memory({"tokens": [["a"], ["b"]], "label": [0, 1]}, input_column="tokens")
    assert "expected texts in column 'tokens', found list" in message


def test_train_and_test_may_not_be_one_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    with pytest.raises(UserError, match="are the same source"):
        load(DataSpec(train=str(path), test=str(tmp_path / "." / "a.csv")), "text")


def test_two_files_for_one_split_are_a_question(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "train.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match=r"train: train\.csv, train\.json"):
        load(DataSpec(name=str(tmp_path)), "text")


def test_a_folder_without_what_is_read_says_what_it_holds(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    for kind, said in (("text", "expected files such as train.csv"), ("image", "a folder of images for each class")):
        with pytest.raises(UserError, match=f"{said}.*notes.md"):
            load(DataSpec(name=str(tmp_path)), kind)


def test_a_folder_one_too_high_names_the_one_below(tmp_path):
    for domain in ("photo", "sketch"):
        for name in ("cat", "dog"):
            (tmp_path / domain / name).mkdir(parents=True)
            Image.new("L", (2, 2)).save(tmp_path / domain / name / "1.png")
    with pytest.raises(UserError, match=r"did you mean one of its folders, such as .*photo"):
        load(DataSpec(name=str(tmp_path)), "image")


def test_damaged_images_are_all_named_in_one_error(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "good.png")
    (tmp_path / "cat" / "empty.png").touch()
    (tmp_path / "dog" / "text.jpg").write_text("no image")
    with pytest.raises(UserError) as caught:
        load(DataSpec(name=str(tmp_path)), "image")
    message = str(caught.value)
    assert "2 of 4 images can't be opened" in message
    assert "empty.png: the file is empty (0 bytes)" in message
    assert "text.jpg: not an image" in message


def test_missing_images_of_a_table_are_named(tmp_path):
    assert "gone.png: no such file" in error_of(tmp_path, "a.csv", "path,label\ngone.png,x\nlost.png,y\n", "image")


@pytest.mark.parametrize("rows", [[1, 2], "text", pd.Series(["a"]), {"text": ["a", "b"], "label": [1]}, {"text": 3}])
def test_objects_of_no_use_are_refused(rows):
    assert "expected" in error_in_memory(rows)


def test_splits_of_unknown_names_are_refused():
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    assert "found first" in error_in_memory({"first": frame})
    assert "expected training rows" in error_in_memory({"test": frame})


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000])
def test_numbers_too_large_to_be_one_are_named(number, tmp_path):
    lines = "".join(f'{{"text": "row {at}", "label": {at}.5}}\n' for at in range(5))
    message = error_of(tmp_path, "a.jsonl", f'{lines}{{"text": "last", "label": {number}}}\n')
    assert "expected numbers for regression, found 99" in message or "line 6: broken JSON: Exceeds the limit" in message


def test_lists_in_cells_of_a_table_are_read_and_broken_ones_named(tmp_path):
    rows = 'tokens,tags\n"[""we"", ""saw"", ""Ann""]","[""O"", ""O"", ""B-x""]"\nwe left Bob,O O B-x\n'
    (tmp_path / "a.csv").write_text(rows)
    splits = load(DataSpec(name=str(tmp_path / "a.csv")), "tokens")
    assert splits.train["tokens"][:] == [["we", "saw", "Ann"], ["we", "left", "Bob"]]
    assert splits.train["label"][:] == [[0, 0, 1]] * 2
    for broken in (rows.replace('""Ann""]', '""Ann'), rows.replace('""B-x""]', '""B-x')):
        assert "expected a list a row, found other things or broken JSON in a.csv:0" in error_of(
            tmp_path, "a.csv", broken, "tokens"
        )


def test_tags_by_number_are_refused_with_what_to_write(tmp_path):
    message = error_of(tmp_path, "a.jsonl", '{"tokens": ["we", "sang"], "tags": [0, 1]}\n' * 2, "tokens")
    assert "expected tags by their names, such as O and B-drug, found 0, 1; write the name" in message
