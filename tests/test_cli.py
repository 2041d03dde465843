"""The command line as a user meets it: what each command prints, writes and refuses to write over."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hf_smalldata import pipeline
from hf_smalldata.catalogue import recipe_files
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import TASKS
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.testing import COLOURS, TOPICS, image_folder, text_rows, tiny_image_model, tiny_text_model
from hf_smalldata.training.trainer import SmallDataTrainer
from hf_smalldata.whole import alone

PROGRAM = Path(sys.executable).with_name("hf-smalldata")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with models `bert` and `vit`, rows `topics.csv` and `pictures`, and a recipe of each."""
    folder = tmp_path_factory.mktemp("place")
    tiny_text_model(folder / "bert")
    tiny_image_model(folder / "vit")
    rows = text_rows(12)
    table = pd.DataFrame({"text": rows["text"], "label": [list(TOPICS)[label] for label in rows["label"]]})
    table.to_csv(folder / "topics.csv", index=False)
    image_folder(folder / "pictures", 5)
    for name, task, model, data in (("topics", "text-classification", "bert", "topics.csv"),
                                    ("colours", "image-classification", "vit", "pictures")):  # fmt: skip
        content = {"task": task, "data": {"name": str(folder / data)}, "model": {"name": str(folder / model)},
                   "train": {"num_train_epochs": 1, "learning_rate": 1e-3}}  # fmt: skip
        (folder / f"{name}.yaml").write_text("# A recipe.\n" + yaml.safe_dump(content))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_answers_without_the_heavy_libraries(tmp_path):
    code = """
import sys
from hf_smalldata.cli import main
for words in ([], ["train"], ["predict"], ["show"]):
    sys.argv = ["hf-smalldata", *words, "--help"]
    try:
        main()
    except SystemExit as left:
        assert left.code == 0, left.code
heavy = {"torch", "transformers", "datasets", "peft", "pandas", "sklearn"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("train", "predict", "list", "show", "copy", "--resume", "--top-k"))


def test_a_run_of_the_installed_program_trains_proves_and_keeps_quiet(place, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PROGRAM, "train", place / "topics.yaml"], capture_output=True, text=True, check=False,
                          cwd=tmp_path, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "saved and proven to reload: runs/topics" in done.stdout
    assert "TF-IDF + logistic regression" in done.stdout
    metrics = json.loads((tmp_path / "runs" / "topics" / "smalldata" / "metrics.json").read_text())
    assert metrics["runs"][0]["reload"]["."] > 0
    assert "Warning" not in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["topics"]


def test_a_mistake_ends_with_code_2_and_one_sentence(command, place, here):
    code, output, errors = command("train", place / "topics.yaml", "task=nonsense")
    assert (code, output) == (2, "")
    assert errors.startswith("error: 1 problem in topics.yaml:\n  task: unknown task 'nonsense'; known: ")
    assert list(here.iterdir()) == []


def test_options_make_a_recipe_that_is_printed_and_can_be_kept(command, place, here):
    code, output, _ = command("train", "--task", "text-classification", "--model", place / "bert", "--data",
                              place / "topics.csv", "train.num_train_epochs=1")  # fmt: skip
    assert code == 0
    assert (here / "runs" / "topics" / "config.json").is_file()  # named after the data
    metrics = json.loads((here / "runs" / "topics" / "smalldata" / "metrics.json").read_text())
    assert metrics["runs"][0]["learning_rate"] == 5e-4  # `auto`, of so narrow a network
    made = output[output.index("task:") : output.index("┏")]
    (here / "kept.yaml").write_text(made)
    assert command("train", "kept.yaml")[0] == 0
    recipes = [(here / "runs" / name / "smalldata" / "recipe.yaml").read_text() for name in ("topics", "kept")]
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (("--model", "m"), "give a recipe, or --task, --data as well"),
        (("data.train=x.csv", "--model", "m"), "give a recipe, or --task as well"),
        ((), "give a recipe, or --task, --model, --data"),
    ],
)
def test_options_that_are_missing_are_named(command, here, given, wanted):
    code, _, errors = command("train", *given)
    assert (code, errors) == (2, f"error: {wanted}\n") or (code == 2 and errors.startswith(f"error: {wanted}"))


def test_settings_override_a_recipe(command, place, here):
    assert command("train", place / "topics.yaml", "techniques.lora.rank=2", "seeds=[4]", "--output", "mine")[0] == 0
    written = yaml.safe_load((here / "mine" / "smalldata" / "recipe.yaml").read_text())
    assert written["techniques"][0]["lora"]["rank"] == 2
    assert written["seeds"] == [4]
    assert not (here / "runs").exists()


def test_a_bare_no_in_yaml_means_no(command, place, here):
    code, output, _ = command("show", place / "topics.yaml", "train.save_strategy=no")
    assert code == 0
    assert yaml.safe_load(output)["train"]["save_strategy"] == "no"


def test_an_output_that_is_there_is_replaced_only_when_asked_and_only_if_it_is_a_run(command, place, here):
    train = ("train", place / "topics.yaml", "--output", "mine")
    assert command(*train)[0] == 0
    (here / "mine" / "note.txt").write_text("old")
    code, _, errors = command(*train)
    assert (code, (here / "mine" / "note.txt").exists()) == (2, True)
    assert errors == f"error: --output: {here / 'mine'} exists; choose another folder or pass --overwrite\n"
    assert command(*train, "--overwrite")[0] == 0
    assert not (here / "mine" / "note.txt").exists()
    (here / "photos").mkdir()
    (here / "photos" / "holiday.jpg").write_text("dear")
    code, _, errors = command("train", place / "topics.yaml", "--output", "photos", "--overwrite")
    assert code == 2
    assert "is not a Run, so it is left alone" in errors
    assert (here / "photos" / "holiday.jpg").read_text() == "dear"
    assert sorted(file.name for file in here.iterdir()) == ["mine", "photos"]


@pytest.fixture(scope="module")
def runs(place) -> Path:
    """Trained Runs `topics` and `colours`."""
    for name in ("topics", "colours"):
        pipeline.train(Recipe.read(place / f"{name}.yaml"), place / "runs" / name)
    return place / "runs"


def test_predict_labels_texts_given_on_the_command_line(command, runs):
    code, output, _ = command("predict", runs / "topics", "we saw a cat", "storm and rain")
    lines = [line.split("\t") for line in output.splitlines()]
    assert code == 0
    assert [text for _, text in lines] == ["we saw a cat", "storm and rain"]
    assert all(shown.split()[0] in TOPICS and 1 / 3 <= float(shown.split()[1]) <= 1 for shown, _ in lines)


def test_predict_shows_as_many_labels_as_asked_best_first(command, runs):
    _, output, _ = command("predict", runs / "topics", "we saw a cat", "--top-k", "2")
    first, _, second = output.split("\t")[0].partition("  ")
    assert float(first.split()[1]) >= float(second.split()[1])
    _, all_of_them, _ = command("predict", runs / "topics", "we saw a cat", "--top-k", "9")
    assert sorted(all_of_them.split("\t")[0].split()[::2]) == sorted(TOPICS)


def test_predict_reads_a_csv_and_writes_csv_or_jsonl(command, runs, here):
    (here / "new.csv").write_text("text\na cat\nrice and soup\n\n")
    assert command("predict", runs / "topics", "new.csv", "--output", "deep/er/out.csv")[0] == 0
    assert command("predict", runs / "topics", "new.csv", "--top-k", "2", "--output", "out.jsonl")[0] == 0
    with (here / "deep" / "er" / "out.csv").open() as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in table] == [line["id"] for line in lines] == ["new.csv:0", "new.csv:1"]
    for row, line in zip(table, lines, strict=True):
        assert row["label"] == line["labels"][0]["label"]
        assert float(row["score"]) == pytest.approx(line["labels"][0]["score"])
        assert len(line["labels"]) == 2
    code, _, errors = command("predict", runs / "topics", "new.csv", "--output", "out.jsonl")
    assert (code, "exists; choose another file or pass --overwrite" in errors) == (2, True)
    with alone(here / "out.jsonl"):
        code, _, errors = command("predict", runs / "topics", "a dog", "--output", "out.jsonl", "--overwrite")
    assert (code, "out.jsonl: another process is writing it" in errors) == (2, True)
    assert command("predict", runs / "topics", "a dog", "--output", "out.jsonl", "--overwrite")[0] == 0
    assert len((here / "out.jsonl").read_text().splitlines()) == 1


def test_predict_adapts_to_the_inputs_and_leaves_the_run_as_it_is(command, runs, here):
    texts = [
        f"{word} and {other}" for word in ("cat", "storm", "soup", "dog") for other in ("rice", "rain", "bird", "a")
    ]
    weights = (runs / "topics" / "model.safetensors").read_bytes()
    (code, adapted, _), (_, plain, _) = (command("predict", runs / "topics", *texts, *more)
                                         for more in (("--adapt", "tent"), ()))  # fmt: skip
    assert code == 0
    assert len(adapted.splitlines()) == 16
    assert adapted != plain
    assert (runs / "topics" / "model.safetensors").read_bytes() == weights
    assert command("predict", runs / "topics", *texts)[1] == plain


def test_predict_adapts_to_a_sample_of_many_inputs(command, runs, monkeypatch):
    seen = []
    monkeypatch.setattr("hf_smalldata.prediction.MOST", 16)
    monkeypatch.setattr("hf_smalldata.prediction.adapted", lambda _model, rows, *_: seen.append(len(rows)))
    code, output, _ = command("predict", runs / "topics", *["a cat"] * 20, "--adapt", "tent")
    assert (code, seen, len(output.splitlines())) == (0, [16], 20)


def test_predict_warns_where_the_network_that_it_adapts_was_not_trained(command, runs, here):
    shutil.copytree(runs / "topics", here / "frozen")
    told = json.loads((here / "frozen" / "smalldata" / "metrics.json").read_text())
    told["runs"] = [{**each, "steps": 0} for each in told["runs"]]
    (here / "frozen" / "smalldata" / "metrics.json").write_text(json.dumps(told))
    texts = ["a cat"] * 16
    assert "most of this network was not trained" in command("predict", here / "frozen", *texts, "--adapt", "tent")[2]
    assert "not trained" not in command("predict", runs / "topics", *texts, "--adapt", "tent")[2]


def test_predict_says_what_it_cannot_adapt(command, runs):
    code, _, errors = command("predict", runs / "topics", "a cat", "--adapt", "tent")
    assert (code, "expected 16 inputs or more, got 1" in errors) == (2, True)
    code, _, errors = command("predict", runs / "topics", *["a cat"] * 16, "--adapt", "statistics")
    assert (code, "has no BatchNorm, so it keeps no statistics; choose tent" in errors) == (2, True)
    code, _, errors = command("predict", runs / "topics", "a cat", "--adapt", "tent", "--coverage", "0.9")
    assert (code, "the thresholds hold for the model as it is" in errors) == (2, True)


def test_predict_labels_image_files_and_folders(command, runs, place):
    file = place / "pictures" / "red" / "0.png"
    code, output, _ = command("predict", runs / "colours", file)
    assert (code, output.split()[0] in COLOURS, output.split("\t")[1].strip()) == (0, True, str(file))
    _, output, _ = command("predict", runs / "colours", place / "pictures")
    assert len(output.splitlines()) == 15


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("topics", "gone.csv"), "gone.csv: no such file"),
        (("topics", "wrong.csv"), "found no text column among number"),
        (("topics", "empty.csv"), "empty (0 bytes)"),
        (("topics", "."), "is a folder; expected texts"),
        (("topics", "a cat", "--output", "out.txt"), "expected a .csv or .jsonl file"),
        (("colours", "gone.png"), "gone.png: no such file or folder"),
        (("colours", "empty.png"), "could not decode it (the file is empty (0 bytes))"),
        (("colours", "."), "holds no images"),
        (("nowhere", "a cat"), "no such Run"),
        (("../bert", "a cat"), "not a Run; expected smalldata/metrics.json"),
    ],
)
def test_predict_refuses_what_it_cannot_label(command, runs, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "wrong.csv").write_text("number\n1\n2\n")
    if "empty.png" in given:
        (tmp_path / "empty.png").touch()
    before = sorted(tmp_path.iterdir())
    code, output, errors = command("predict", runs / given[0], *given[1:])
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert said in errors
    assert sorted(tmp_path.iterdir()) == before


def test_list_names_all_there_is(command):
    for what, names in (("techniques", REGISTRY), ("tasks", TASKS), ("recipes", recipe_files())):
        code, output, _ = command("list", what)
        assert code == 0
        assert [line.split()[0] for line in output.splitlines()] == list(names)
    code, _, errors = command("list", "technique")
    assert (code, errors) == (2, "error: cannot list 'technique'; did you mean 'techniques'?\n")


def test_list_prints_each_technique_with_its_tasks_hooks_and_paper(command):
    _, output, _ = command("list", "techniques")
    lora = next(line for line in output.splitlines() if line.startswith("lora "))
    assert "[all tasks; hooks: model] https://arxiv.org/abs/2106.09685" in lora


def test_show_spells_out_every_default_and_the_hooks(command, place):
    code, output, _ = command("show", place / "topics.yaml", "techniques.label_smoothing.epsilon=0.2")
    assert code == 0
    shown = yaml.safe_load(output)
    assert shown["techniques"] == [{"label_smoothing": {"epsilon": 0.2}}]
    assert shown["train"]["weight_decay"] == 0.01
    hooks = ", ".join(get_technique("label_smoothing")().hooks())
    assert hooks
    assert f"# label_smoothing: {hooks}  https://arxiv.org/abs/1512.00567" in output


def test_copy_keeps_the_comments_and_never_writes_over_a_file(command, here):
    name, source = next(iter(recipe_files().items()))
    assert command("copy", name, "mine.yaml")[1] == "mine.yaml\n"
    assert (here / "mine.yaml").read_text() == source.read_text()
    (here / "mine.yaml").write_text("changed")
    code, _, errors = command("copy", name, "mine.yaml")
    assert (code, errors) == (2, "error: mine.yaml exists; choose another name or pass --overwrite\n")
    assert (here / "mine.yaml").read_text() == "changed"
    assert command("copy", name, "mine.yaml", "--overwrite")[0] == 0
    assert command("copy", name, ".")[1].strip() == source.name  # into a folder, by its own name
    assert command("copy", name, "mine.yaml/inside.yaml")[0] == 2
    code, _, errors = command("copy", "no/such", "x.yaml")
    assert (code, "no recipe 'no/such'" in errors) == (2, True)


def test_interrupting_ends_with_one_word_and_leaves_nothing(command, place, here, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(SmallDataTrainer, "train", interrupt)
    code, _, errors = command("train", place / "topics.yaml", "--output", "mine")
    assert code == 130
    assert "Traceback" not in errors
    assert list(here.iterdir()) == []
