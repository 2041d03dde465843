"""Bad input to `hf-smalldata`: exit code 2, one message that begins with `error:`, no traceback, nothing left."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import constants

from hf_smalldata import cli, pipeline
from hf_smalldata.testing import TOPICS, image_folder, text_rows, tiny_image_model, tiny_text_model
from hf_smalldata.training.trainer import SmallDataTrainer

ROWS = text_rows(12)
TABLE = pd.DataFrame({"text": ROWS["text"], "label": [list(TOPICS)[label] for label in ROWS["label"]]})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_text_model(folder / "bert")
    tiny_image_model(folder / "vit")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder, with good rows and pictures."""
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv(tmp_path / "rows.csv", index=False)
    image_folder(tmp_path / "pictures", 3)
    return tmp_path


@pytest.fixture
def refused(here, models, monkeypatch, capsys):
    """Run a recipe that is wrong somewhere, check all that must hold of every refusal, and return the message."""

    def run(*words: object, task="text-classification", data=None, model="bert", **sections) -> str:
        content = {
            "task": task,
            "data": data or {"name": "rows.csv"},
            "model": {"name": str(models / model)},
            **sections,
        }
        (here / "recipe.yaml").write_text(yaml.safe_dump(content))
        return refusal(capsys, monkeypatch, here, "train", "recipe.yaml", *words)

    return run


def refusal(capsys, monkeypatch, here: Path, *words: object) -> str:
    before = sorted(here.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["hf-smalldata", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "500")  # a message a line
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main()
    output, errors = capsys.readouterr()
    assert left.value.code == 2, errors
    errors = "".join(line for line in errors.splitlines(True) if not line.startswith("INFO "))  # how far it came
    assert errors.startswith("error: ")
    assert errors.count("error:") == 1
    assert "Traceback" not in errors + output
    assert sorted(here.rglob("*")) == before  # no output, no .partial
    return errors


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.lerning_rate=1", "train.lerning_rate: unknown setting; did you mean 'learning_rate'?"),
        ("modle.name=x", "modle: unknown section; did you mean 'model'?"),
        ("data.nmae=x", "data.nmae: unknown setting; did you mean 'name'?"),
        ("techniques.lorra.rank=8", "techniques.lorra: unknown technique; did you mean 'lora'?"),
        ("techniques.lora.rnak=8", "techniques.lora.rnak: unknown setting; did you mean 'rank'?"),
        ("task=text-clasification", "unknown task 'text-clasification'; did you mean 'text-classification'?"),
        ("train.metric_for_best_model=acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("train.metric_for_best_model=rmse", "rmse is not for single_label_classification; use accuracy"),
        ("train.evaluation_strategy=epoch", "gone from transformers; use eval_strategy"),
        ("train.seed=3", "train.seed: set by the run itself; use seeds"),
        ("train.learning_rate=fast", "train.learning_rate: input should be a valid number"),
        ("train.learning_rate=-1", "train.learning_rate: input should be greater than 0, got -1"),
        ("train.num_train_epochs=-2", "train.num_train_epochs: input should be at least 0"),
        ("train.per_device_train_batch_size=0", "greater than 0"),
        ("train.optim=adamm", "adamm"),
        ("techniques.lora.rank=0", "techniques.lora.rank: expected above 0, got 0"),
        ("techniques.label_smoothing.epsilon=1.5", "expected above 0 and below 1, got 1.5"),
        ("data.labels_per_class=many", "data.labels_per_class: input should be a valid integer"),
        ("data.test_fraction=1.5", "data.test_fraction: expected above 0 and below 1, got 1.5"),
        ("model.max_length=1000", "takes at most 64 tokens, got 1000"),
        ("model.max_length=2", "model.max_length: expected 3 at least, got 2"),
        ("seeds=[0, 0]", "seeds: each seed once"),
        ("seeds=-1", "seeds: expected whole numbers from 0 to"),
        ("train.early_stopping_patience=2", "train.early_stopping_patience: there are no validation rows"),
        ("nonsense", "expected KEY=VALUE after the recipe, got nonsense"),
        ("train.learning_rate: 1", "expected KEY=VALUE after the recipe"),
        ("train.learning_rate=[1", "train.learning_rate=[1: "),
        ("data.label_column=labell", "no column 'labell', found text, label; did you mean 'label'?"),
        ("data.delimiter=;", "data.delimiter is a semicolon"),
        ("data.encoding=utf-16", "rows.csv: expected rows, found none"),
        ("data.labels_per_class=12", "these classes have fewer training rows: "),
        ("data.class_weights.foods=2", "data.class_weights: no label foods; found animals, food, weather"),
        ("data.name=gone.csv", "no such file or folder: gone.csv; did you mean 'rows.csv'?"),
        ("data.rows=gone.json", "data.rows: no such file: gone.json"),
        ("model.name=./gone", "model.name: no folder ./gone; give a folder with config.json"),
        ("model.name=pictures", "model.name: pictures holds no config.json"),
        ("model.name=bundled/minilm", "unknown bundled model 'bundled/minilm'; did you mean 'bundled/minilm-l6'?"),
        ("data.name=bundled/bbc", "unknown bundled data set 'bundled/bbc'"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_with_its_name(refused, setting, said):
    assert said in refused(setting)


def test_all_problems_of_a_recipe_are_told_at_once(refused):
    message = refused(train={"lr": 1, "weight_decay": -1}, techniques=["lorra", {"lora": {"rank": 0}}], seeds=[])
    assert message.startswith("error: 5 problems in recipe.yaml:\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty (0 bytes)"),
        (b" \n\n", "nothing but blank space"),
        (b"text,label\n", "expected rows, found none"),
        (b"text,label\na cat,animals\nrain, and snow,weather\n", "line 3: expected 2 fields cut by a comma, found 3"),
        (b"text,text,label\na,b,c\n", "found text more than once"),
        (b"text,label\na cat,animals\na dog,animals\n", "expected two classes or more"),
        (b'text,label\n"",animals\n" ",food\n', "no row is left; 2 of 2 rows have an empty 'text'"),
        ("text,label\ncafé,food\nchat,animals\n".encode("cp1252"), "set data.encoding to what the file was saved with"),
        (b"words,kind\na cat,animals\n", "set data."),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "expected utf-8, found"),
    ],
)
def test_a_broken_csv_is_refused_with_what_is_wrong(refused, here, content, said):
    (here / "broken.csv").write_bytes(content)
    assert said in refused(data={"name": "broken.csv"})


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_images_that_cannot_be_opened_are_named(refused, here, content):
    (here / "pictures" / "red" / "bad.png").write_bytes(content)
    message = refused(task="image-classification", model="vit", data={"name": "pictures"})
    assert "1 of 10 images can't be opened" in message
    assert "red/bad.png: " in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("task: [", "recipe.yaml: not YAML: "),
        ("- task\n- data\n", "expected sections such as task, data and model, got list"),
        ("", "expected sections such as task, data and model, got NoneType"),
        ("task: text-classification\n", "data: missing; expected {name: …}"),
    ],
)
def test_a_recipe_that_is_none_is_refused(here, capsys, monkeypatch, content, said):
    (here / "recipe.yaml").write_text(content)
    assert said in refusal(capsys, monkeypatch, here, "train", "recipe.yaml")


