"""Rows in csv files, a tiny model, and recipes over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hf_smalldata import bundle
from hf_smalldata.recipe import Recipe
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with `bert/`, and train.csv (12 rows a class) and test.csv (8 a class)."""
    folder = tmp_path_factory.mktemp("study")
    tiny_text_model(folder / "bert", dropout=0.0)
    for name, per_class in (("train", 12), ("test", 8)):
        rows = text_rows(per_class, seed=per_class)
        names = [list(TOPICS)[label] for label in rows["label"]]
        pd.DataFrame({"text": rows["text"], "label": names}).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def recipe(place) -> Callable[..., Recipe]:
    """A recipe on these rows; settings by section."""

    def make(techniques=(), seeds=(0, 1), train=(), test=True, **data) -> Recipe:
        files = {"train": str(place / "train.csv")} | ({"test": str(place / "test.csv")} if test else {})
        settings = {"learning_rate": 5e-3, "num_train_epochs": 2, **dict(train)}
        return Recipe.parse({"task": "text-classification", "data": {**files, **data}, "train": settings,
                             "model": {"name": str(place / "bert")}, "techniques": list(techniques),
                             "seeds": list(seeds)})  # fmt: skip

    return make


@pytest.fixture
def unproven(monkeypatch):
    """Without the proof that the saved folder reloads: that is tested in test_pipeline."""
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)
