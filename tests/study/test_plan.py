"""What is planned: which Runs, on which rows, and what cannot be planned is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_smalldata.data.load import Splits
from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.study.gate import with_gate
from hf_smalldata.study.plan import Cell, check_rows, describe, make_plan, recipe_names
from hf_smalldata.study.variants import sweep
from hf_smalldata.testing import text_rows


def recipe(techniques=(), task="text-classification", seeds=(0, 1, 2), train=(), **data) -> Recipe:
    return Recipe.parse({"task": task, "data": {"name": "rows.csv", **data}, "model": {"name": "some/model"},
                         "techniques": list(techniques), "train": dict(train), "seeds": list(seeds)})  # fmt: skip


def splits(per_class: int = 4, seed: int = 0, test_seed: int = 9) -> Splits:
    labels = ("animals", "food", "weather")
    return Splits(text_rows(per_class, seed), None, text_rows(3, test_seed), labels, "single_label_classification")


def test_runs_are_variants_by_seeds_by_budgets_and_those_on_the_same_rows_stand_together():
    plan = make_plan({"a": recipe(), "b": recipe(["lora"])}, seeds=[3, 5], budgets=["all", "8", "4"])
    assert plan.budgets == ("4", "8", "all")
    assert plan.cells()[:4] == [Cell("a", "4", 0, -1, 3), Cell("b", "4", 0, -1, 3), Cell("a", "4", 0, -1, 5),
                                Cell("b", "4", 0, -1, 5)]  # fmt: skip
    assert len(plan.cells()) == 2 * 2 * 3


def test_cross_validation_has_a_run_for_each_fold_of_each_repeat():
    plan = make_plan({"a": recipe()}, seeds=[0], folds=5, repeats=2)
    assert {(cell.repeat, cell.fold) for cell in plan.cells()} == {(r, f) for r in range(2) for f in range(5)}


def test_a_run_has_one_seed_and_its_budget():
    plan = make_plan({"a": recipe(labels_per_class=3)}, budgets=["8", "0.5", "all"])
    by_budget = {cell.budget: plan.recipe(cell) for cell in plan.cells() if cell.seed == 2}
    assert {name: (made.data.labels_per_class, made.data.fraction) for name, made in by_budget.items()} == {
        "8": (8, None), "0.5": (None, 0.5), "all": (None, None)}  # fmt: skip
    assert all(made.seeds == (2,) for made in by_budget.values())


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [((4, 7, 9), None, (4, 7, 9)), ((0,), None, (0, 1, 2, 3, 4)), ((0,), [6], (6,))],
)
def test_seeds_are_those_given_or_the_recipes_or_five(own, given, expected):
    assert make_plan({"a": recipe(seeds=own)}, seeds=given).seeds == expected


def test_an_ablation_leaves_out_each_technique_and_adds_each_to_nothing():
    whole = recipe([{"lora": {"rank": 2}}, "dropout", "label_smoothing"])
    plan = make_plan({"whole": whole}, ablate=True)
    techniques = {name: [each.name for each in made.techniques] for name, made in plan.variants.items()}
    assert techniques == {
        "whole": ["lora", "dropout", "label_smoothing"],
        "without lora": ["dropout", "label_smoothing"],
        "without dropout": ["lora", "label_smoothing"],
        "without label_smoothing": ["lora", "dropout"],
        "plain": [],
        "only lora": ["lora"],
        "only dropout": ["dropout"],
        "only label_smoothing": ["label_smoothing"],
    }
    assert plan.variants["only lora"].techniques[0].rank == 2
    assert plan.variant_of(["lora", "dropout"]) == "without label_smoothing"


def test_a_sweep_of_another_setting_stands_beside_the_recipe_itself():
    read = lambda more: recipe(["lora"], train={"learning_rate": more[0].split("=")[1].strip('"') if more else 1e-3})  # noqa: E731
    found = sweep("mine", read, "train.learning_rate=1e-4, 1e-3")
    assert {name: made.train["learning_rate"] for name, made in found.items()} == {
        "mine": 1e-3, "train.learning_rate=1e-4": 1e-4
    }  # fmt: skip


def test_what_only_stands_beside_the_model_is_in_every_variant_and_never_ablated():
    plan = make_plan({"whole": recipe(["knn", "lora", "zero_shot", "dropout"])}, ablate=True)
    assert plan.ablated == ("lora", "dropout")
    techniques = {name: [each.name for each in made.techniques] for name, made in plan.variants.items()}
    assert techniques == {
        "whole": ["knn", "lora", "zero_shot", "dropout"],
        "without lora": ["knn", "zero_shot", "dropout"],
        "without dropout": ["knn", "lora", "zero_shot"],
        "plain": ["knn", "zero_shot"],
    }
    assert plan.variant_of([]) == "plain"
    assert with_gate(plan, []).gate == "plain"
    with pytest.raises(UserError, match="a has no techniques to leave out"):
        make_plan({"a": recipe(["knn"])}, ablate=True)


def test_a_variant_whose_head_nothing_else_fills_is_fine_tuned(caplog):
    """A recipe that trains no epoch has its head from a technique; without that one it would be of random weights."""
    whole = recipe(["pooling", "dropout", "logistic_head"], train={"num_train_epochs": 0})
    with caplog.at_level("INFO"):
        plan = make_plan({"whole": whole}, ablate=True)
    epochs = {name: made.train["num_train_epochs"] for name, made in plan.variants.items()}
    assert epochs == {"whole": 0, "without pooling": 0, "without dropout": 0, "without logistic_head": 10, "plain": 10,
                      "only pooling": 10, "only dropout": 10, "only logistic_head": 0}  # fmt: skip
    assert "plain, only pooling, only dropout: fine-tuned for 10 epochs, as nothing else" in caplog.text
    assert with_gate(plan, ["pooling"]).variants["only pooling"].train["num_train_epochs"] == 10
    bare = make_plan({"whole": recipe(["dropout"], train={"num_train_epochs": 0})}, ablate=True)
    assert {made.train["num_train_epochs"] for made in bare.variants.values()} == {0}


@pytest.mark.parametrize(("techniques", "variants"), [(["lora"], 2), (["lora", "dropout"], 4)])
def test_an_ablation_runs_no_variant_twice(techniques, variants):
    plan = make_plan({"whole": recipe(techniques)}, ablate=True)
    sets = {tuple(each.name for each in made.techniques) for made in plan.variants.values()}
    assert len(plan.variants) == len(sets) == variants


def test_without_its_technique_a_recipe_has_the_learning_rate_of_what_is_left():
    plan = make_plan({"whole": recipe(["lora"])}, ablate=True)
    assert [made.train["learning_rate"] for made in plan.variants.values()] == [1e-3, "auto"]
    plan = make_plan({"whole": recipe(["lora"], train={"learning_rate": 3e-4})}, ablate=True)
    assert [made.train["learning_rate"] for made in plan.variants.values()] == [3e-4, 3e-4]


@pytest.mark.parametrize(
    ("recipes", "options", "message"),
    [
        ({"a": {}, "b": {"task": "image-classification"}}, {}, "a study compares recipes of one task, got a: text-"),
        ({"a": {}}, {"seeds": [1, 1]}, "--seeds: each seed once, got 1, 1"),
        ({"a": {}}, {"budgets": ["4", "4"]}, "--budgets: each budget once"),
        ({"a": {}}, {"budgets": ["few"]}, "--budgets: expected labels a class such as 8.*got 'few'"),
        ({"a": {}}, {"budgets": ["0"]}, "got '0'"),
        ({"a": {}}, {"budgets": ["1.5"]}, "got '1.5'"),
        ({"a": {}}, {"repeats": 3}, "--repeats 3: repeats are of cross-validation; give --folds"),
        ({"a": {}}, {"ablate": True}, "--ablate: a has no techniques to leave out"),
        ({"a": {}, "b": {}}, {"ablate": True}, "--ablate takes one recipe, got 2: a, b"),
        ({"a": {"rows": "rows.json"}}, {"folds": 3}, "--folds makes its own test rows; leave data.rows out"),
        ({"a": {"labels_per_class": 8}, "b": {}}, {}, "a: 8 labels a class, b: all rows.*give --budgets"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_to_do(recipes, options, message):
    with pytest.raises(UserError, match=message):
        make_plan({name: recipe(**settings) for name, settings in recipes.items()}, **options)


def test_budgets_above_the_rows_there_are_name_the_classes_and_the_most_there_is():
    plan = make_plan({"a": recipe()}, budgets=["2", "6"])
    data = splits(per_class=4)
    few = data.train.filter(lambda row: row["label"] != 1 or row["id"] in ("0:1",))
    message = r"--budgets: 6 labels a class .* animals 4, food 1, weather 4\. Give at most 1"
    with pytest.raises(UserError, match=message):
        check_rows(plan, {"a": [Splits(few, None, data.test, data.labels, data.problem_type)]})
    check_rows(make_plan({"a": recipe()}, budgets=["2", "4"]), {"a": [data]})


def test_recipes_judged_by_other_test_rows_are_not_compared():
    plan = make_plan({"a": recipe(), "b": recipe()})
    check_rows(plan, {"a": [splits()], "b": [splits(seed=1)]})  # other training rows may be compared
    with pytest.raises(UserError, match="a and b are judged by other test rows"):
        check_rows(plan, {"a": [splits()], "b": [splits(test_seed=8)]})
    other = splits()
    with pytest.raises(UserError, match="a and b have other labels: animals, food, weather and animals, food"):
        check_rows(plan, {"a": [splits()], "b": [Splits(other.train, None, other.test, other.labels[:2],
                                                        other.problem_type)]})  # fmt: skip


def test_labels_a_class_are_not_for_regression():
    data = splits()
    numbers = Splits(data.train, None, data.test, (), "regression")
    with pytest.raises(UserError, match="regression has no classes; give shares of the rows"):
        check_rows(make_plan({"a": recipe()}, budgets=["4"]), {"a": [numbers]})


def test_recipes_of_one_name_are_told_apart_by_their_folder(tmp_path):
    assert recipe_names([Path("x/lora.yaml"), Path("y/lora.yaml"), Path("x/full.yaml")]) == ["x/lora", "y/lora", "full"]
    with pytest.raises(UserError, match="the same recipe is given twice"):
        recipe_names([Path("x/lora.yaml"), Path("x/../x/lora.yaml")])


def test_budgets_have_words():
    assert [describe(budget) for budget in ("8", "0.25", "all")] == ["8 labels a class", "25% of the rows", "all rows"]
