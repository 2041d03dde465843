"""`hf-smalldata episodes`: what it prints, writes and refuses, and what a network may see of the new classes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_smalldata import episodes as trunk
from hf_smalldata.episodes import PRETRAINED, TRAINED, Protocol, evaluate
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.episodes import Episode, accuracies
from hf_smalldata.evaluation.fixed_runs import read_runs
from hf_smalldata.recipe import Recipe
from hf_smalldata.testing import image_folder, text_rows, tiny_image_model, tiny_text_model

FEW = Protocol(ways=3, shots=(1, 3), queries=4, episodes=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, images of three classes, and two fixed runs of three signs each."""
    folder = tmp_path_factory.mktemp("episodes")
    tiny_image_model(folder / "vit")
    image_folder(folder / "new", 8)
    image_folder(folder / "known", 4, seed=1)
    for name in ("red", "green", "blue"):
        (folder / "known" / name).rename(folder / "known" / f"dark {name}")
    rng = np.random.default_rng(0)
    for run in ("run01", "run02"):
        lines = []
        for at, colour in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
            for part, file in (("training", f"class{at}.png"), ("test", f"item{2 - at}.png")):
                (folder / "runs" / run / part).mkdir(parents=True, exist_ok=True)
                pixels = (np.array(colour) + rng.normal(0, 5, (32, 32, 3))).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "runs" / run / part / file)
            lines.append(f"{run}/test/item{2 - at}.png {run}/training/class{at}.png\n")
        (folder / "runs" / run / "class_labels.txt").write_text("".join(lines))
    return folder


def recipe(place: Path, *techniques: object) -> Recipe:
    return Recipe.parse({"task": "image-classification", "data": {"name": str(place / "new")},
                         "model": {"name": str(place / "vit")}, "techniques": techniques})  # fmt: skip


def test_the_command_prints_a_table_and_writes_results_and_every_episode(place, tmp_path):
    words = ("--model", place / "vit", "--background", place / "known", "--runs", place / "runs", "--ways", 3,
             "--shots", "1,3", "--queries", 4, "--episodes", 20, "techniques.prototypical.episodes=2",
             "--output", tmp_path / "out")  # fmt: skip
    program = [sys.executable, "-W", "error", "-m", "hf_smalldata", "episodes", str(place / "new"), *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for said in ("3-way 1-shot", "3-way 3-shot", "fixed runs, error", PRETRAINED, TRAINED, "colour + HOG"):
        assert said in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["results"]["colour + HOG"]["3-way 3-shot"]["value"] == 1.0
    assert results["errors_by_run"]["colour + HOG"] == {"run01": 0.0, "run02": 0.0}
    assert set(results["seconds"]) == {PRETRAINED, TRAINED}
    lines = [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()]
    assert len(lines) == 20 + 2
    assert np.shape(lines[0]["support"]) == (3, 3)
    assert all((place / "new" / name).is_file() for name in lines[0]["query"])
    for title, value in results["results"][TRAINED].items():
        scores = [line["accuracy"][TRAINED][title] for line in lines if title in line["accuracy"][TRAINED]]
        assert np.mean(scores) == pytest.approx(value["value"])
    assert not list(tmp_path.glob(".*"))


def test_json_is_one_document_and_nothing_else(place, command):
    code, output, errors = command("episodes", place / "new", "--model", place / "vit", "--ways", 2, "--shots", 1,
                                   "--queries", 2, "--episodes", 5, "--metric", "euclidean", "--json")  # fmt: skip
    assert code == 0, errors
    found = json.loads(output)
    assert (found["metric"], found["classes"], found["rows"], found["background"]) == ("euclidean", 3, 24, None)
    assert list(found["results"]) == [PRETRAINED, "colour + HOG"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["NEW", "--model", "VIT", "--ways", 5], "only 3; use 3 or less"),
        (["NEW", "--model", "VIT", "--ways", 3], "too few are in blue: 8"),
        (["NEW"], "give --model"),
        (["--model", "VIT"], "give DATA"),
        (["NEW", "--model", "VIT", "--shots", "one"], "--shots: expected a list"),
        (["NEW", "--model", "VIT", "--metric", "cosin"], "did you mean 'cosine'"),
        (["NEW", "--model", "VIT", "--output", "NEW"], "exists; choose another folder"),
        (["--model", "VIT", "--runs", "NEW"], "class_labels.txt"),
        (["NEW", "--model", "VIT", "techniques.prototypical.ways=3"], "give --background"),
        (["nowhere/", "--model", "VIT"], "no such file or folder"),
    ],
)
def test_what_a_user_can_mend_exits_with_2(place, words, said, command):
    names = {"NEW": place / "new", "VIT": place / "vit"}
    code, _, errors = command("episodes", *(names.get(str(word), word) for word in words))
    assert (code, errors[:7]) == (2, "error: ")
    assert said in errors


