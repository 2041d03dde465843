import csv
import json
from dataclasses import replace

import pandas as pd
import pytest
from datasets import Dataset, Image

from hf_smalldata.data.load import load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import table_of_dataset
from hf_smalldata.doctor import Finding, Report
from hf_smalldata.doctor.examination import examined
from hf_smalldata.doctor.fix import write_fixed
from hf_smalldata.doctor.source import read_source
from hf_smalldata.errors import UserError


def fix(place, out, **settings):
    spec = DataSpec(name=str(place), **settings)
    source = read_source(spec)
    write_fixed(source, examined(source.data, before=source.findings), spec, out)
    again = read_source(DataSpec(name=str(out), **settings), source.kind)
    return examined(again.data, before=again.findings)


def changes(out) -> dict[str, str]:
    with (out / "changes.csv").open(encoding="utf-8", newline="") as file:
        return {line["id"]: line["why"] for line in csv.DictReader(file)}


@pytest.fixture
def ill(made):
    """Rows by split, with a fault of each kind: (text, label)."""
    train = [(text, ("yes", "no")[at % 2]) for at, text in enumerate(made.texts(60))]
    test = [(text, ("yes", "no")[at % 2]) for at, text in enumerate(made.texts(60, seed=1))]
    test += [train[0], (train[1][0] + " x", train[1][1])]  # a leak, a near leak
    train += [train[2], (train[3][0], "yes"), ("", "yes"), (made.texts(1, seed=9)[0], "Yes ")]
    return {"train": train, "test": test}


WRITERS = {
    ".jsonl": lambda frame, file: frame.to_json(file, orient="records", lines=True, force_ascii=False),
    ".json": lambda frame, file: frame.to_json(file, orient="records", force_ascii=False),
    ".csv": lambda frame, file: frame.to_csv(file, index=False, sep=";"),
    ".tsv": lambda frame, file: frame.to_csv(file, index=False, sep="\t"),
    ".parquet": lambda frame, file: frame.to_parquet(file, index=False),
}


def test_no_change_is_told_as_a_formula_and_rows_are_as_they_were(tmp_path, ill):
    rows = [(f"=cmd()|{text}", label) for text, label in ill["train"]]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "=x.csv", index=False)
    fix(tmp_path / "=x.csv", tmp_path / "clean")
    assert "'=x.csv:63" in changes(tmp_path / "clean")
    assert all(row.startswith("'=x.csv:") for row in changes(tmp_path / "clean"))
    assert pd.read_csv(tmp_path / "clean" / "train.csv")["text"].str.startswith("=cmd()|").all()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_cleaned_table_has_its_form_and_no_finding(tmp_path, ill, suffix):
    (tmp_path / "ill").mkdir()
    for split, rows in ill.items():
        frame = pd.DataFrame(
            {"text": [text for text, _ in rows], "label": [label for _, label in rows], "note": "kept"}
        )
        WRITERS[suffix](frame, tmp_path / "ill" / f"{split}{suffix}")
    out = tmp_path / "clean"
    assert fix(tmp_path / "ill", out).of("fail", "warn") == []
    assert sorted(file.name for file in out.iterdir()) == ["changes.csv", f"test{suffix}", f"train{suffix}"]
    gone = {f"train{suffix}:{at}" for at in (0, 1, 3, 60, 61, 62)}
    assert set(changes(out)) == gone | {f"train{suffix}:63"}
    assert changes(out)[f"train{suffix}:63"] == "was 'Yes '"
    splits = load(DataSpec(name=str(out)), "text")
    assert (len(splits.train), len(splits.test), splits.labels) == (58, 62, ("no", "yes"))


def test_other_columns_and_untouched_lines_stay_as_they_are(tmp_path, made):
    lines = [json.dumps({"label": label, "text": text, "more": {"deep": [1, 2]}}) for text, label in made.rows(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, lines[4]]), encoding="utf-8")
    fix(tmp_path / "rows.jsonl", tmp_path / "clean")
    assert (tmp_path / "clean" / "train.jsonl").read_text(encoding="utf-8").splitlines() == lines


