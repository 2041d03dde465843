"""Cross-validation, and the model that it leaves: every row judged by models that had not learnt it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import transformers

from hf_smalldata import predict
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.calibration import with_temperature
from hf_smalldata.run import Run
from hf_smalldata.study import Study, study
from hf_smalldata.study.progress import Quiet
from hf_smalldata.testing import image_folder, tiny_image_model


@pytest.fixture(scope="module")
def folded(recipe, tmp_path_factory) -> Study:
    """Three folds, two repeats, and the model of all rows; there are no test rows."""
    folder = tmp_path_factory.mktemp("studies") / "folded"
    return study({"a": recipe(test=False, train={"num_train_epochs": 4}), "b": recipe(["lora"], test=False)}, folder,
                 seeds=[0, 1], folds=3, repeats=2, refit_model=True, progress=Quiet())  # fmt: skip


def cells(made: Study, variant: str) -> list[tuple[dict, Run]]:
    runs = [
        Run.open(file.parents[1], model=False) for file in made.folder.glob(f"runs/{variant}/*/smalldata/cell.json")
    ]
    return [(json.loads(run.part("cell.json").read_text()), run) for run in runs]


def test_every_row_is_judged_once_in_each_repeat_by_a_model_that_did_not_learn_it(folded):
    judged: Counter[tuple[int, int, str]] = Counter()
    for cell, run in cells(folded, "a"):
        rows = run.rows
        assert not set(rows["train"][str(cell["seed"])]) & set(rows["test"])
        judged.update((cell["repeat"], cell["seed"], row_id) for row_id in run.predictions["id"])
    assert set(judged.values()) == {1}
    assert len(judged) == 2 * 2 * 36


def test_repeats_cut_other_folds_and_variants_the_same(folded):
    tests = {name: {(cell["repeat"], cell["fold"]): tuple(run.rows["test"]) for cell, run in cells(folded, name)}
             for name in ("a", "b")}  # fmt: skip
    assert tests["a"] == tests["b"]
    assert len(set(tests["a"].values())) == 6


def test_the_mean_is_over_folds_with_the_corrected_interval(folded):
    line = folded.results["results"][0]
    by_fold: dict[tuple[int, int], list[float]] = {}
    for run in line["runs"]:
        by_fold.setdefault((run["repeat"], run["fold"]), []).append(run["accuracy"])
    values = np.array([np.mean(each) for each in by_fold.values()])
    value, low, _ = line["metrics"]["accuracy"].values()
    assert value == pytest.approx(values.mean())
    assert value - low == pytest.approx(2.5705818 * values.std(ddof=1) * np.sqrt(1 / 6 + 1 / 2))  # t of 5, 1 / (K - 1)
    assert folded.results["setting"]["rows"]["test"] == 36


def test_out_of_fold_rows_give_calibration_label_errors_and_a_diagnosis(folded):
    results = folded.results
    assert results["diagnosis"]["rows"] == "out-of-fold rows"
    assert np.sum(results["diagnosis"]["confusion"]) == 36
    assert results["calibration"]["rows"] == 36
    assert results["calibration"]["temperature"] > 0
    assert isinstance(results["label_errors"], list)


def test_the_refit_learnt_from_all_rows_and_says_what_the_folds_measured(folded):
    run, results = Run.open(folded.folder / "model"), folded.results
    assert len(run.rows["train"]["0"]) == 36
    favoured = next(line for line in results["results"] if line["variant"] == "a")
    assert run.metrics["results"]["model"] == favoured["metrics"]
    assert "out of fold: this model itself learnt from every row" in run.metrics["interval"]
    assert max(run.metrics["runs"][0]["reload"].values()) < 1e-4
    card = (run.folder / "README.md").read_text()
    assert "calibrated on 36 out-of-fold rows" in card
    assert run.part("report.html").is_file()


def test_a_finished_refit_is_not_trained_again(folded, recipe, monkeypatch):
    from hf_smalldata.fitting import Fitting

    def learn(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Fitting, "learn", learn)
    named = {"a": recipe(test=False, train={"num_train_epochs": 4}), "b": recipe(["lora"], test=False)}
    study(named, folded.folder, seeds=[0, 1], folds=3, repeats=2, refit_model=True, progress=Quiet())


def test_a_stock_pipeline_gives_the_calibrated_scores(recipe, tmp_path, place, monkeypatch):
    from hf_smalldata.study import refit

    texts = list(pd.read_csv(place / "test.csv")["text"])

    def scores(temperature: float, name: str) -> np.ndarray:
        found = {"temperature": temperature, "rows": 1, "conformal": []}
        found |= dict.fromkeys(("ece_before", "ece_after", "log_loss_before", "log_loss_after"), 0.0)
        monkeypatch.setattr(refit, "calibration_of", lambda _: found)
        study({"a": recipe(test=False)}, tmp_path / name, seeds=[0], folds=2, refit_model=True, progress=Quiet())
        classify = transformers.pipeline("text-classification", model=str(tmp_path / name / "model"))
        answers = classify(texts, top_k=None)
        return np.array([[score["score"] for score in sorted(row, key=lambda each: each["label"])] for row in answers])

    np.testing.assert_allclose(scores(2.5, "b"), with_temperature(scores(1.0, "a"), 2.5), atol=1e-5)


def test_predict_gives_sets_of_labels_with_the_coverage_that_was_asked(folded, place):
    texts = list(pd.read_csv(place / "test.csv")["text"])
    wide = predict(folded.folder / "model", texts, coverage=0.95)
    narrow = predict(folded.folder / "model", texts, coverage=0.8)
    best = predict(folded.folder / "model", texts, top_k=1)
    assert all(len(a) >= len(b) >= 1 for a, b in zip(wide, narrow, strict=True))
    assert [answer[0]["label"] for answer in narrow] == [answer[0]["label"] for answer in best]
    with pytest.raises(UserError, match=r"--coverage: expected one of 0\.8, 0\.9, 0\.95, got 0\.5"):
        predict(folded.folder / "model", texts, coverage=0.5)


def test_a_model_without_thresholds_says_what_leaves_them(recipe, tmp_path, unproven):
    made = study({"a": recipe()}, tmp_path / "out", seeds=[0], refit_model=True, progress=Quiet())
    run = Run.open(made.folder / "model")
    assert len(run.predictions) == 24  # judged by the test rows that there are
    with pytest.raises(UserError, match="study --folds 5 --refit` leaves them"):
        predict(run, ["a cat"], coverage=0.9)


def test_a_run_of_a_study_has_no_model_to_predict_with(folded):
    _, run = cells(folded, "a")[0]
    with pytest.raises(UserError, match="has no model, as those of a study; train its smalldata/recipe"):
        Run.open(run.folder)


def test_test_rows_of_the_source_stay_apart_and_judge_the_refit(recipe, tmp_path, unproven):
    made = study({"a": recipe()}, tmp_path / "out", seeds=[0, 1], folds=2, refit_model=True, soup=True,
                 progress=Quiet())  # fmt: skip
    tests = {row_id for _, run in cells(made, "a") for row_id in run.rows["test"]}
    model = Run.open(made.folder / "model")
    assert len(tests) == 36
    assert not tests & set(model.rows["test"])
    assert model.metrics["rows"]["test"] == len(model.rows["test"]) == 24
    assert model.metrics["calibration"]["rows"] == 36


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 13}, "--folds: 13 folds need 13 rows of each class.*use --folds 12 or fewer"),
        ({"folds": 1}, "--folds: expected 2 folds or more, got 1"),
        ({"folds": 3, "budgets": [9]}, "--budgets: 9 labels a class are more than there are.*Give at most 8"),
    ],
)
def test_folds_that_the_rows_do_not_have_are_refused(recipe, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        study({"a": recipe(test=False)}, tmp_path / "out", seeds=[0], **options)
    assert not (tmp_path / "out").exists()


def test_images_are_studied_as_texts_are(tmp_path):
    from hf_smalldata.recipe import Recipe

    tiny_image_model(tmp_path / "vit")
    recipe = Recipe.parse({
        "task": "image-classification", "data": {"name": str(image_folder(tmp_path / "photos", per_class=4))},
        "model": {"name": str(tmp_path / "vit")}, "techniques": ["freeze"], "train": {"num_train_epochs": 2},
    })  # fmt: skip
    made = study(recipe, tmp_path / "out", seeds=[0], folds=2, progress=Quiet())
    page = (made.folder / "report.html").read_text()
    assert ("data:image/" in page) == bool(made.results["diagnosis"]["errors"])


@pytest.fixture(scope="module")
def mixed(recipe, tmp_path_factory) -> Study:
    """Two folds, three seeds, the average of which is judged in each fold."""
    folder = tmp_path_factory.mktemp("studies") / "mixed"
    return study({"a": recipe(["freeze"], test=False)}, folder, seeds=[0, 1, 2], folds=2, refit_model=True, soup=True,
                 progress=Quiet())  # fmt: skip


def test_a_soup_is_judged_in_each_fold_by_the_rows_that_its_seeds_did_not_learn(mixed):
    found = [(cell, run) for cell, run in cells(mixed, "a") if run.part("soup.parquet").is_file()]
    assert sorted((cell["fold"], cell["seed"]) for cell, _ in found) == [(0, 2), (1, 2)]
    for _, run in found:
        table = pd.read_parquet(run.part("soup.parquet"))
        assert list(table["id"]) == run.rows["test"]


def test_a_soup_is_kept_only_if_it_is_not_worse_out_of_fold(mixed):
    run = Run.open(mixed.folder / "model")
    soup = run.metrics["soup"]
    assert soup["kept"] == (soup["difference"]["value"] >= 0)
    assert any(note.startswith("The average of 3 seeds' weights against one seed") for note in mixed.results["notes"])
    singles = mixed.results["results"][0]["metrics"]["accuracy"]["value"]
    tables = [pd.read_parquet(file) for file in mixed.folder.rglob("soup.parquet")]
    together = np.mean([(table["label"] == table["prediction"]).mean() for table in tables])
    assert soup["difference"]["value"] == pytest.approx(together - singles)
    expected = together if soup["kept"] else singles
    assert run.metrics["results"]["model"]["accuracy"]["value"] == pytest.approx(expected)
    assert run.metrics["runs"][0].get("averaged_seeds") == ([0, 1, 2] if soup["kept"] else None)


def test_the_average_of_one_model_with_itself_is_that_model(kits):
    from hf_smalldata.training.average import Average

    model, other = kits["text-classification"].network(0), kits["text-classification"].network(1)
    average = Average()
    average.add(model)
    average.add(model)
    average.put_into(other)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert (a == b).all()


def test_a_soup_without_folds_is_refused(recipe, tmp_path):
    with pytest.raises(UserError, match="--soup needs --folds"):
        study({"a": recipe()}, tmp_path / "out", refit_model=True, soup=True)
