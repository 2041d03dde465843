"""`hf-smalldata augment`: what it shows, writes and refuses, and whose rows it never touches."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageOps

from hf_smalldata import cli, variants
from hf_smalldata.augmentation.difference import Piece, brief, compared, difference, substituted, written
from hf_smalldata.augmentation.files import write
from hf_smalldata.data.load import load
from hf_smalldata.data.made import real, rng_of, with_made
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import TASKS
from hf_smalldata.technique import Technique
from hf_smalldata.techniques import REGISTRY
from hf_smalldata.training.batching import EncodedRows
from hf_smalldata.whole import alone


class Refuses(Technique):
    """Cannot work with any rows; has an `example` hook."""

    name = "refuses"
    tasks = frozenset(TASKS)

    def check(self, train, ctx):
        raise UserError(f"refuses: {len(train)} rows are not for me")

    def example(self, example):
        return example


class Swap(Technique):
    """A `rows` hook: two variants of each row, of which some stay as they are."""

    name = "swap"
    tasks = frozenset(TASKS)

    def rows(self, train, ctx):
        return with_made(train, [self._made(row, ctx, at) for row in real(train) for at in range(2)], self.name)

    def _made(self, row, ctx, at):
        first = int(rng_of(ctx.seed, row["id"], at).integers(0, 4))
        name = "tokens" if ctx.task.kind == "tokens" else ctx.task.kind
        parts = list(row["tokens"]) if name == "tokens" else row["text"].split()
        parts[first : first + 2] = parts[first : first + 2][::-1]
        made = {"tokens": parts} if name == "tokens" else {}
        return {**row, **made, "text": " ".join(parts), "parent": row["id"]}


class Turn(Technique):
    """An `example` hook: half of the draws of an image are mirrored; of a sequence, one letter becomes N."""

    name = "turn"
    tasks = frozenset({"image-classification", "sequence-classification"})

    def example(self, example):
        if "image" in example:
            turned = ImageOps.mirror(example["image"]) if example["rng"].random() < 0.5 else example["image"]
            return {**example, "image": turned}
        at = int(example["rng"].integers(len(example["sequence"])))
        return {**example, "sequence": f"{example['sequence'][:at]}N{example['sequence'][at + 1 :]}"}


class Leak(Technique):
    """Makes rows of held-out texts, and leaves out one training row."""

    name = "leak"
    tasks = frozenset({"text-classification"})
    text: str = ""

    def rows(self, train, ctx):
        return with_made(train.select(range(1, len(train))), [{**train[1], "text": self.text, "parent": None}], "leak")


@pytest.fixture
def recipe(kits, sources):
    """Task and techniques -> a recipe on files of rows."""

    def make(task: str, *techniques: object, **data: object) -> Recipe:
        content = {"task": task, "data": {**sources[task], **data}, "model": kits[task].spec.model_dump(),
                   "techniques": techniques}  # fmt: skip
        return Recipe.parse(content)

    return make


@pytest.fixture
def command(recipe, tmp_path, monkeypatch, capsys):
    """A task, and words of the command line -> exit code, standard output, standard error."""
    monkeypatch.setitem(REGISTRY, "swap", f"{__name__}:Swap")
    monkeypatch.setitem(REGISTRY, "turn", f"{__name__}:Turn")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])

    def run(task: str, *words: object, technique: str | None = None) -> tuple[int, str, str]:
        file = tmp_path / "recipe.yaml"
        default = "random_crop" if task.startswith("audio") else "turn" if task[:3] in ("ima", "seq") else "swap"
        file.write_text(yaml.safe_dump(recipe(task, technique or default).as_dict()))
        monkeypatch.setattr(sys, "argv", ["hf-smalldata", "augment", str(file), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return run


def test_texts_are_shown_as_differences_of_words_and_counts_come_last(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("text-classification", "--show", 3)
    assert code == 0
    lines = out.strip().splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("train.csv:")] == ["animals", "food", "weather"]
    assert sum("[-" in line and "{+" in line for line in lines) >= 4
    made, unchanged, dropped = (int(word) for word in lines[-1].split() if word.isdigit() and word != "3")
    assert made + unchanged + dropped == 6
    assert lines[-1].startswith("3 training rows: swap ")
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


def test_words_are_shown_with_their_tags_and_letters_by_place(command):
    code, out, _ = command("token-classification", "--show", 12)
    assert code == 0
    assert "[B-animals]" in out
    code, out, _ = command("sequence-classification", "--show", 2, "--epochs", 4)
    assert code == 0
    assert out.count("{+N+}") == 8
    assert out.strip().endswith("2 training rows: turn 8 made, 0 unchanged, 0 dropped")


def test_json_holds_rows_variants_and_counts(command):
    code, out, _ = command("text-classification", "--show", 2, "--json", "--seed", 3)
    told = json.loads(out)
    assert code == 0
    assert (told["seed"], told["rows"], len(told["shown"])) == (3, 2, 2)
    assert sum(told["counts"]["swap"].values()) == 4
    first = told["shown"][0]
    assert (first["label"], first["source"], first["parent"]) == ("animals", None, None)
    assert all(each["parent"] == first["id"] and each["source"] == "swap" for each in first["variants"])
    assert sorted(first["text"].split()) == sorted(first["variants"][0]["text"].split())


def test_variants_that_were_left_out_are_counted_by_reason(command):
    code, out, _ = command("text-classification", "techniques.eda.n_aug=40", "--show", 1, technique="eda")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("eda: variants of all training rows that were"))
    code, out, _ = command("text-classification", "techniques.eda.n_aug=40", "--json", technique="eda")
    sifted = json.loads(out)["sifted"]["eda"]
    assert line.endswith(": " + ", ".join(f"{count} {reason}" for reason, count in sifted.items()))
    assert sifted["same"] > 0


def test_the_audit_is_made_where_it_is_asked(command):
    code, out, _ = command("sequence-classification", "--json")
    assert (code, json.loads(out)["label_audit"]) == (0, None)
    code, out, _ = command("sequence-classification", "--json", "--audit")
    assert (code, json.loads(out)["label_audit"]["by"]["turn"]["made"]) == (0, 12)
    code, _, err = command("text-classification", "--audit")
    assert code == 0
    assert "label audit: a model that has not seen them would relabel" in " ".join(err.split())


def test_images_become_a_contact_sheet(command, tmp_path):
    words = ("image-classification", "--show", 2, "--output", tmp_path / "pictures")
    code, out, _ = command(*words)
    assert code == 0
    picture = tmp_path / "pictures" / "recipe-variants.png"
    assert str(picture) in out
    with Image.open(picture) as sheet:
        assert sheet.width > sheet.height
        first = sheet.tobytes()
    code, _, err = command(*words)
    assert code == 2
    assert "exists" in err
    assert "--overwrite" in err
    assert command(*words, "--overwrite")[0] == 0
    with Image.open(picture) as sheet:
        assert sheet.tobytes() == first
    assert [file.name for file in picture.parent.iterdir()] == [picture.name]


def test_sounds_become_files_to_listen_to_and_spectrograms(command, tmp_path):
    words = ("audio-classification", "techniques.random_crop.seconds=0.2", "--show", 2, "--epochs", 2, "--json")
    code, out, _ = command(*words, "--output", tmp_path)
    assert code == 0
    folder = tmp_path / "recipe-variants"
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["1-original.wav", "1-variant-1.wav", "1-variant-2.wav", "2-original.wav", "2-variant-1.wav",
                     "2-variant-2.wav", "spectrograms.png"]  # fmt: skip
    shown = json.loads(out)["shown"]
    assert all(Path(each["file"]).is_file() for family in shown for each in (family, *family["variants"]))
    stranger = tmp_path / "other"
    (stranger / "recipe-variants").mkdir(parents=True)
    code, _, err = command(*words, "--output", stranger, "--overwrite")
    assert code == 2
    assert "left alone" in err


@pytest.mark.parametrize(("task", "option", "name"), [("text-classification", "--out", "more.csv"),
                                                     ("image-classification", "--output", "")])  # fmt: skip
def test_what_another_process_is_writing_is_left_to_it(task, option, name, command, tmp_path):
    target = tmp_path / (name or "recipe-variants.png")
    with alone(target):
        code, _, err = command(task, option, tmp_path / name)
    assert (code, f"{target}: another process is writing it; wait" in err) == (2, True)
    assert not target.exists()
    assert command(task, option, tmp_path / name)[0] == 0


def test_a_written_table_holds_originals_and_variants_and_is_read_again(command, tmp_path):
    for suffix in (".csv", ".jsonl"):
        out = tmp_path / f"more{suffix}"
        code, said, _ = command("text-classification", "--out", out)
        assert code == 0
        assert "data.group=group" in said
        frame = pd.read_csv(out) if suffix == ".csv" else pd.read_json(out, lines=True)
        assert list(frame) == ["text", "label", "id", "source", "parent", "group"]
        assert frame["source"].isna().sum() == 12
        assert set(frame[frame["source"].notna()]["parent"]) <= set(frame["id"])
        assert (frame["group"] == frame["parent"].fillna(frame["id"])).all()
        assert not frame["text"].duplicated().any()
        again = load(DataSpec(train=str(out), group="group"), "text")
        assert len(again.train) == len(frame) > 20
        assert again.labels == ("animals", "food", "weather")


def test_words_and_tags_are_written_as_jsonl(command, tmp_path):
    assert command("token-classification", "--out", tmp_path / "more.jsonl")[0] == 0
    again = load(DataSpec(train=str(tmp_path / "more.jsonl")), "tokens")
    assert len(again.train) > 12
    code, _, err = command("token-classification", "--out", tmp_path / "more.csv")
    assert code == 2
    assert "expected a .jsonl file" in err


@pytest.mark.parametrize(("task", "kind"), [("image-classification", "image"), ("audio-classification", "audio")])
def test_files_are_written_as_class_folders_with_a_table(command, tmp_path, sources, task, kind):
    out = tmp_path / "more"
    words = (task, "--out", out, *(["techniques.random_crop.seconds=0.2"] if kind == "audio" else []))
    assert command(*words)[0] == 0
    with (out / "metadata.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert all((out / line["file_name"]).is_file() for line in lines)
    assert all(Path(line["file_name"]).parent.name == line["label"] for line in lines)
    originals = [line for line in lines if not line["source"]]
    assert len(originals) == 12
    for line in originals:
        source = next(Path(sources[task]["train"]).glob(f"{line['label']}/{Path(line['file_name']).name}"))
        assert source.read_bytes() == (out / line["file_name"]).read_bytes()
    by_folders, by_table = (load(DataSpec(train=str(each)), kind) for each in (out, out / "metadata.csv"))
    assert len(by_folders.train) == len(by_table.train) == len(lines) > 12
    assert by_folders.labels == by_table.labels
    assert command(*words)[0] == 2
    assert command(*words, "--overwrite")[0] == 0
    (out / "metadata.csv").unlink()
    code, _, err = command(*words, "--overwrite")
    assert code == 2
    assert "left alone" in err


def test_nothing_is_left_of_a_set_whose_writing_failed(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        write(variants(recipe("image-classification", Turn())), tmp_path / "deep" / "more")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_without_augmentation_is_told_what_there_is(command):
    code, _, err = command("audio-classification", technique="label_smoothing")
    assert code == 2
    assert "label_smoothing acts on batches; not shown" in err
    assert "those for audio-classification: random_crop" in err


def test_nothing_to_do_is_said(command):
    code, _, err = command("text-classification", "--show", 0)
    assert code == 2
    assert "--out" in err


def test_draws_are_those_of_training(recipe):
    found = variants(recipe("image-classification", Turn()), epochs=3, seed=5)
    rows = found.rows
    trained = EncodedRows(rows, found.task, found.processor, found.augment, seed=5)
    for at, family in enumerate(found):
        for epoch, variant in enumerate(family.variants):
            trained.set_epoch(epoch)
            (features,) = found.task.encode([variant.row], found.processor)
            np.testing.assert_array_equal(features["pixel_values"], trained[at]["pixel_values"])


def test_rows_that_a_technique_cannot_work_with_are_refused_before_any_variant(recipe):
    with pytest.raises(UserError, match=r"refuses: \d+ rows are not for me"):
        variants(recipe("text-classification", Refuses()))


def test_same_seed_same_variants_another_seed_others(recipe):
    def texts(seed: int) -> list[str]:
        found = variants(recipe("text-classification", Swap()), seed=seed)
        return [variant.row["text"] for family in found for variant in family.variants]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_only_drawn_training_rows_have_variants_and_held_out_ones_are_dropped(recipe, sources):
    data = {"train": sources["text-classification"]["train"], "test": None, "test_fraction": 0.25}
    plain = variants(recipe("text-classification", Swap(), labels_per_class=2, **data))
    assert len(plain) == 6
    every = pd.read_csv(sources["text-classification"]["train"])
    held = next(text for text in every["text"] if (text, None) in plain.held_out)
    found = variants(recipe("text-classification", Leak(text=held), **data))
    assert found.lost == {"leak": 1}
    *families, free = found
    assert all(not family.variants for family in families)
    assert free.original is None
    assert [variant.left_out for variant in free.variants] == ["held out"]
    assert held not in {family.original["text"] for family in families}


def test_rows_from_python_are_written_as_files_too(recipe, image, tmp_path):
    images, labels = image.rows["image"][:], image.rows["label"][:]
    splits = {"train": {"image": images[:9], "label": labels[:9]}, "test": {"image": images[9:], "label": labels[9:]}}
    found = variants(recipe("image-classification", Turn(), keep_together="equal"), 3, objects=splits)
    write(found, tmp_path / "more")
    lines = (tmp_path / "more" / "metadata.csv").read_text().splitlines()
    assert lines[1].startswith("0/train-0.png,0,train:0,,,train:0")
    with Image.open(tmp_path / "more" / "0" / "train-0.png") as written_image:
        np.testing.assert_array_equal(np.asarray(written_image), np.asarray(images[0]))


def test_a_few_rows_are_of_every_class_in_turn(recipe):
    labels = [family.original["label"] for family in variants(recipe("text-classification", Swap()), 4)]
    assert labels == [0, 1, 2, 0]


def test_multi_label_rows_need_a_jsonl(recipe, tmp_path):
    rows = [{"text": f"a b c d {at}", "label": ["x", "y"][: 1 + at % 2]} for at in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = variants(recipe("text-classification", Swap(), train=str(tmp_path / "rows.jsonl"), test=None))
    with pytest.raises(UserError, match=r"write more\.jsonl"):
        write(found, tmp_path / "more.csv")
    write(found, tmp_path / "more.jsonl")
    assert json.loads((tmp_path / "more.jsonl").read_text().splitlines()[0])["label"] in (["x"], ["x", "y"])


def test_pieces_of_a_difference_make_both_texts():
    a, b = "the film was good", "the movie was very good"
    pieces = compared(a.split(), b.split())
    assert " ".join(word for what, parts in pieces if what != "new" for word in parts) == a
    assert " ".join(word for what, parts in pieces if what != "gone" for word in parts) == b
    assert written(pieces, "text", False).plain == "the [-film-] {+movie+} was {+very+} good"
    assert written(pieces, "text", True).plain == "the film movie was very good"


def test_letters_are_compared_by_place_unless_all_changed():
    assert substituted("ACGT", "ACTT") == [("same", ["A", "C"]), ("gone", ["G"]), ("new", ["T"]), ("same", ["T"])]
    reverse = difference({"sequence": "AAAACC"}, {"sequence": "GGTTTT"}, "sequence", ())
    assert [piece.what for piece in reverse] == ["gone", "new"]
    long = difference({"sequence": "A" * 10_000}, {"sequence": "A" * 10_000}, "sequence", ())
    assert len(long[0].parts) == 600
    shorter = difference({"sequence": "ACGTACGT"}, {"sequence": "ACGTCGT"}, "sequence", ())
    assert ("gone", ["A"]) in shorter


def test_the_middle_of_what_stayed_is_left_out():
    pieces = [Piece("same", list("abcdefghij")), Piece("new", ["X"]), Piece("same", list("klmnopqrst"))]
    assert brief(pieces, 2) == [("same", ["…", "i", "j"]), ("new", ["X"]), ("same", ["k", "l", "…"])]
    assert brief(pieces[:2], 9) == pieces[:2]
