"""What an interrupted training leaves: nothing half, and with checkpoints a way to go on to the same result."""

from __future__ import annotations

import errno
import resource
from typing import ClassVar

import numpy as np
import pytest
from safetensors import SafetensorError
from transformers import TrainerCallback

from hf_smalldata import bundle, outcome, pipeline
from hf_smalldata.errors import UserError
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.technique import Technique
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model

TASK = "text-classification"
KILOBYTE = 1024


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """With dropout, so that a training that goes on needs the generators' states as well."""
    return tiny_text_model(tmp_path_factory.mktemp("models") / "bert", dropout=0.1)


@pytest.fixture(autouse=True)
def _unproven(monkeypatch):
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)


@pytest.fixture
def train(bert, tmp_path):
    rows = text_rows(12)
    objects = {"train": {"text": rows["text"][:], "label": [list(TOPICS)[label] for label in rows["label"]]}}

    def run(out="out", techniques=(), seeds=(0,), resume=False, overwrite=False, data=(), **train):
        settings = {"learning_rate": 1e-3, "num_train_epochs": 4, **train}
        made = Recipe.parse({"task": TASK, "data": {"name": "rows", **dict(data)}, "model": {"name": str(bert)},
                             "techniques": list(techniques), "train": settings, "seeds": list(seeds)})  # fmt: skip
        return pipeline.train(made, tmp_path / out, objects=objects, resume=resume, overwrite=overwrite)

    return run


class Stop(TrainerCallback):
    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise self.error


class Stopped(Technique):
    """Raises `error` in the training of `seed` after `steps` steps; 4 steps are an epoch."""

    name = "stopped"
    tasks = frozenset({TASK})
    error: ClassVar[BaseException] = KeyboardInterrupt()
    seed: int = 0
    steps: int = 9
    now: ClassVar[int] = 0

    def model(self, model, ctx):
        type(self).now = ctx.seed
        return model

    def callbacks(self):
        return [Stop(self.steps if self.now == self.seed else -1, self.error)]


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def scores(run) -> np.ndarray:
    return run.predictions[[f"score: {label}" for label in TOPICS]].to_numpy()


def test_an_interrupted_training_goes_on_to_the_same_result(train, tmp_path):
    whole = train("whole", seeds=(0, 1))
    with pytest.raises(KeyboardInterrupt):
        train(techniques=[Stopped(seed=1)], seeds=(0, 1), save_strategy="epoch")
    assert names(tmp_path) == [".out.partial", "whole"]  # no half Run
    run = train(seeds=(0, 1), save_strategy="epoch", resume=True)
    assert names(tmp_path) == ["out", "whole"]
    np.testing.assert_allclose(scores(run), scores(whole), atol=1e-6)
    assert [fact["steps"] for fact in run.metrics["runs"]] == [fact["steps"] for fact in whole.metrics["runs"]]


def test_a_resumed_training_knows_the_best_epoch_of_its_first_part(train, monkeypatch):
    monkeypatch.setattr(Fitting, "_collapsed", lambda *_: False)
    settings = {"learning_rate": 1e-2, "num_train_epochs": 8, "metric_for_best_model": "log_loss",
                "data": {"validation_fraction": 0.3}}  # fmt: skip
    whole = train("whole", **settings)
    steps = whole.metrics["runs"][0]["steps"]
    with pytest.raises(KeyboardInterrupt):
        train(techniques=[Stopped(steps=steps - 1)], save_strategy="epoch", **settings)
    run = train(save_strategy="epoch", resume=True, **settings)
    np.testing.assert_allclose(scores(run), scores(whole), atol=1e-6)


def test_a_checkpoint_that_was_half_written_is_passed_over(train, tmp_path):
    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train(techniques=[Stopped(steps=13)], save_strategy="epoch")
    checkpoints = tmp_path / ".out.partial" / "work" / "seed-0" / "checkpoints"
    assert names(checkpoints) == ["checkpoint-12", "checkpoint-4", "checkpoint-8"]
    (checkpoints / "checkpoint-12" / "trainer_state.json").unlink()  # written last
    (checkpoints / "checkpoint-12" / "model.safetensors").write_bytes(b"half")
    np.testing.assert_allclose(scores(train(save_strategy="epoch", resume=True)), scores(whole), atol=1e-6)


def test_without_checkpoints_an_interruption_leaves_nothing_and_says_so_on_resume(train, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(techniques=[Stopped()])
    assert names(tmp_path) == []
    with pytest.raises(UserError, match=r"--resume: nothing to resume.*save_strategy=epoch"):
        train(resume=True)
    assert len(train().predictions) == 7


def test_a_start_without_resume_begins_anew(train, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(techniques=[Stopped()], save_strategy="epoch")
    assert names(tmp_path) == [".out.partial"]
    assert train().metrics["runs"][0]["steps"] == 16
    assert names(tmp_path) == ["out"]


def test_a_mistake_in_the_recipe_leaves_nothing_to_resume(train, tmp_path):
    with pytest.raises(UserError, match=r"lora\.targets"):
        train(techniques=[{"lora": {"targets": ["no_such_layer"]}}], save_strategy="epoch")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    ],
)
def test_a_full_disk_is_told_as_such_and_leaves_nothing(train, tmp_path, monkeypatch, error):
    monkeypatch.setattr(Stopped, "error", error)
    with pytest.raises(OSError, match="No space left") as caught:
        train(techniques=[Stopped()])
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []
    assert len(train().predictions) == 7


def test_other_errors_keep_their_class_and_leave_nothing(train, tmp_path, monkeypatch):
    monkeypatch.setattr(Stopped, "error", RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        train(techniques=[Stopped()])
    assert names(tmp_path) == []


@pytest.mark.parametrize("limit", [20 * KILOBYTE, 60 * KILOBYTE, 100 * KILOBYTE])
def test_wherever_writing_is_refused_no_half_run_is_left(train, tmp_path, limit):
    """The system's own refusal, within weights, optimiser states and the files after them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large|No space left"):
            train(save_strategy="epoch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) in ([], [".out.partial"])
    assert len(train().predictions) == 7
    assert names(tmp_path) == ["out"]


def test_a_failed_overwrite_leaves_the_old_run_as_it_was(train, tmp_path, monkeypatch):
    old = scores(train())

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(outcome, "write_json", refuse)
        with pytest.raises(OSError, match="No space left"):
            train(seeds=(5,), overwrite=True)
    assert names(tmp_path) == ["out"]
    again = train(seeds=(5,), overwrite=True)
    assert names(tmp_path) == ["out"]
    assert not np.allclose(scores(again), old)
