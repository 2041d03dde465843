"""`hf-smalldata synthesize`: the set of made rows, where they come from, how good they are, and what is refused."""

from __future__ import annotations

import json
import sys
from typing import ClassVar

import numpy as np
import pytest
import yaml
from PIL import Image

from hf_smalldata.data.images import open_image
from hf_smalldata.data.load import load
from hf_smalldata.data.made import real, rng_of
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.tasks import TASKS
from hf_smalldata.technique import Technique
from hf_smalldata.techniques import REGISTRY
from hf_smalldata.techniques.synthesis import keep as keeper
from hf_smalldata.techniques.synthesis import language_model
from hf_smalldata.techniques.synthesis.keep import Keep, check_rows_a_class, kept


class Noise(Technique):
    """A generator: real rows with noise, six of each class."""

    name: ClassVar[str] = "noise"
    tasks = frozenset(TASKS)
    calls: ClassVar[list[int]] = []

    keep: Keep = Keep()
    broken: bool = False
    least: int = 1

    def rows(self, train, ctx):
        check_rows_a_class(train, ctx, self.name, self.least)
        ctx.once("noise.txt", lambda path: self.calls.append(path.write_text("learnt")))
        if self.broken:
            raise RuntimeError("interrupted")
        made = [self._made(row, ctx, at) for row in real(train) for at in range(6)]
        return kept(train, made, ctx, self.keep, self.name)

    def _made(self, row, ctx, at):
        rng, told = rng_of(ctx.seed, row["id"], at), {"label": row["label"], "strength": at}
        if ctx.task.kind == "image":
            pixels = np.asarray(open_image(row["image"]), float) + rng.normal(0, 20 * (at + 1), (40, 40, 3))
            return {**told, "image": Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "parent": row["id"]}
        if ctx.task.kind == "audio":
            tone = rng.normal(0, 0.1, 4000) + np.sin(np.arange(4000) * (0.1 + row["label"]))
            from hf_smalldata.data.audio import as_file

            return {**told, "audio": as_file({"array": tone, "sampling_rate": 8000})}
        return {**told, "sequence": "".join(rng.permutation(list(row["sequence"])))}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, causal, tmp_path):
    monkeypatch.setitem(REGISTRY, "noise", f"{__name__}:Noise")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(language_model, "MODEL", causal)
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(language_model, "cached_assets_path", lambda *_: tmp_path / "assets")
    monkeypatch.setattr(keeper, "agreed", lambda predicted, labels, problem: np.ones((2, len(predicted))))


@pytest.fixture
def synthesize(command, kits, sources, tmp_path):
    """A task, its technique and words of the command line -> exit code, standard output, standard error."""

    def run(task: str, technique: object, *words: object):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({
            "task": task, "data": sources[task], "model": kits[task].spec.model_dump(), "techniques": [technique],
            "train": {"num_train_epochs": 1, "disable_tqdm": True},
        }))  # fmt: skip
        return command("synthesize", file, *words)

    return run


def lines_of(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_texts_are_written_with_where_they_come_from_and_how_good_they_are(synthesize, tmp_path):
    out = tmp_path / "made"
    code, said, _ = synthesize("text-classification", "language_model", "--per-class", 3, "--out", out)
    assert code == 0
    rows, known = lines_of(out / "rows.jsonl"), lines_of(out / "provenance.jsonl")
    kept_ids = [line["id"] for line in known if line["kept"]]
    assert [row["id"] for row in rows] == kept_ids
    assert 3 <= len(rows) <= 9
    assert all(row["source"] == "language_model" and row["label"] in ("animals", "food", "weather") for row in rows)
    assert all(line["prompt"] == line["label"] for line in known)
    assert len({line["checkpoint"] for line in known}) == 1
    assert "/" not in known[0]["checkpoint"]  # the last part of a folder's path
    quality = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    assert quality["test_rows"] == 9
    assert set(quality["made"]) - set(quality["real"]) == {"copies of training rows", "agreement of the teacher"}
    assert {"fréchet distance", "kernel distance", "precision", "recall", "self-BLEU", "distinct 2"} < set(
        quality["made"]
    )
    assert f"language_model: kept {len(rows)} of" in said
    assert "self-BLEU" in said
    assert sorted(file.name for file in out.iterdir()) == ["provenance.jsonl", "quality.json", "rows.jsonl"]
    assert not (tmp_path / ".made.work").exists()
    again = load(DataSpec(name=str(out / "rows.jsonl")), "text")
    assert len(again.train) == len(rows)


def test_tagged_rows_are_written_with_their_tags(synthesize, tmp_path):
    out = tmp_path / "made"
    code, *_ = synthesize("token-classification", "language_model", "--per-class", 4, "--out", out)
    assert code == 0
    rows = lines_of(out / "rows.jsonl")
    assert 1 <= len(rows) <= 4
    assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)


