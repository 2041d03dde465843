"""A study from beginning to end: the same Runs as `train`, none made twice, and nothing said that they do not show."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hf_smalldata import pipeline
from hf_smalldata.errors import Problems, UserError
from hf_smalldata.evaluation.intervals import t_interval
from hf_smalldata.evaluation.metrics import within_range
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run
from hf_smalldata.study import Study, store, study, workbench
from hf_smalldata.study.executors import in_processes
from hf_smalldata.study.progress import Quiet
from hf_smalldata.study.workbench import Workbench

TECHNIQUES = [{"freeze": {"blocks": 1}}, {"label_smoothing": {"epsilon": 0.2}}]


@pytest.fixture(scope="module")
def ablation(recipe, tmp_path_factory) -> Study:
    """Four variants, two seeds, two budgets."""
    folder = tmp_path_factory.mktemp("studies") / "ablation"
    return study({"whole": recipe(TECHNIQUES)}, folder, seeds=[0, 1], budgets=[4, 8], ablate=True, progress=Quiet())


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """The Runs that are made while a test runs."""
    names: list[str] = []
    run = Workbench.run

    def noted(self, cell):
        names.append(str(cell))
        return run(self, cell)

    monkeypatch.setattr(Workbench, "run", noted)
    return names


def runs_of(made: Study) -> list[Run]:
    return [Run.open(file.parents[1], model=False) for file in sorted(made.folder.glob("runs/*/*/smalldata/cell.json"))]


def test_a_run_of_a_study_is_that_of_a_train_command_bit_for_bit(ablation, tmp_path, unproven):
    for name in ("whole", "plain"):
        (run,) = [each for each in runs_of(ablation) if each.folder.parent.name == name
                  and each.folder.name.startswith("8_seed-1")]  # fmt: skip
        alone = pipeline.train(Recipe.read(run.part("recipe.yaml")), tmp_path / name)
        pd.testing.assert_frame_equal(run.predictions, alone.predictions, check_exact=True)
        assert run.rows == alone.rows
        assert run.metrics["results"] == alone.metrics["results"]


def test_results_are_means_over_the_runs_with_their_intervals(ablation):
    results, runs = ablation.results, runs_of(ablation)
    assert len(runs) == 4 * 2 * 2
    for line in results["results"]:
        if line["baseline"]:
            continue
        found = [each for each in runs if json.loads(each.part("cell.json").read_text())["variant"] == line["variant"]
                 and each.folder.name.startswith(line["budget"])]  # fmt: skip
        values = [each.metrics["results"]["model"]["accuracy"]["value"] for each in found]
        assert list(line["metrics"]["accuracy"].values()) == pytest.approx(
            list(within_range(t_interval(values), "accuracy"))
        )
        assert [run["accuracy"] for run in line["runs"]] == values
        assert line["train_rows"] == 3 * int(line["budget"])


def test_all_variants_of_a_seed_learn_from_the_same_rows_and_are_judged_by_the_same(ablation):
    by_draw: dict[str, list] = {}
    for run in runs_of(ablation):
        by_draw.setdefault(run.folder.name.rpartition("_")[0], []).append(run.rows)
    assert len(by_draw) == 4
    for rows in by_draw.values():
        assert len(rows) == 4
        assert all(each == rows[0] for each in rows)
    small, large = by_draw["4_seed-1"][0], by_draw["8_seed-1"][0]
    assert set(small["train"]["1"]) < set(large["train"]["1"])
    assert small["test"] == large["test"]


def test_a_difference_is_that_of_the_two_means(ablation):
    results = ablation.results
    means = {(line["variant"], line["budget"]): line["metrics"]["accuracy"]["value"] for line in results["results"]}
    for each in results["comparisons"]:
        expected = means[each["a"], each["budget"]] - means[each["b"], each["budget"]]
        assert each["difference"]["value"] == pytest.approx(expected)
    kinds = [(each["kind"], each["what"], each["a"], each["b"]) for each in results["comparisons"]
             if each["budget"] == "8" and each["kind"] in ("technique", "addition")]  # fmt: skip
    assert kinds == [
        ("technique", "freeze", "whole", "without freeze"),
        ("technique", "label_smoothing", "whole", "without label_smoothing"),
        ("addition", "freeze", "without label_smoothing", "plain"),
        ("addition", "label_smoothing", "without freeze", "plain"),
    ]


def test_the_gate_writes_a_recipe_without_what_did_not_help(ablation):
    results = ablation.results
    verdicts = {each["what"]: each["verdict"] for each in results["comparisons"]
                if (each["kind"], each["budget"]) == ("technique", "8")}  # fmt: skip
    assert set(verdicts.values()) <= {"helped", "hurt", "not resolved"}
    gated = Recipe.read(ablation.folder / "gated.yaml")
    assert [each.name for each in gated.techniques] == results["gate"]["kept"]
    assert sorted([*results["gate"]["kept"], *results["gate"]["removed"]]) == ["freeze", "label_smoothing"]
    assert all(verdicts[name] != "helped" for name in results["gate"]["removed"])
    text = (ablation.folder / "gated.yaml").read_text()
    assert text.startswith("# whole, without what did not help")
    assert all(f"#   {name}: {verdict}" in text for name, verdict in verdicts.items())


def test_a_study_leaves_a_report_and_nothing_half_written(ablation):
    assert sorted(file.name for file in ablation.folder.iterdir()) == [
        "gated.yaml", "report.html", "report.md", "results.json", "runs", "study.json"]  # fmt: skip
    assert not list(ablation.folder.rglob(".*"))
    page = (ablation.folder / "report.html").read_text()
    errors = ablation.results["diagnosis"]["errors"]
    texts = pd.read_csv(ablation.recipes["whole"].data.test)["text"]
    assert errors
    assert all(texts[int(each["id"].rpartition(":")[2])] in page for each in errors)


def test_a_finished_study_runs_nothing_again_and_says_the_same(ablation, recipe, made):
    before = ablation.results
    again = study(
        {"whole": recipe(TECHNIQUES)}, ablation.folder, seeds=[0, 1], budgets=[4, 8], ablate=True, progress=Quiet()
    )
    assert made == []
    assert {**again.results, "environment": 0} == {**before, "environment": 0}


def test_what_is_missing_or_new_is_all_that_is_made(recipe, made, tmp_path):
    first = study({"a": recipe()}, tmp_path / "out", seeds=[0, 1], budgets=[4], progress=Quiet())
    assert len(made) == 2
    lost = next(run for run in runs_of(first) if "seed-1" in run.folder.name)
    lost.part("metrics.json").unlink()
    made.clear()
    study({"a": recipe(), "b": recipe(["lora"])}, tmp_path / "out", seeds=[0, 1, 2], budgets=[4], progress=Quiet())
    assert sorted(made) == [f"{name}, 4 labels a class, seed {seed}" for name, seed in
                            (("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2))]  # fmt: skip


def test_a_folder_of_another_study_is_refused_with_what_differs(ablation, recipe):
    other = recipe(TECHNIQUES, train={"learning_rate": 1e-4})
    with pytest.raises(Problems, match=r"whole: train\.learning_rate: 0\.005 there, 0\.0001 now") as error:
        study({"whole": other}, ablation.folder, seeds=[0, 1], budgets=[4, 8], ablate=True)
    assert "choose another --output" in str(error.value)
    with pytest.raises(Problems, match="folds: 0 there, 3 now"):
        study({"whole": recipe(TECHNIQUES)}, ablation.folder, folds=3)


def test_other_rows_are_another_study(recipe, place, tmp_path):
    rows = pd.read_csv(place / "train.csv")
    frames = {"train": rows, "test": pd.read_csv(place / "test.csv")}
    study({"a": recipe()}, tmp_path / "out", seeds=[0], objects=frames, progress=Quiet())
    rows.loc[3, "text"] = "changed"
    with pytest.raises(Problems, match="data: its rows have other contents now"):
        study({"a": recipe()}, tmp_path / "out", seeds=[0], objects=frames, progress=Quiet())


def test_a_folder_with_other_things_is_left_alone(recipe, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "aunt.txt").write_text("dear")
    with pytest.raises(UserError, match="holds something that is no study; choose another folder"):
        study({"a": recipe()}, tmp_path / "letters")
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["aunt.txt"]


def test_an_interruption_loses_the_run_in_hand_alone(recipe, tmp_path, monkeypatch, made):
    run = Workbench.run

    def interrupted(self, cell):
        if len(made) == 2:
            raise KeyboardInterrupt
        return run(self, cell)

    monkeypatch.setattr(Workbench, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study({"a": recipe()}, tmp_path / "out", seeds=[0, 1, 2], budgets=[4], progress=Quiet())
    assert len(list((tmp_path / "out").glob("runs/*/*"))) == 2
    with pytest.raises(UserError, match="this study is not finished; the command that began it goes on"):
        Study.open(tmp_path / "out")
    made.clear()
    monkeypatch.setattr(Workbench, "run", run)
    study({"a": recipe()}, tmp_path / "out", seeds=[0, 1, 2], budgets=[4], progress=Quiet())
    assert made == ["a, 4 labels a class, seed 2"]
    assert len(Study.open(tmp_path / "out").results["results"][0]["runs"]) == 3


def test_a_run_that_was_killed_while_it_was_written_is_made_again(recipe, tmp_path, monkeypatch):
    write = workbench.write_part

    def killed(*given):
        write(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(workbench, "write_part", killed)
    monkeypatch.setattr(workbench, "shutil", SimpleNamespace(rmtree=lambda _: None))  # kill -9 tidies nothing up
    with pytest.raises(KeyboardInterrupt):
        study({"a": recipe()}, tmp_path / "out", seeds=[0, 1], budgets=[4], progress=Quiet())
    assert list((tmp_path / "out" / ".work").glob("*/*/metrics.json"))
    monkeypatch.setattr(workbench, "write_part", write)
    monkeypatch.setattr(workbench, "shutil", shutil)
    made = study({"a": recipe()}, tmp_path / "out", seeds=[0, 1], budgets=[4], progress=Quiet())
    assert len(made.results["results"][0]["runs"]) == 2
    assert not (tmp_path / "out" / ".work").exists()


def test_a_run_that_fails_does_not_keep_the_others_from_being_made(recipe, tmp_path):
    wild = recipe(train={"learning_rate": 1e30, "max_grad_norm": 1e30, "num_train_epochs": 4})
    with pytest.raises(Problems) as error:
        study({"tame": recipe(), "wild": wild}, tmp_path / "out", seeds=[0, 1], budgets=[4], progress=Quiet())
    assert "2 of 4 Runs are finished and kept" in str(error.value)
    assert str(error.value).count("training diverged") == 2
    assert len(list((tmp_path / "out").glob("runs/tame/*"))) == 2


def test_several_processes_make_the_runs_of_one(ablation, recipe, tmp_path):
    shared = study({"whole": recipe(TECHNIQUES)}, tmp_path / "out", seeds=[0, 1], budgets=[4], executor=in_processes(2),
                   progress=Quiet())  # fmt: skip
    alone = {run.folder.name: run for run in runs_of(ablation) if run.folder.parent.name == "whole"}
    for run in runs_of(shared):
        found, expected = run.predictions, alone[run.folder.name].predictions
        scores = [column for column in found if column.startswith("score")]
        np.testing.assert_allclose(found[scores], expected[scores], atol=1e-6)
    assert len(runs_of(shared)) == 2


def test_one_seed_resolves_nothing_and_says_so(recipe, tmp_path):
    made = study({"a": recipe(), "b": recipe(["lora"])}, tmp_path / "out", seeds=[7], progress=Quiet())
    (compared,) = [each for each in made.results["comparisons"] if each["kind"] == "recipe"]
    assert (compared["p"], compared["verdict"]) == (None, "not resolved")
    assert any(note.startswith("One seed says nothing of other draws") for note in made.results["notes"])


def test_a_learning_curve_has_a_band_and_a_forecast(recipe, tmp_path):
    made = study(
        {"a": recipe()}, tmp_path / "out", seeds=[0, 1], budgets=["2", "4", "8", "all"], more=60, progress=Quiet()
    )
    (curve,) = made.results["curves"]
    assert [point["train_rows"] for point in curve["points"]] == [6, 12, 24, 36]
    assert curve["band"][-1]["train_rows"] == pytest.approx(96)
    assert curve["forecast"]["more"] == 60
    assert curve["forecast"]["gain"]["low"] <= curve["forecast"]["gain"]["value"] <= curve["forecast"]["gain"]["high"]
    assert curve["forecast"]["sentence"].startswith("60 more labels: +")


def test_differences_are_named_by_their_setting():
    before = {"train": {"learning_rate": 1, "seed": 2}, "techniques": [{"lora": {"rank": 8}}]}
    now = {"train": {"learning_rate": 3, "seed": 2}, "techniques": []}
    assert store.differences(before, now) == [
        "train.learning_rate: 1 there, 3 now", 'techniques: [{"lora": {"rank": 8}}] there, [] now']  # fmt: skip