def test_nothing_is_written_when_the_network_cannot_be_read(place, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(place / "vit", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    given = recipe(place).model_copy(update={"model": recipe(place).model.model_copy(update={"name": str(broken)})})
    with pytest.raises(UserError, match="could not be loaded"):
        evaluate(given, FEW, output=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_seed_decides_the_training_and_the_draws(place):
    def scores(seed: int) -> object:
        technique = {"prototypical": {"episodes": 2, "shots": 1, "queries": 1}}
        return evaluate(recipe(place, technique), FEW, background=str(place / "known"), seed=seed)["results"]

    assert scores(0) == scores(0)


def test_the_labels_of_new_classes_are_hidden_from_the_network(place, monkeypatch):
    seen: list[set[int]] = []

    def features_of(model, ctx, rows):
        seen.append({*rows["label"], *ctx.train["label"]})
        return real(model, ctx, rows)

    real = trunk.features_of
    monkeypatch.setattr(trunk, "features_of", features_of)
    evaluate(recipe(place), FEW, runs=place / "runs")
    assert seen == [{0}, {0}]


def test_a_class_that_the_background_has_by_name_is_told(place, tmp_path, caplog):
    technique = {"prototypical": {"episodes": 1, "shots": 1, "queries": 1}}
    evaluate(recipe(place, technique), FEW, background=str(image_folder(tmp_path / "others", 4, seed=2)))
    assert "3 classes have names of classes that the background was trained on" in caplog.text


def test_rows_that_the_background_has_too_are_refused_under_any_name(place, tmp_path):
    others = image_folder(tmp_path / "others", 4, seed=2)
    shutil.copyfile(place / "new" / "red" / "1.png", others / "blue" / "copy.png")
    with pytest.raises(UserError, match=r"1 of 24 rows that are asked are among its rows too.*red/1\.png"):
        evaluate(recipe(place, "prototypical"), FEW, background=str(others))


def test_fixed_runs_ask_the_files_that_they_name(place):
    names, files, episodes = read_runs(place / "runs")
    assert names == ["run01", "run02"]
    assert len(files) == 12
    assert [files[at] for at in episodes[1].support[:, 0]] == [f"run02/training/class{at}.png" for at in range(3)]
    assert [files[at] for at in episodes[1].query] == [f"run02/test/item{at}.png" for at in (2, 1, 0)]
    assert isinstance(episodes[0], Episode)
    perfect = np.eye(3)[[int(name[-5]) if "class" in name else 2 - int(name[-5]) for name in files]]
    assert accuracies(perfect, episodes, 1, "euclidean").tolist() == [1.0, 1.0]


def test_every_problem_of_fixed_runs_is_told_at_once(tmp_path):
    for run, text in (("run01", "run01/a.png run01/b.png\n"), ("run02", "one two three\n")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "class_labels.txt").write_text(text)
    with pytest.raises(UserError, match=r"(?s)2 problems.*no such file.*run01/a.png.*expected a file to ask"):
        read_runs(tmp_path)


def test_texts_are_judged_by_the_mean_of_their_tokens(tmp_path):
    tiny_text_model(tmp_path / "bert")
    frame = text_rows(8).to_pandas()
    frame["label"] = [("animals", "food", "weather")[at] for at in frame["label"]]
    frame[["text", "label"]].to_csv(tmp_path / "rows.csv", index=False)
    found = evaluate(
        Recipe.parse({"task": "text-classification", "data": {"name": str(tmp_path / "rows.csv")},
                      "model": {"name": str(tmp_path / "bert")}, "techniques": ["pooling"]}),
        FEW,
    )  # fmt: skip
    assert set(found["results"]) == {PRETRAINED, "TF-IDF"}
    assert found["results"][PRETRAINED]["3-way 3-shot"]["value"] > 0.4