def test_images_are_a_folder_of_classes_and_a_contact_sheet(synthesize, tmp_path):
    out = tmp_path / "made"
    code, said, _ = synthesize("image-classification", {"noise": {"keep": {"max_similarity": 1}}}, "--per-class", 2,
                               "--out", out, "--json")  # fmt: skip
    assert code == 0
    assert json.loads(said)["kept"]["noise"]["kept_by_class"] == {"blue": 2, "green": 2, "red": 2}
    assert {file.parent.name for file in (out / "images").rglob("*.png")} == {"blue", "green", "red"}
    assert len(list((out / "images").rglob("*.png"))) == 6
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.height > 300  # a line a class
    assert {line["strength"] for line in lines_of(out / "provenance.jsonl")} == set(range(6))


def test_sounds_are_wav_files_with_a_folder_to_listen_to(synthesize, tmp_path):
    out = tmp_path / "made"
    code, *_ = synthesize("audio-classification", {"noise": {"keep": {"max_similarity": 1}}}, "--per-class", 2, "--out",
                          out)  # fmt: skip
    assert code == 0
    assert len(list((out / "audios").rglob("*.wav"))) == 6
    assert (out / "listen" / "spectrograms.png").is_file()


def test_sequences_are_a_table(synthesize, tmp_path):
    out = tmp_path / "made"
    code, *_ = synthesize("sequence-classification", {"noise": {"keep": {"max_similarity": 1}}}, "--per-class", 3,
                          "--out", out)  # fmt: skip
    assert code == 0
    assert len(lines_of(out / "rows.jsonl")) == 6


def test_what_an_interrupted_call_learnt_is_not_learnt_again(synthesize, tmp_path):
    out, settings = tmp_path / "made", {"keep": {"max_similarity": 1}}
    Noise.calls.clear()
    with pytest.raises(RuntimeError, match="interrupted"):
        synthesize("image-classification", {"noise": {**settings, "broken": True}}, "--out", out)
    assert not out.exists()
    assert synthesize("image-classification", {"noise": settings}, "--out", out)[0] == 0
    assert len(Noise.calls) == 1
    assert not (tmp_path / ".made.work").exists()


@pytest.mark.parametrize(
    ("task", "rest"),
    [
        ("image-classification", "feature_synthesis, augmentation"),
        ("text-classification", "feature_synthesis, language_model with tune"),
    ],
)
def test_what_is_refused_before_anything_was_made_leaves_nothing_behind(synthesize, tmp_path, task, rest):
    code, _, said = synthesize(task, {"noise": {"least": 99}}, "--out", tmp_path / "made")
    assert code == 2
    assert "expected at least 99 rows of each class" in said
    assert f"use what makes do with one: {rest}" in said
    assert [file.name for file in tmp_path.iterdir() if "made" in file.name] == []


def test_recipes_without_a_generator_and_folders_of_others_are_refused(synthesize, tmp_path):
    code, _, said = synthesize("text-classification", "eda", "--out", tmp_path / "made")
    assert code == 2
    assert (
        "expected one that makes new rows, found eda; those for text-classification: language_model, text_vae, noise"
        in said
    )
    (tmp_path / "made").mkdir()
    code, _, said = synthesize("text-classification", "language_model", "--out", tmp_path / "made")
    assert code == 2
    assert "exists; choose another name or pass --overwrite" in said
    code, _, said = synthesize("text-classification", "language_model", "--out", tmp_path / "made", "--overwrite")
    assert code == 2
    assert "no set that synthesize wrote" in said


def test_a_set_is_replaced_when_asked(synthesize, tmp_path):
    words = ("sequence-classification", {"noise": {"keep": {"max_similarity": 1}}}, "--per-class", 3, "--out",
             tmp_path / "made")  # fmt: skip
    assert synthesize(*words)[0] == 0
    (tmp_path / "made" / "old").touch()
    assert synthesize(*words, "--overwrite")[0] == 0
    assert not (tmp_path / "made" / "old").exists()