def test_a_recipe_that_is_missing_is_refused_with_the_nearest_name(here, capsys, monkeypatch):
    message = refusal(capsys, monkeypatch, here, "train", "quickstart/bbc_nwes")
    assert "did you mean 'quickstart/bbc_news'?" in message


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("no config", "holds no config.json, so it is not a saved transformers model"),
        ("config of nonsense", "is not a valid JSON file"),
        ("pickled", "has no model.safetensors; if its weights are pickled"),
        ("truncated", "could not be loaded: "),
        ("overwritten", "could not be loaded: "),
        ("other sizes", "do not fit its config: "),
        ("no tokenizer", "has no tokenizer files"),
    ],
)
def test_a_model_folder_that_is_broken_is_refused_in_one_line(refused, models, tmp_path_factory, broken, said):
    folder = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(models / "bert", folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if broken == "no config":
        config.unlink()
    elif broken == "config of nonsense":
        config.write_text("{")
    elif broken == "pickled":
        weights.unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif broken == "truncated":
        weights.write_bytes(weights.read_bytes()[:10_000])
    elif broken == "overwritten":
        weights.write_bytes(b"\xff" * 1000)
    elif broken == "other sizes":
        config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    else:
        for file in folder.glob("tokenizer*"):
            file.unlink()
    message = refused(model=folder)
    assert said in message
    assert len(message.splitlines()) == 1
    assert len(message) < 500


def test_a_model_of_another_modality_is_refused_with_the_task_it_is_for(refused):
    assert "vit model, which has no text-classification head; it is one for image-classification" in refused(
        model="vit"
    )
    message = refused(task="image-classification", data={"name": "pictures"})
    assert "bert model, which has no image-classification head; it is one for text-classification" in message


def test_rows_of_another_modality_are_refused(refused):
    assert "expected files such as train.csv" in refused(data={"name": "pictures"})
    message = refused(task="image-classification", model="vit", data={"name": "rows.csv"})
    assert "found no image column among text, label" in message


def test_without_the_hub_its_names_are_refused_with_the_bundled_ones(refused, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused("model.name=google-bert/bert-base-uncased")
    assert "model.name: google-bert/bert-base-uncased was not found" in message
    assert "bundled/minilm-l6" in message
    message = refused("data.name=SetFit/CR")
    assert "'SetFit/CR' is no file or folder here" in message
    assert "bundled/bbc-news" in message


def test_an_output_that_cannot_be_made_is_refused_before_training(refused, here):
    assert "rows.csv is a file; expected a folder" in refused("--output", "rows.csv")
    assert f"{here / 'rows.csv'} is no folder that may be written to" in refused("--output", "rows.csv/deep/er")


def test_an_output_where_nothing_may_be_written_is_refused(refused, here, monkeypatch):
    make = os.mkdir

    def refuse(path, *words, **more):  # root may all
        if Path(path).parent == here:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
        make(path, *words, **more)

    monkeypatch.setattr(os, "mkdir", refuse)
    assert f"{here} is no folder that may be written to (Operation not permitted)" in refused("--output", "mine")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="of Linux")
@pytest.mark.parametrize("place", ["/proc/x", "/proc/x.csv", "/sys/x/y"])
def test_a_place_that_only_seems_to_be_writable_is_refused_before_anything_is_read(place, refused, monkeypatch):
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: pytest.fail("read"))
    told = refused("--output", place)
    assert told.startswith(f"error: --output: {place} cannot be made; /{place.split('/')[1]} is no folder")
    assert told.count("\n") == 1


def test_a_mistake_found_after_work_began_leaves_nothing_either(refused):
    assert "lora.targets" in refused("techniques.lora.targets=[nothing]", "train.save_strategy=epoch")
    assert "put it before the technique" in refused("techniques.lora={}", "techniques.dropout.head=0.1")


def test_a_full_disk_ends_with_one_sentence_and_leaves_nothing(refused, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "optimizer.pt")

    monkeypatch.setattr(SmallDataTrainer, "train", refuse)
    assert refused() == "error: cannot write optimizer.pt: No space left on device\n"
