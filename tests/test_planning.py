"""A plan says what is to come, from a few steps, and leaves nothing behind."""

from __future__ import annotations

import pytest
import yaml

from hf_smalldata import bundle, pipeline, planning
from hf_smalldata.errors import UserError
from hf_smalldata.fitting import Fitting
from hf_smalldata.planning import Estimate, Times, plan_study, plan_training, told
from hf_smalldata.recipe import Recipe
from hf_smalldata.study.plan import make_plan
from hf_smalldata.technique import Technique

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture(autouse=True)
def _unproven(monkeypatch):
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)


@pytest.fixture
def recipe(kits, sources):
    """The content of a recipe of 12 rows: two steps an epoch."""

    def make(epochs=30, techniques=("label_smoothing",), data=(), **train):
        return Recipe.parse({
            "task": "text-classification", "data": {**sources["text-classification"], **dict(data)},
            "model": {"name": str(kits["text-classification"].folder)}, "techniques": list(techniques),
            "train": {"num_train_epochs": epochs, "learning_rate": 1e-3, **train}, "seeds": [0, 1],
        })  # fmt: skip

    return make


@pytest.fixture
def at_once(monkeypatch):
    """A training is stopped after the fewest steps, however short they are."""
    monkeypatch.setattr(planning, "TIMED_SECONDS", 0.0)


def counted(monkeypatch, kind, name) -> list[int]:
    """An entry for each call of a method from now on."""
    calls, method = [], getattr(kind, name)

    def call(*given, **more):
        calls.append(1)
        return method(*given, **more)

    monkeypatch.setattr(kind, name, call)
    return calls


def test_a_step_and_what_is_to_come_are_of_warm_steps():
    times = Times(began=0.0, steps=[9.0, 10.0, 12.0, 14.0, 16.0], evaluated=[17.5], steps_in_all=25,
                  evaluations_in_all=5.0)  # fmt: skip
    assert times.step == 2.0
    assert times.evaluation == 1.5
    assert times.to_come == 20 * 2.0 + 4 * 1.5
    assert Times(began=1.0, steps=[3.0, 4.0]).step == 1.5
    assert Times(steps_in_all=0).to_come == 0.0


def test_a_plan_counts_the_steps_that_training_makes(recipe, at_once, tmp_path):
    made = recipe(epochs=4, data={"validation_fraction": 0.25})
    found = plan_training(made)
    run = pipeline.train(made, tmp_path / "run")
    assert found.steps == sum(each["steps"] for each in run.metrics["runs"])
    assert found.runs == 2
    assert found.memory_bytes > 1e8
    size = sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file())
    assert found.disk_bytes == pytest.approx(size, rel=0.25)


def test_a_plan_makes_few_steps_and_no_files(recipe, at_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = counted(monkeypatch, planning._Clock, "on_step_end")
    found = plan_training(recipe(epochs=200))
    assert len(made) == planning.WARM_STEPS + planning.TIMED_STEPS
    assert found.steps == 2 * 400
    assert list(tmp_path.iterdir()) == []


def test_more_epochs_and_seeds_take_longer(recipe, at_once):
    short, long = plan_training(recipe(epochs=10)), plan_training(recipe(epochs=1000))
    assert long.parts["training"] > 10 * short.parts["training"]
    one = plan_training(recipe(epochs=1000).model_copy(update={"seeds": (0,)}))
    assert one.steps * 2 == long.steps


def test_checkpoints_take_disk(recipe, at_once):
    plain, saving = plan_training(recipe(epochs=20)), plan_training(recipe(epochs=20, save_strategy="epoch"))
    assert saving.disk_bytes > 5 * plain.disk_bytes


class Asks(Technique):
    """Asks a teacher."""

    name = "asks"
    tasks = frozenset({"text-classification"})

    def rows(self, train, ctx):
        assert len(ctx.fit(train)(train)) == len(train)
        return train


def test_teachers_are_trained_whole(recipe, at_once, monkeypatch):
    """What a technique has it fit before the first step is part of what is measured."""
    clocks, trainings = counted(monkeypatch, planning._Clock, "on_train_begin"), counted(monkeypatch, Fitting, "_train")
    plan_training(recipe(epochs=2, techniques=[Asks()]))
    assert (len(clocks), len(trainings)) == (1, 2)


def test_a_study_is_the_sum_of_its_runs(recipe, at_once):
    plan = make_plan({"a": recipe(epochs=5)}, seeds=[0, 1, 2], budgets=["2", "4"], ablate=True)
    found = plan_study(plan)
    assert found.runs == len(plan.cells()) == 3 * 2 * 2
    assert next(iter(found.parts)) == "reading rows"
    assert {"3 Runs of a, budget 2", "3 Runs of plain, budget 4"} <= set(found.parts)
    halved = plan_study(plan, jobs=2)
    assert halved.memory_bytes == pytest.approx(2 * found.memory_bytes, rel=0.2)


def test_what_a_plan_says_is_lines_with_units():
    said = list(
        told(Estimate({"reading rows": 1.0, "training": 300.0}, 1200, 2, 1_500_000_000, None, 94_000_000, 20.0))
    )
    assert said == [
        "about 5 min 1 s for 2 Runs of 1,200 steps in all", "at most 1.50 GB of memory", "94 MB on disk",
        "  reading rows: 1.0 s", "  training: 5 min 0 s", "(planned in 20.0 s; nothing was kept)",
    ]  # fmt: skip


def test_the_commands_plan_and_stop(command, recipe, at_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(epochs=3).as_dict()))
    for words in (["train", "recipe.yaml", "--plan"], ["study", "recipe.yaml", "--seeds", "2", "--plan"]):
        code, output, errors = command(*words)
        assert code == 0, errors
        assert "2 Runs" in output
        assert "nothing was kept" in output
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


def test_what_training_would_refuse_a_plan_refuses(recipe, at_once):
    with pytest.raises(UserError, match="class_weights: no label"):
        plan_training(recipe(data={"class_weights": {"nothing": 1.0}}))
