"""Energy: told where codecarbon is installed, in metrics and card, and nowhere else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hf_smalldata import bundle, pipeline
from hf_smalldata.publish.card import model_card
from hf_smalldata.recipe import Recipe
from hf_smalldata.testing import TOPICS, text_rows
from hf_smalldata.training.energy import metered

MODULE = "codecarbon"


class Tracker:
    """As codecarbon's, of 0.0012345 kWh; `states` tells what was asked of it."""

    states: list[str] = []

    def __init__(self, **settings: object) -> None:
        assert settings["save_to_file"] is False
        self.final_emissions_data = SimpleNamespace(energy_consumed=0.0012345)

    def start(self) -> None:
        self.states.append("start")

    def stop(self) -> None:
        self.states.append("stop")


@pytest.fixture
def installed(monkeypatch):
    Tracker.states = []
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(OfflineEmissionsTracker=Tracker))


def test_without_codecarbon_and_on_other_processes_nothing_is_told(installed, monkeypatch):
    with metered(main=False) as told:
        pass
    assert told == {}
    monkeypatch.setitem(sys.modules, MODULE, None)  # an import of it fails
    with metered() as told:
        pass
    assert told == {}
    assert Tracker.states == []


def test_an_interrupted_training_stops_the_tracker_too(installed):
    with pytest.raises(KeyboardInterrupt), metered():
        raise KeyboardInterrupt
    assert Tracker.states == ["start", "stop"]


def test_metrics_and_card_tell_the_energy_of_each_training(installed, text, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)
    rows = text_rows(8)
    objects = {"train": {"text": rows["text"][:], "label": [list(TOPICS)[label] for label in rows["label"]]}}
    recipe = Recipe.parse({"task": "text-classification", "data": {"name": "rows"}, "model": {"name": str(text.folder)},
                           "train": {"num_train_epochs": 1}, "seeds": [0, 1]})  # fmt: skip
    run = pipeline.train(recipe, tmp_path / "run", objects=objects)
    assert [each["energy_kwh"] for each in run.metrics["runs"]] == [0.00123, 0.00123]
    assert "0.0025 kWh in all (codecarbon)" in str(model_card(run, recipe=recipe))
