"""Models that bring code of their own: it does not run unless the recipe says so, and then all the way to the proof."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from hf_smalldata.run import Run
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model

CODE = """
import pathlib
from transformers import BertConfig, BertForSequenceClassification

pathlib.Path({mark!r}).write_text("it ran")


class MyConfig(BertConfig):
    model_type = "mine"


class MyModel(BertForSequenceClassification):
    config_class = MyConfig
"""


@pytest.fixture
def place(tmp_path):
    """A model with code that leaves `ran` where it is run, and rows."""
    folder = tiny_text_model(tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.MyConfig",
                                                  "AutoModelForSequenceClassification": "code.MyModel"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    rows = text_rows(8)
    labels = [list(TOPICS)[label] for label in rows["label"]]
    pd.DataFrame({"text": rows["text"], "label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


def words(place, *more):
    return ["train", "--task", "text-classification", "--model", place / "own", "--data", place / "rows.csv",
            "train.num_train_epochs=1", "--output", place / "run", *more]  # fmt: skip


def test_code_of_a_model_is_not_run_and_the_error_says_what_would(command, place):
    code, _, wrong = command(*words(place))
    assert code == 2
    assert "brings code of its own, which is not run" in wrong
    assert "model.trust_remote_code: true" in wrong
    assert not (place / "ran").exists()
    assert not (place / "run").exists()


def test_a_model_whose_code_is_trusted_is_trained_proven_and_asked(command, place, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(place / "modules"))
    code, _, wrong = command(*words(place, "model.trust_remote_code=true"))
    assert code == 0, wrong
    assert Run.open(place / "run").metrics["runs"][0]["reload"]["."] < 1e-4
    assert (place / "run" / "code.py").is_file()
    code, said, _ = command("predict", place / "run", "rain and snow")
    assert code == 0
    assert "rain and snow" in said
