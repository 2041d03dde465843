"""`hf-smalldata study` and `report`, as a user meets them."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest
import yaml

from hf_smalldata import pipeline
from hf_smalldata.study import executors
from hf_smalldata.study.progress import Lines, Progress


@pytest.fixture
def here(tmp_path, recipe, monkeypatch):
    """A folder with one.yaml (one technique) and two.yaml (none)."""
    monkeypatch.chdir(tmp_path)
    for name, techniques in (("one", ["label_smoothing"]), ("two", [])):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe(techniques).as_dict()))
    return tmp_path


def test_a_study_prints_the_answer_its_table_and_where_the_report_is(command, here):
    code, output, errors = command("study", "one.yaml", "--ablate", "--seeds", 2, "--budgets", 4)
    assert code == 0
    assert "has the highest accuracy of the 2 settings tried" in " ".join(output.split())
    for word in ("label_smoothing", "plain", "TF-IDF + logistic regression (baseline)", "Student's t over 2 seeds",
                 "runs/study-one/report.html", "runs/study-one/gated.yaml"):  # fmt: skip
        assert word in output.replace("\n", " ") or word in " ".join(output.split())
    assert [line.split("/4")[0] for line in errors.splitlines() if "/4  " in line] == list("1234")
    assert "4/4" in errors
    assert "0 s left" in errors


def test_settings_go_into_every_recipe(command, here):
    command("study", "one.yaml", "two.yaml", "train.num_train_epochs=1", "--seeds", "0,", "--budgets", 4, "--quiet")
    recipes = json.loads((here / "runs" / "study-one" / "study.json").read_text())["recipes"]
    assert {name: made["train"]["num_train_epochs"] for name, made in recipes.items()} == {"one": 1, "two": 1}


def test_a_sweep_compares_values_of_a_setting(command, here):
    setting = "techniques.label_smoothing.epsilon=0.1,0.3"
    code, output, _ = command("study", "one.yaml", "--sweep", setting, "--seeds", "0,1", "--budgets", 4, "--quiet")
    assert code == 0
    recipes = json.loads((here / "runs" / "study-one" / "study.json").read_text())["recipes"]
    assert list(recipes) == ["without label_smoothing", "label_smoothing.epsilon=0.1", "label_smoothing.epsilon=0.3"]
    compared = json.loads((here / "runs" / "study-one" / "results.json").read_text())["comparisons"]
    assert {each["b"] for each in compared if each["kind"] == "recipe"} == {"without label_smoothing"}
    assert "label_smoothing.epsilon=0.3" in output


def test_quiet_shows_results_and_no_progress(command, here):
    _, output, errors = command("study", "two.yaml", "--seeds", "3,", "--budgets", 4, "--quiet")
    assert "report.html" in output
    assert "/1  " not in errors


def test_json_tells_programs_what_happens_a_line_each(command, here):
    _, output, errors = command("study", "two.yaml", "--seeds", "3,5", "--budgets", 4, "--json")
    events = [json.loads(line) for line in output.splitlines()]
    assert [each["event"] for each in events] == ["start", "run", "run", "results"]
    assert events[0] == {"event": "start", "runs": 2, "done": 0}
    assert [(each["seed"], each["done"], each["runs"]) for each in events[1:3]] == [(3, 1, 2), (5, 2, 2)]
    assert events[2]["seconds_left"] == 0
    assert events[3]["results"][0]["variant"] == "two"
    assert "/2  " not in errors  # no line of progress for people


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("one.yaml", "--seeds", "1,1"), "--seeds: each seed once, got 1, 1"),
        (("one.yaml", "--seeds", "few"), "--seeds: expected how many, such as 5, or a list such as 0,1,2; got 'few'"),
        (("one.yaml", "--seeds", "0"), "--seeds: expected how many"),
        (("one.yaml", "--budgets", "4,99"), "--budgets: 99 labels a class are more than there are"),
        (("one.yaml", "--folds", "99"), "--folds: 99 folds need 99 rows of each class"),
        (("two.yaml", "--ablate"), "--ablate: two has no techniques to leave out"),
        (
            ("one.yaml", "--sweep", "train.learning_rate=1e-3"),
            "--sweep: expected a setting and two values of it or more",
        ),
        (("one.yaml", "--sweep", "train.learning_rate"), "--sweep: expected a setting and two values of it or more"),
        (("one.yaml", "--ablate", "--sweep", "train.learning_rate=1e-3,1e-2"), "--sweep: of one recipe"),
        (("one.yaml", "two.yaml", "--sweep", "train.learning_rate=1e-3,1e-2"), "--sweep: of one recipe"),
        (("one.yaml", "--sweep", "techniques.label_smoothing.epsilon=0.1,7"), "techniques.label_smoothing.epsilon"),
        (("one.yaml", "one.yaml"), "the same recipe is given twice"),
        (("none.yaml",), "no recipe 'none.yaml'"),
        (("train.seed=1",), "give a recipe"),
        (("one.yaml", "--executor", "slurm"), "--executor: expected local or ray, got 'slurm'"),
        (("one.yaml", "--address", "auto"), "--address is of a Ray cluster; add --executor ray"),
        (("one.yaml", "train.learning_rat=1"), "train.learning_rat: unknown setting; did you mean 'learning_rate'?"),
    ],
)
def test_bad_input_is_one_error_with_exit_code_2_and_leaves_nothing(command, here, words, message):
    code, output, errors = command("study", *words)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.startswith("error: ") or errors.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in errors
    assert not (here / "runs").exists()


def test_a_changed_recipe_is_refused_in_the_folder_of_the_old_one(command, here):
    assert command("study", "two.yaml", "--seeds", "0,", "--budgets", 4, "--quiet")[0] == 0
    code, _, errors = command("study", "two.yaml", "train.num_train_epochs=9", "--seeds", "0,", "--budgets", 4)
    assert code == 2
    assert "two: train.num_train_epochs: 2.0 there, 9.0 now" in errors


def test_ray_that_is_not_installed_is_named_with_its_extra(command, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = command("study", "two.yaml", "--seeds", "0,", "--budgets", 4, "--executor", "ray")
    assert code == 2
    assert "ray is not installed; run: pip install 'hf_smalldata[ray]'" in errors


def test_jobs_are_refused_under_accelerate_launch(monkeypatch):
    class Two:
        num_processes = 2

    monkeypatch.setattr(executors, "PartialState", Two)
    with pytest.raises(executors.UserError, match="--jobs 3: under `accelerate launch` each Run has all processes"):
        executors.choose("local", 3)


def test_ctrl_c_says_so_and_leaves_with_130(command, here, monkeypatch):
    from hf_smalldata.study.workbench import Workbench

    def interrupted(self, cell):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workbench, "run", interrupted)
    code, _, errors = command("study", "two.yaml", "--seeds", "0,", "--budgets", 4)
    assert code == 130
    assert errors.splitlines()[-1] == "stopped: the same command goes on; Runs that are finished are kept"


def test_a_report_of_a_run_is_written_again_and_shows_texts_only_if_they_are_the_same(
    command, here, recipe, place, unproven
):
    rows = {name: pd.read_csv(place / f"{name}.csv") for name in ("train", "test")}
    for name, frame in rows.items():
        frame.to_csv(here / f"{name}.csv", index=False)
    made = recipe(train={"num_train_epochs": 1}, labels_per_class=1).as_dict()
    made["data"] |= {name: f"{name}.csv" for name in rows}
    (here / "r.yaml").write_text(yaml.safe_dump(made))
    run = pipeline.train(pipeline.Recipe.read("r.yaml"), here / "run")
    page = run.part("report.html")
    wrong = run.predictions[lambda table: table["label"] != table["prediction"]]["id"].iloc[0]
    text = rows["test"]["text"][int(wrong.rpartition(":")[2])]
    assert text in page.read_text()
    page.unlink()
    code, output, _ = command("report", "run")
    assert code == 0
    assert text in page.read_text()
    assert "report.html" in output
    assert "report.md" in output
    assert command("report", "run", "--without-rows", "--plots", "--output", "shared")[0] == 0
    assert {file.name for file in (here / "shared").iterdir()} == {
        "report.html", "report.md", "results.png", "comparisons.png", "reliability.png"}  # fmt: skip
    shared = (here / "shared" / "report.html").read_text()
    assert text not in shared
    assert wrong in shared
    rows["test"].loc[int(wrong.rpartition(":")[2]), "text"] = "something else"
    rows["test"].to_csv(here / "test.csv", index=False)
    _, _, errors = command("report", "run")
    assert "something else" not in page.read_text()
    assert "shown by their ids alone" in " ".join(errors.split())
    (here / "test.csv").unlink()
    assert command("report", "run")[0] == 0
    assert wrong in page.read_text()


def test_a_report_of_something_else_is_refused(command, here):
    (here / "letters").mkdir()
    code, _, errors = command("report", "letters")
    assert code == 2
    assert "letters: not a Run; expected smalldata/metrics.json in it" in errors


def test_damaged_files_of_a_study_are_one_error(command, here):
    (here / "broken").mkdir()
    for content, said in (('{"recipes": ', "expected JSON, found a damaged file"), ("[]", "a JSON object, found list")):
        (here / "broken" / "study.json").write_text(content)
        code, _, errors = command("study", "two.yaml", "--seeds", "0,", "--output", "broken")
        assert (code, said in " ".join(errors.split())) == (2, True)
        (here / "broken" / "results.json").write_text(content)
        code, _, errors = command("report", "broken")
        assert (code, said in " ".join(errors.split())) == (2, True)
        assert "Traceback" not in errors


def test_progress_names_the_best_so_far_and_the_time_left(capsys):
    from hf_smalldata.study.plan import Cell

    def metrics(value: float) -> dict:
        return {"main_metric": "rmse", "results": {"model": {"rmse": {"value": value}}}}

    progress = Lines()
    progress.start(4, 1)
    progress.note(Cell("a", "8", 0, -1, 0), metrics(2.0))
    progress.finished(Cell("b", "8", 0, -1, 0), metrics(1.0))
    assert progress.best() == "best: b, 8 labels a class 1.000 (no interval)"  # less is better
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["done"], event["runs"], event["rmse"]) == (2, 4, 1.0)
    assert event["seconds_left"] >= 0
    assert isinstance(progress, Progress)
