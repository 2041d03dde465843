import json

import pytest

from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor import Report
from hf_smalldata.doctor.examination import examined
from hf_smalldata.doctor.source import read_source
from hf_smalldata.errors import UserError


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def check(place, **settings) -> Report:
    source = read_source(DataSpec(name=str(place), **settings))
    return examined(source.data, before=source.findings)


def kind(place) -> str:
    return read_source(DataSpec(name=str(place))).kind


def tagged(count):
    return [{"tokens": [f"w{at}", "in", f"Town{at}", "said", "so", "."], "tags": ["O", "O", "B-place", "O", "O", "O"]}
            for at in range(count)]  # fmt: skip


def test_the_kind_is_guessed_by_content(tmp_path, made, photos):
    texts = [{"text": text, "label": label} for text, label in made.rows(20)]
    assert kind(write(tmp_path / "text.jsonl", texts)) == "text"
    assert kind(write(tmp_path / "tokens.jsonl", tagged(20))) == "tokens"
    spans = [{"text": "Anna went", "spans": [{"start": 0, "end": 4, "label": "person"}]}] * 3
    assert kind(write(tmp_path / "spans.jsonl", spans)) == "tokens"
    dna = [{"sequence": "ACGT" * 8 + "ACGTN"[at % 5], "label": "ab"[at % 2]} for at in range(20)]
    assert kind(write(tmp_path / "dna.jsonl", dna)) == "sequence"
    (tmp_path / "x.fasta").write_text(">1 a\nACGTACGT\n>2 b\nACGTTT\n>3 a\nACG\n>4 b\nAAC\n")
    assert kind(tmp_path / "x.fasta") == "sequence"
    (tmp_path / "x.conll").write_text("Anna B-person\nwent O\n\nBob B-person\ncame O\n")
    assert kind(tmp_path / "x.conll") == "tokens"
    folder = photos(12)
    assert kind(folder) == "image"
    paths = [{"image_path": str(file), "label": file.parent.name} for file in sorted(folder.glob("*/*.png"))]
    assert kind(write(tmp_path / "paths.jsonl", paths)) == "image"


def test_incomplete_rows_are_a_warning(tmp_path, made):
    rows = [{"text": text, "label": label} for text, label in made.rows(40)]
    file = write(tmp_path / "rows.jsonl", [*rows, {"text": " ", "label": "a"}, {"text": "no label"}])
    missing = made.named(check(file), "missing")
    assert (missing.level, missing.ids) == ("warn", ("rows.jsonl:40", "rows.jsonl:41"))


def test_one_class_only_fails_and_the_other_checks_run(tmp_path, made):
    rows = [{"text": text, "label": "a"} for text in made.texts(40)]
    found = check(write(tmp_path / "rows.jsonl", [*rows, rows[0]]))
    assert made.named(found, "classes").level == "fail"
    assert made.named(found, "duplicates").ids == ("rows.jsonl:40",)


def test_labels_that_training_refuses_fail_and_the_other_checks_run(tmp_path, made):
    rows = [{"text": text, "label": f"name {at}"} for at, text in enumerate(made.texts(40))]
    found = check(write(tmp_path / "rows.jsonl", [*rows, rows[0]]))
    assert "expected a few classes" in made.named(found, "labels").sentence
    assert made.named(found, "duplicates").ids == ("rows.jsonl:40",)


def test_sequences_of_strange_letters_are_named_and_the_others_examined(tmp_path, made):
    dna = [{"sequence": "ACGTTGCA" * 4 + f"{at:04b}".replace("0", "A").replace("1", "C"), "label": "ab"[at % 2]}
           for at in range(16)]  # fmt: skip
    dna[5]["sequence"] = "ACGTXZAC" * 4
    found = check(write(tmp_path / "rows.jsonl", dna))
    bad = made.named(found, "unreadable")
    assert (bad.level, bad.ids) == ("fail", ("rows.jsonl:5",))
    assert found.rows == {"train": 15}


def test_broken_and_uneven_tags_fail_and_the_others_are_examined(tmp_path, made):
    rows = tagged(30)
    rows[3]["tags"] = ["O", "O", "I-place", "O", "O", "O"]
    rows[4]["tags"] = ["O"]
    found = check(write(tmp_path / "rows.jsonl", rows))
    tags = [(each.level, each.ids) for each in found.findings if each.name == "tags"]
    assert tags == [("fail", ("rows.jsonl:4",)), ("fail", ("rows.jsonl:3",))]
    assert found.rows == {"train": 29}


def test_broken_tags_that_the_recipe_repairs_are_a_warning(tmp_path, made):
    rows = tagged(30)
    rows[3]["tags"] = ["O", "O", "I-place", "O", "O", "O"]
    found = check(write(tmp_path / "rows.jsonl", rows), broken_tags="repair")
    assert made.named(found, "tags").level == "warn"


def test_equal_sentences_with_other_tags_are_conflicts(tmp_path, made):
    rows = tagged(30)
    rows.append({**rows[0], "tags": ["O", "O", "O", "O", "O", "O"]})
    assert made.named(check(write(tmp_path / "rows.jsonl", rows)), "conflicts").ids == ("rows.jsonl:0", "rows.jsonl:30")


def test_a_group_column_is_watched(tmp_path, made):
    rows = [{"text": text, "label": label, "writer": f"w{at // 4}"} for at, (text, label) in enumerate(made.rows(100))]
    write(tmp_path / "train.jsonl", rows[:42])
    write(tmp_path / "test.jsonl", rows[42:])
    assert made.named(check(tmp_path, group="writer"), "groups").ids == ("test.jsonl:0", "test.jsonl:1")


def test_a_file_that_is_no_table_stays_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text('text,label\n"never ends,a\n')
    with pytest.raises(UserError, match="quoted field never ends"):
        check(tmp_path / "rows.csv")


def test_spans_outside_their_text_fail_and_the_others_are_examined(tmp_path, made):
    rows = [{"text": f"Anna{at} went to town", "spans": [{"start": 0, "end": 4 + len(str(at)), "label": "person"}]}
            for at in range(30)]  # fmt: skip
    rows[2]["spans"] = [{"start": 0, "end": 900, "label": "person"}]
    rows[3]["spans"] = [{"start": 1, "end": 3, "label": "person"}]
    found = check(write(tmp_path / "rows.jsonl", rows))
    tags = [(each.level, each.ids) for each in found.findings if each.name == "tags"]
    assert tags == [("fail", ("rows.jsonl:2",)), ("fail", ("rows.jsonl:3",))]
    assert found.rows == {"train": 29}
