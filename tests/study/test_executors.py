"""Trackers group a study's Runs; Ray makes the same Runs as one process."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest

from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.study import store, study
from hf_smalldata.study.executors import in_processes, on_ray
from hf_smalldata.study.progress import Quiet
from hf_smalldata.training.tracking import Tracking, tracked


def test_tensorboard_has_a_run_for_each_run_of_a_study(recipe, tmp_path):
    watched = recipe(train={"report_to": "tensorboard"})
    assert watched.train["logging_strategy"] == "epoch"
    study({"a": watched}, tmp_path / "out", seeds=[0, 1], budgets=[4], progress=Quiet())
    files = sorted(file.parent.name for file in (tmp_path / "out" / "tracker").rglob("events.out.*"))
    assert sorted(set(files)) == ["a_4 labels a class_seed 0", "a_4 labels a class_seed 1"]


def test_within_a_group_trackers_find_its_name_and_afterwards_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    tracking = Tracking("reviews", "lora, seed 1", tmp_path)
    with tracked(tracking, {"report_to": ["wandb"]}) as more:
        assert more == {"run_name": "lora, seed 1", "project": "reviews"}
        assert os.environ["WANDB_RUN_GROUP"] == "reviews"
    assert "WANDB_RUN_GROUP" not in os.environ
    with tracked(tracking, {"report_to": "trackio", "project": "mine"}) as more:
        assert more == {"run_name": "lora, seed 1"}
    with tracked(tracking, {"report_to": "none"}) as more:
        assert (more, "WANDB_RUN_GROUP" in os.environ) == ({}, False)


def places_of(study_folder: Path) -> list[Path]:
    """Where in a study the Runs lie that are done."""
    found = study_folder.glob("runs/*/*/smalldata/cell.json")
    return sorted(file.parents[1].relative_to(study_folder) for file in found)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="of POSIX")
def test_a_killed_worker_is_told_after_the_runs_that_were_done(tmp_path):
    bench = SimpleNamespace(work=tmp_path, run=signal.raise_signal)  # a cell is the signal that its worker gets
    made = in_processes(1)(bench, [0, int(signal.SIGKILL)])
    assert next(made) == (0, None)
    with pytest.raises(UserError, match="killed, most likely for want of memory; Runs that are done are kept"):
        next(made)
    assert multiprocessing.active_children() == []


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'"
)


@pytest.mark.slow
@needs_ray
def test_a_killed_ray_worker_costs_its_run_some_time_and_nothing_else(recipe, tmp_path):
    """Two workers of a real local cluster, one killed in the middle of the study."""
    files = []
    for name, techniques in (("a", []), ("b", ["lora"]), ("c", ["label_smoothing"])):
        file = tmp_path / f"{name}.yaml"
        file.write_text(recipe(techniques).to_yaml())
        files.append(file)
    options = ["--seeds", "0,1", "--budgets", "4", "--executor", "ray", "--jobs", "2", "--output", tmp_path / "there"]
    call = [sys.executable, "-m", "hf_smalldata", "study", *map(str, (*files, *options))]
    running = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "HF_HUB_OFFLINE": "1"}, start_new_session=True)  # fmt: skip
    try:
        killed = None
        while killed is None:
            assert running.poll() is None, running.communicate()[0]
            done = places_of(tmp_path / "there")
            below = psutil.Process(running.pid).children(recursive=True)
            busy = [each for each in below if each.is_running() and each.cmdline()[:1] == ["ray::_Remote.run"]]
            if done and busy:
                killed = busy[0]
                killed.kill()
            time.sleep(0.05)
        said, _ = running.communicate(timeout=300)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, said
    named = {file.stem: Recipe.read(file) for file in files}
    here = study(named, tmp_path / "here", seeds=[0, 1], budgets=[4], progress=Quiet())
    places = places_of(here.folder)
    assert len(places) == 6
    assert places_of(tmp_path / "there") == places
    for place in places:
        pd.testing.assert_frame_equal(
            store.read(here.folder / place)[1], store.read(tmp_path / "there" / place)[1], atol=1e-6
        )


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_ray_makes_the_runs_of_one_process(recipe, tmp_path):
    named, options = {"a": recipe(), "b": recipe(["lora"])}, {"seeds": [0, 1], "budgets": [4], "progress": Quiet()}
    here = study(named, tmp_path / "here", **options)
    there = study(named, tmp_path / "there", executor=on_ray(2, None), **options)
    places = places_of(here.folder)
    assert len(places) == 4
    for place in places:
        pd.testing.assert_frame_equal(
            store.read(here.folder / place)[1], store.read(there.folder / place)[1], atol=1e-6
        )
