"""Two processes give the result of one: the same batches, every test row scored once, one Run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from huggingface_hub import cached_assets_path

from hf_smalldata import pipeline
from hf_smalldata.data.load import Splits
from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run
from hf_smalldata.study import Study, study
from hf_smalldata.study.progress import Quiet
from hf_smalldata.techniques.synthesis import language_model
from hf_smalldata.testing import TOPICS, text_rows, tiny_audio_model, tiny_text_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """23 training rows in batches of 8, 9 validation and 22 test rows; no dropout: no draw depends on the process."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_text_model(folder / "bert")
    for name, per_class, rows in (("train", 8, 23), ("validation", 3, 9), ("test", 8, 22)):
        table = text_rows(per_class, seed=per_class + rows).select(range(rows))
        labels = [list(TOPICS)[label] for label in table["label"]]
        pd.DataFrame({"text": table["text"], "label": labels}).to_csv(folder / f"{name}.csv", index=False)
    content = {
        "task": "text-classification",
        "data": {name: str(folder / f"{name}.csv") for name in ("train", "validation", "test")},
        "model": {"name": str(folder / "bert")},
        "techniques": [{"dropout": {"hidden": 0, "attention": 0}}, "knn"],
        "train": {"learning_rate": 1e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8,
                  "ddp_backend": "gloo"},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def launched(*words: object, cwd: Path, command: str = "train") -> subprocess.Popen[str]:
    """Through `accelerate launch`, as scripts/accelerate/cpu.yaml says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = [Path(sys.executable).with_name("accelerate"), "launch", "--config_file",
            ROOT / "scripts" / "accelerate" / "cpu.yaml", "--main_process_port", str(port), "-m", "hf_smalldata",
            command, *map(str, words)]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment,
                            start_new_session=True)  # fmt: skip


def in_two_processes(*words: object, cwd: Path, command: str = "train") -> subprocess.CompletedProcess[str]:
    running = launched(*words, cwd=cwd, command=command)
    said, wrong = running.communicate(timeout=600)
    return subprocess.CompletedProcess(running.args, running.returncode, said, wrong)


def in_training(running: subprocess.Popen[str], folder: Path) -> dict[int, int]:
    """Rank -> pid of both processes, once there is a checkpoint."""
    until, ranks = time.monotonic() + 300, list[int]()
    while len(ranks) < 2 or not any(folder.rglob("checkpoint-*/trainer_state.json")):
        assert running.poll() is None, "ended before it was stopped"
        assert time.monotonic() < until
        ranks = [each.pid for each in psutil.Process(running.pid).children(recursive=True)
                 if each.status() != psutil.STATUS_ZOMBIE and "hf_smalldata" in " ".join(each.cmdline())]  # fmt: skip
        time.sleep(0.1)
    return {int(psutil.Process(pid).environ()["RANK"]): pid for pid in ranks}


def scores(run: Run) -> np.ndarray:
    return run.predictions[[f"score: {label}" for label in run.metrics["labels"]]].to_numpy()


def test_two_processes_train_the_model_that_one_trains(recipe, tmp_path):
    done = in_two_processes(recipe, "--output", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    two = Run.open(tmp_path / "two")
    assert json.loads(two.part("environment.json").read_text())["processes"] == 2
    one = pipeline.train(Recipe.read(recipe), tmp_path / "one")
    assert json.loads(one.part("environment.json").read_text())["processes"] == 1
    assert two.metrics["rows"] == {"train": 23, "pool": 23, "validation": 9, "test": 22}
    assert two.metrics["runs"][0]["steps"] == one.metrics["runs"][0]["steps"] == 12
    assert len(two.predictions) == two.predictions["id"].nunique() == 22
    assert list(two.predictions["id"]) == list(one.predictions["id"])
    np.testing.assert_allclose(scores(two), scores(one), atol=1e-4)
    assert two.metrics["results"]["5 nearest neighbours"] == one.metrics["results"]["5 nearest neighbours"]
    assert two.rows == one.rows
    assert done.stdout.count("saved and proven to reload") == 1  # one process speaks
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.slow
def test_a_study_gives_each_run_both_processes_and_one_of_them_writes(recipe, tmp_path):
    """Above frozen blocks, from a body that one process learnt by contrast, and regularised, as of a plain training."""
    ways = {
        "plain": ["knn"],
        "frozen": [{"freeze": {"blocks": 1}}],
        "contrast": ["pooling", "contrastive", "ridge_head"],
        "smoothed": ["llrd", "label_smoothing"],
        "regularised": ["l2_sp", "noise_robust", "sam", "ema"],
        "aligned": ["dann", "mean_teacher"],
    }
    content = yaml.safe_load(recipe.read_text())
    content["data"]["unlabelled"] = content["data"]["train"]
    files = [tmp_path / f"{name}.yaml" for name in ways]
    for file, techniques in zip(files, ways.values(), strict=True):
        steady = {"dropout": {"hidden": 0, "attention": 0}}
        file.write_text(yaml.safe_dump({**content, "techniques": [steady, *techniques]}))
    done = in_two_processes(*files, "--seeds", "0,1", "--output", tmp_path / "two", cwd=tmp_path, command="study")
    assert done.returncode == 0, done.stderr[-3000:]
    named = {file.stem: Recipe.read(file) for file in files}
    one, two = study(named, tmp_path / "one", seeds=[0, 1], progress=Quiet()), Study.open(tmp_path / "two")
    assert two.results["environment"]["processes"] == 2
    places = sorted(place.relative_to(one.folder) for place in one.folder.glob("runs/*/*"))
    assert len(places) == 2 * len(ways)
    for place in places:
        a, b = (Run.open(made.folder / place, model=False) for made in (one, two))
        np.testing.assert_allclose(scores(b), scores(a), atol=1e-3 if "contrast" in place.parts else 1e-4)
        for fact in ("steps", "prefix_cache"):
            assert b.metrics["runs"][0][fact] == a.metrics["runs"][0][fact]
        assert b.metrics["runs"][0]["techniques"].get("pooling") == a.metrics["runs"][0]["techniques"].get("pooling")
        assert (a.metrics["runs"][0]["prefix_cache"] == "on: cut above 1 block") == ("frozen" in place.parts)
    assert done.stdout.count("report.html:") == 1
    assert sorted(file.name for file in two.folder.iterdir()) == ["report.html", "report.md", "results.json", "runs",
                                                                  "study.json"]  # fmt: skip


DRAWS = {  # techniques that draw each row anew, from the row's own generator; rows fill all batches
    "image-classification": ["flip", "image_noise", "label_smoothing"],
    "audio-classification": ["waveform", "label_smoothing"],
    "sequence-classification": [{"dropout": {"hidden": 0, "attention": 0}}, "mutation", "llrd"],
    "token-classification": [{"dropout": {"hidden": 0, "attention": 0}}, "label_smoothing"],  # rows differ in words
}


@pytest.mark.slow
@pytest.mark.parametrize("modality", DRAWS)
def test_two_processes_make_the_same_draws_of_rows_of_each_modality(modality, kits, sources, tmp_path):
    folder = kits[modality].folder
    if modality == "audio-classification":  # speech encoders drop layers and mask time by torch's generator
        folder = tiny_audio_model(tmp_path / "whisper", "whisper")
    content = {"task": modality, "data": sources[modality], "model": {"name": str(folder)},
               "techniques": DRAWS[modality],
               "train": {"learning_rate": 1e-3, "num_train_epochs": 3, "per_device_train_batch_size": 4,
                         "ddp_backend": "gloo"}}  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    done = in_two_processes(file, "--output", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = pipeline.train(Recipe.read(file), tmp_path / "one"), Run.open(tmp_path / "two")
    assert two.metrics["runs"][0]["steps"] == one.metrics["runs"][0]["steps"]
    columns = [name for name in one.predictions if name.startswith("score")]
    for name in columns:
        pairs = zip(two.predictions[name], one.predictions[name], strict=True)
        assert max(np.abs(np.subtract(*pair)).max() for pair in pairs) < 1e-3


@pytest.mark.slow
def test_two_processes_ask_one_teacher_and_learn_from_the_rows_that_one_process_wrote(
    recipe, causal, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_ASSETS_CACHE", str(tmp_path / "assets"))
    in_this_process = partial(cached_assets_path, assets_dir=tmp_path / "assets")
    monkeypatch.setattr(language_model, "cached_assets_path", in_this_process)
    file, settings = tmp_path / "recipe.yaml", {"checkpoint": causal, "epochs": 1, "keep": {"max_similarity": 1}}
    content = yaml.safe_load(recipe.read_text())
    file.write_text(yaml.safe_dump({**content, "techniques": [content["techniques"][0], {"language_model": settings}]}))
    done = in_two_processes(file, "--output", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = pipeline.train(Recipe.read(file), tmp_path / "one"), Run.open(tmp_path / "two")
    a, b = (run.metrics["runs"][0] for run in (one, two))
    assert a["techniques"]["language_model"] == b["techniques"]["language_model"]
    assert a["techniques"]["language_model"]["dropped"]["disagree"] > 0
    assert a["train_rows"] == b["train_rows"] > 23


def test_of_two_processes_one_says_what_is_wrong(command, monkeypatch):
    told = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        told.append(command("train", "gone.yaml"))
    assert [code for code, _, _ in told] == [2, 2]
    assert told[0][2].startswith("error: no recipe 'gone.yaml'")
    assert told[1][2] == ""


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_one_error(recipe, tmp_path):
    done = in_two_processes(recipe, "train.per_device_train_batch_size=7", "--output", tmp_path / "two", cwd=tmp_path)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == ["error: train.per_device_train_batch_size: 7 rows cannot be shared evenly over 2 processes; use a "
                    "multiple of 2"]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["per_device_train_batch_size=64", "gradient_accumulation_steps=2", "per_device_train_batch_size=22"]
)
def test_data_smaller_than_a_batch_accumulated_steps_and_a_last_batch_of_one_row_are_the_same_too(
    setting, recipe, tmp_path
):
    more = [f"train.{setting}"]
    done = in_two_processes(recipe, *more, "--output", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = pipeline.train(Recipe.read(recipe, more), tmp_path / "one"), Run.open(tmp_path / "two")
    assert two.metrics["runs"][0]["steps"] == one.metrics["runs"][0]["steps"]
    np.testing.assert_allclose(scores(two), scores(one), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_process_ends_the_others_and_one_process_goes_on_from_the_checkpoint(victim, recipe, tmp_path):
    more = ["train.save_strategy=epoch", "train.num_train_epochs=60"]
    running = launched(recipe, *more, "--output", tmp_path / "out", cwd=tmp_path)
    by_rank = in_training(running, tmp_path)
    os.kill(by_rank[victim], signal.SIGKILL)
    _, wrong = running.communicate(timeout=120)  # the other one does not wait for it for ever
    assert running.returncode != 0
    assert "SIGKILL" in wrong
    assert not any(psutil.pid_exists(pid) for pid in by_rank.values())
    assert not (tmp_path / "out").exists()
    again = pipeline.train(Recipe.read(recipe, more), tmp_path / "out", resume=True)
    whole = pipeline.train(Recipe.read(recipe, more), tmp_path / "whole")
    assert again.metrics["runs"][0]["steps"] == whole.metrics["runs"][0]["steps"] == 180
    np.testing.assert_allclose(scores(again), scores(whole), atol=1e-3)


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_launch_after_the_time_out_with_one_line(recipe, tmp_path):
    more = ["train.save_strategy=epoch", "train.num_train_epochs=600", "train.ddp_timeout=10"]
    running = launched(recipe, *more, "--output", tmp_path / "out", cwd=tmp_path)
    os.kill(in_training(running, tmp_path)[1], signal.SIGSTOP)
    _, wrong = running.communicate(timeout=180)  # 10 s, and 30 s that torch waits for the one that hangs
    assert running.returncode != 0
    said = [line for line in wrong.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "another process of this command was lost or hangs" in said[0]
    assert "--resume goes on from the last checkpoint" in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("processes", "validates", "refused"), [(1, True, False), (2, False, False), (2, True, True)])
def test_validation_batches_must_be_shared_evenly_as_well(processes, validates, refused):
    rows = text_rows(2)
    data = Splits(rows, rows if validates else None, rows, tuple(TOPICS), "single_label_classification")
    arguments = SimpleNamespace(per_device_train_batch_size=8, per_device_eval_batch_size=7, world_size=processes)
    with pytest.raises(UserError, match="per_device_eval_batch_size: 7 rows") if refused else nullcontext():
        pipeline.check_processes(arguments, SimpleNamespace(train={"select_by": "validation"}), data)


@pytest.mark.parametrize("file", sorted((ROOT / "scripts" / "accelerate").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_launch_settings_are_read_by_the_installed_accelerate(file):
    written = yaml.safe_load(file.read_text())
    read = load_config_from_file(str(file))
    assert read.num_processes == written["num_processes"]
    assert read.distributed_type.value == written["distributed_type"]
    assert read.mixed_precision == written["mixed_precision"]
    plugin = {"FSDP": "fsdp_config", "DEEPSPEED": "deepspeed_config"}.get(written["distributed_type"])
    assert plugin is None or getattr(read, plugin) == written[plugin]
