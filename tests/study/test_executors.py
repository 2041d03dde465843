"""Trackers group a study's Runs; Ray makes the same Runs as one process."""

from __future__ import annotations

import importlib.util
import os

import pandas as pd
import pytest

from hf_smalldata.study import store, study
from hf_smalldata.study.executors import on_ray
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


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_ray_makes_the_runs_of_one_process(recipe, tmp_path):
    named, options = {"a": recipe(), "b": recipe(["lora"])}, {"seeds": [0, 1], "budgets": [4], "progress": Quiet()}
    here = study(named, tmp_path / "here", **options)
    there = study(named, tmp_path / "there", executor=on_ray(2, None), **options)
    places = sorted(
        file.parents[1].relative_to(here.folder) for file in here.folder.glob("runs/*/*/smalldata/cell.json")
    )
    assert len(places) == 4
    for place in places:
        pd.testing.assert_frame_equal(
            store.read(here.folder / place)[1], store.read(there.folder / place)[1], atol=1e-6
        )