def test_a_cleaned_fasta_keeps_wrapped_records(tmp_path):
    bodies = [f"{at:08b}".replace("0", "ACCT").replace("1", "GGAT") for at in range(40)]
    records = [f">s{at} label={'ab'[at % 2]}\n{body[:10]}\n{body[10:]}\n" for at, body in enumerate(bodies)]
    (tmp_path / "x.fasta").write_text("".join([*records, records[0].replace(">s0", ">copy")]))
    fix(tmp_path / "x.fasta", tmp_path / "clean")
    assert (tmp_path / "clean" / "train.fasta").read_text() == "".join(records)


def test_a_cleaned_conll_file_keeps_tokens_and_tags(tmp_path):
    sentences = ["".join(f"w{at}{place} {'B-town' if place == 2 else 'O'}\n" for place in range(6)) for at in range(20)]
    (tmp_path / "x.conll").write_text("\n".join([*sentences, sentences[1]]))
    fix(tmp_path / "x.conll", tmp_path / "clean")
    assert (tmp_path / "clean" / "train.conll").read_text() == "\n".join(sentences).replace(" ", "\t")


def test_class_folders_are_copied_and_merged(tmp_path, photos):
    folder = photos(40)
    (folder / "A").mkdir()
    (folder / "a" / "000.png").rename(folder / "A" / "002.png")  # another photo of a name that `a` has
    (folder / "b" / "bad.png").write_bytes(b"")
    before = sorted(folder.rglob("*"))
    again = fix(folder, tmp_path / "clean")
    assert again.of("fail", "warn") == []
    assert sorted(folder.rglob("*")) == before
    assert sorted(file.name for file in (tmp_path / "clean" / "a").iterdir() if "002" in file.name) == [
        "002-2.png",
        "002.png",
    ]
    assert again.rows == {"train": 40}


def test_paths_in_a_table_still_lead_to_the_files(tmp_path, photos):
    folder = photos(20)
    rows = [{"image_path": f"photos/{file.parent.name}/{file.name}", "label": file.parent.name}
            for file in sorted(folder.glob("*/*.png"))]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    assert fix(tmp_path / "rows.jsonl", tmp_path / "clean").rows == {"train": 20}


def test_rows_of_no_file_become_parquet_that_reads_as_the_same(tmp_path, photos):
    files = sorted(photos(20).glob("*/*.png"))
    rows = Dataset.from_dict({"image": [{"bytes": file.read_bytes(), "path": None} for file in [*files, files[0]]],
                              "label": [file.parent.name for file in [*files, files[0]]]})  # fmt: skip
    table = table_of_dataset(rows.cast_column("image", Image()), "set (train)", "train")
    source = replace(read_source(DataSpec(name=str(tmp_path / "photos"))), tables={"train": table})
    report = Report((Finding("duplicates", "warn", "", drops={"train:20": "twice"}),), {})
    write_fixed(source, report, DataSpec(name="set"), tmp_path / "clean")
    again = read_source(DataSpec(name=str(tmp_path / "clean")))
    assert (again.kind, again.data.count()) == ("image", 20)


def test_an_existing_folder_is_refused_and_a_failure_leaves_nothing(tmp_path, made, monkeypatch):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in made.rows(20)))
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="is there already"):
        fix(tmp_path / "rows.jsonl", tmp_path / "there")

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("hf_smalldata.doctor.fix._write", full)
    with pytest.raises(OSError, match="disk full"):
        fix(tmp_path / "rows.jsonl", tmp_path / "clean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "there"]


def test_names_are_merged_within_a_cell_of_several_labels(tmp_path, made):
    rows = [{"text": text, "label": ("a;b", "a", "b; c")[at % 3]} for at, text in enumerate(made.texts(60))]
    rows += [{"text": text, "label": "A;c"} for text in made.texts(4, seed=1)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fix(tmp_path / "rows.jsonl", tmp_path / "clean", label_separator=";")
    lines = (tmp_path / "clean" / "train.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["label"] == "a;c"
    assert load(DataSpec(name=str(tmp_path / "clean"), label_separator=";"), "text").labels == ("a", "b", "c")
