"""A trained Run and a small Hub."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import constants

from hf_smalldata import bundle, pipeline, report
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run, read_json, write_json
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model

BASE = "me/base"


@pytest.fixture(scope="session")
def hub_server() -> ModuleType:
    file = Path(__file__).parents[1] / "hub_server.py"
    spec = importlib.util.spec_from_file_location("hub_server", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def topics(tmp_path_factory) -> Path:
    rows = text_rows(8)
    file = tmp_path_factory.mktemp("rows") / "topics.csv"
    pd.DataFrame({"text": rows["text"], "label": [list(TOPICS)[at] for at in rows["label"]]}).to_csv(file, index=False)
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory, topics) -> Path:
    """A Run with an adapter, never to be written to."""
    place = tmp_path_factory.mktemp("trained")
    tiny_text_model(place / "bert")
    (place / "bert" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\nlanguage: en\n---\n\n# Base\n")
    recipe = Recipe.parse({"task": "text-classification", "data": {"name": str(topics)},
                           "model": {"name": str(place / "bert")}, "techniques": ["lora"], "seeds": [0, 1],
                           "train": {"num_train_epochs": 1}})  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "html", lambda *_: "a page with rows")
        patched.setattr(bundle, "prove", lambda *_: 1e-7)
        return pipeline.train(recipe, place / "run").folder


@pytest.fixture
def run(trained, tmp_path) -> Run:
    shutil.copytree(trained, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def hub_run(run) -> Run:
    """The same as if its base model had been `me/base` of the Hub."""
    recipe = run.part("recipe.yaml")
    recipe.write_text(recipe.read_text().replace(run.metrics["model"], BASE))
    write_json(run.part("metrics.json"), {**run.metrics, "model": BASE})
    write_json(run.part("environment.json"), {**read_json(run.part("environment.json")), "on_hub": [BASE]})
    file = run.folder / "adapter" / "adapter_config.json"
    write_json(file, {**read_json(file), "base_model_name_or_path": BASE})
    return run


@pytest.fixture
def hub(hub_server, monkeypatch) -> Iterator[Any]:
    """A small Hub that the client in this process speaks to, logged in."""
    with hub_server.Hub().running() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        monkeypatch.setattr("time.sleep", lambda _: None)  # what is tried again is tried at once
        yield running
