"""Recipes: one YAML, checked whole; every problem is told at once, with the nearest name."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from hf_smalldata.catalogue import recipe_files
from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe, override
from hf_smalldata.tasks import TASKS
from hf_smalldata.techniques import ELSEWHERE, REGISTRY, get_technique
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.yaml_text import LARGEST_FILE_BYTES, read_yaml

PLAIN = {"task": "text-classification", "data": {"name": "rows"}, "model": {"name": "encoder"}}


def parse(*overrides: str, **sections) -> Recipe:
    return Recipe.parse(override({**PLAIN, **sections}, overrides))


def message(*overrides: str, **sections) -> str:
    with pytest.raises(UserError) as caught:
        parse(*overrides, **sections)
    return str(caught.value)


def problem(*overrides: str, **sections) -> str:
    """The one problem that there is."""
    first, *lines = message(*overrides, **sections).split("\n")
    assert first in ("1 problem in the recipe:", "1 problem in the command line:")
    (line,) = lines
    return line.removeprefix("  ")


def test_the_recipe_as_shown_parses_back_to_an_equal_one():
    recipe = parse(
        data={"train": "a.csv", "test": "b.csv", "label_column": ["x", "y"], "class_weights": {"x": 2.0}},
        techniques=["freeze", {"lora": {"rank": 4, "targets": ["query", "key"]}}, {"label_smoothing": None}],
        train={"learning_rate": 1e-5, "num_train_epochs": 2, "lr_scheduler_type": "cosine", "max_steps": 7},
        seeds=[3, 1],
    )
    again = Recipe.parse(yaml.safe_load(recipe.to_yaml()))
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()
    assert [type(each) for each in again.techniques] == [type(each) for each in recipe.techniques]
    assert again.data.label_column == ("x", "y")


def test_every_default_is_spelled_out():
    shown = yaml.safe_load(parse(techniques=["lora"]).to_yaml())
    assert shown["techniques"] == [{"lora": {"rank": 8, "alpha": 16.0, "dropout": 0.1, "use_rslora": False,
                                             "use_dora": False, "init": "default", "targets": "all"}}]  # fmt: skip
    assert shown["train"]["num_train_epochs"] == 10
    assert shown["train"]["early_stopping_patience"] is None
    assert shown["data"]["test_fraction"] == 0.2
    assert shown["seeds"] == [0]


def test_the_order_of_techniques_is_kept():
    names = ["label_smoothing", "dropout", "lora"]
    assert [each.name for each in parse(techniques=names).techniques] == names


def test_techniques_may_be_objects_from_python():
    assert parse(techniques=[Freeze(blocks=2), Lora()]) == parse(techniques=[{"freeze": {"blocks": 2}}, "lora"])
    assert parse("techniques.lora.rank=4", techniques=[Freeze()]).techniques == (Freeze(), Lora(rank=4))


def test_the_learning_rate_is_the_recipes_then_the_first_techniques_then_the_default():
    assert parse().train["learning_rate"] == "auto"
    assert parse(techniques=["label_smoothing", "lora", "freeze"]).train["learning_rate"] == 1e-3
    assert parse(techniques=["lora"], train={"learning_rate": 2e-3}).train["learning_rate"] == 2e-3


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse().task = "image-classification"


def test_an_override_reaches_a_technique_by_name():
    recipe = parse("techniques.lora.rank=16", techniques=[{"freeze": {"blocks": 1}}, {"lora": {"alpha": 4}}])
    assert recipe.techniques == (Freeze(blocks=1), Lora(rank=16, alpha=4))


def test_an_override_reaches_the_settings_within_a_techniques_setting():
    given = {"techniques": [{"language_model": {"epochs": 2, "keep": {"agreement": 0.5}}}]}
    for ratio in (0.5, 1, 2):
        (technique,) = parse(f"techniques.language_model.keep.ratio={ratio}", **given).techniques
        assert (technique.keep.ratio, technique.keep.agreement, technique.epochs) == (ratio, 0.5, 2)
    assert given["techniques"][0]["language_model"]["keep"] == {"agreement": 0.5}
    wrong = problem("techniques.language_model.keep.ratio=-1", **given)
    assert wrong == "techniques.language_model.keep.ratio: expected above 0, got -1"
    wrong = problem("techniques.language_model.keep.ration=1", **given)
    assert wrong == "techniques.language_model.keep.ration: unknown setting; did you mean 'ratio'?"
    wrong = problem("techniques.language_model.keep={per_class: 2, ratio: 2}", **given)
    assert wrong.startswith("techniques.language_model.keep: give `per_class` or `ratio`, not both")


def test_an_override_adds_a_technique_that_is_not_there():
    assert parse("techniques.lora.rank=16", techniques=["freeze"]).techniques == (Freeze(), Lora(rank=16))
    assert parse("techniques.lora={rank: 2}").techniques == (Lora(rank=2),)


def test_an_override_replaces_the_list():
    assert parse("techniques=[freeze, {lora: {rank: 2}}]", techniques=["dropout"]).techniques == (
        Freeze(),
        Lora(rank=2),
    )
    assert parse("techniques=[]", techniques=["lora"]).techniques == ()


def test_overrides_are_yaml_values_of_the_right_types():
    recipe = parse("train.learning_rate=1e-3", "seeds=[1, 2]", "data.input_column=text", "model.max_length=64")
    assert (recipe.train["learning_rate"], recipe.seeds, recipe.model.max_length) == (1e-3, (1, 2), 64)
    assert parse("seeds=4").seeds == (4,)


def test_an_override_of_the_source_takes_the_place_of_the_other():
    assert parse("data.train=a.csv").data.name is None
    splits = {"train": "a.csv", "validation": "v.csv", "test": "t.csv", "fraction": 0.5}
    data = parse("data.name=b", data=splits).data
    assert (data.name, data.train, data.validation, data.test, data.fraction) == ("b", None, None, None, 0.5)


def test_an_override_of_two_sources_is_kept_and_refused():
    found = problem("data.train=a.csv", "data.name=b")
    assert found == "data: give `name` (all splits) or `train` (this split alone), not both"


def test_overrides_leave_the_content_as_it_was():
    content = {**PLAIN, "techniques": [{"lora": {"rank": 4}}], "train": {"weight_decay": 0.0}}
    before = yaml.safe_dump(content)
    override(content, ["techniques.lora.rank=16", "train.weight_decay=0.1", "data.train=x"])
    assert yaml.safe_dump(content) == before


def test_overrides_that_are_none_are_told_at_once():
    assert message("train.learning_rate", "data.fraction=[", "model.name.x=1") == (
        "3 problems in the command line:\n"
        "  train.learning_rate: expected key=value, such as train.learning_rate=1e-3\n"
        "  data.fraction=[: while parsing a flow node expected the node content, but found '<stream end>' in "
        '"<unicode string>", line 1, column 2: [ ^\n'
        "  model.name.x=1: name is not a section but 'encoder'"
    )


def test_an_override_never_drops_what_a_wrong_section_says():
    found = problem("techniques.lora.alpha=2", techniques={"lora": {"rank": 4}})
    assert found == "techniques.lora.alpha=2: techniques is not a list but {'lora': {'rank': 4}}"


def test_all_problems_of_a_recipe_come_at_once_with_the_nearest_names():
    found = message(
        modle={},
        data={"name": "rows", "labels_per_clas": 8, "fraction": 2},
        model={"name": "encoder", "max_length": 0},
        techniques=["lorra", {"lora": {"rank": -1, "alfa": 2}}, "freeze", "freeze", 3, {"dropout": 5}],
        train={"evaluation_strategy": "epoch", "learnin_rate": 1, "metric_for_best_model": "acuracy"},
        seeds=[1, -1],
    )
    assert found == (
        "14 problems in the recipe:\n"
        "  modle: unknown section; did you mean 'model'?\n"
        "  data.fraction: expected above 0 and at most 1, got 2\n"
        "  data.labels_per_clas: unknown setting; did you mean 'labels_per_class'?\n"
        "  model.max_length: expected above 0, got 0\n"
        "  techniques.lorra: unknown technique; did you mean 'lora'?\n"
        "  techniques.lora.rank: expected above 0, got -1\n"
        "  techniques.lora.alfa: unknown setting; did you mean 'alpha'?\n"
        "  techniques: expected a technique such as `lora` or `lora: {rank: 8}`, got 3\n"
        "  techniques.dropout: expected settings such as {…}, got 5\n"
        "  techniques.freeze: given 2 times; once is enough\n"
        "  train.evaluation_strategy: gone from transformers; use eval_strategy\n"
        "  train.learnin_rate: unknown setting; did you mean 'learning_rate'?\n"
        "  train.metric_for_best_model: unknown metric 'acuracy'; did you mean 'accuracy'?\n"
        "  seeds: expected whole numbers from 0 to 2147483647, such as [0, 1, 2], got [1, -1]"
    )


def test_an_empty_recipe_is_told_what_it_needs():
    with pytest.raises(Problems) as caught:
        Recipe.parse({})
    assert caught.value.problems == (
        "task: missing; known: " + ", ".join(TASKS),
        "data: missing; expected {name: …}",
        "model: missing; expected {name: …}",
    )


def test_an_unknown_task_is_refused_with_the_nearest():
    assert problem(task="text-clasification") == (
        "task: unknown task 'text-clasification'; did you mean 'text-classification'?"
    )


@pytest.mark.parametrize("section", ["task", "data", "model", "techniques", "train", "seeds"])
@pytest.mark.parametrize("value", ["words", ["a", "list"], 7.5, {"a": {"b": [None]}}, {1: 2}])
def test_no_value_of_a_section_is_anything_but_a_user_error(section, value):
    with pytest.raises(Problems) as caught:
        Recipe.parse({**PLAIN, section: value})
    assert all(problem.startswith(section) for problem in caught.value.problems)


def test_a_technique_twice_is_refused_once():
    assert (
        problem(techniques=["lora", {"lora": {"rank": 4}}, "lora"]) == "techniques.lora: given 3 times; once is enough"
    )


def test_a_technique_of_another_task_is_refused_with_those_of_its_family_that_fit(monkeypatch):
    monkeypatch.setattr(Lora, "tasks", frozenset({"image-classification"}))
    fitting = [name for name, home in REGISTRY.items() if ".peft." in home and name != "lora"
               and "text-classification" in get_technique(name).tasks]  # fmt: skip
    assert problem(techniques=["lora"]) == (
        f"techniques.lora: not for text-classification; those that are: {', '.join(fitting)}"
    )


@pytest.mark.parametrize("seeds", [[], None, "zero", [0.5], [True], [-1], [2**31], {"a": 1}])
def test_seeds_are_whole_numbers_that_torch_and_numpy_take(seeds):
    assert problem(seeds=seeds) == (
        f"seeds: expected whole numbers from 0 to 2147483647, such as [0, 1, 2], got {seeds!r}"
    )


def test_a_seed_twice_is_refused():
    assert problem(seeds=[1, 2, 1]) == "seeds: each seed once, got [1, 2, 1]"


@pytest.mark.parametrize(("name", "here"), ELSEWHERE.items())
def test_a_name_of_the_field_is_refused_with_what_stands_for_it(name, here):
    assert problem(techniques=[name]) == f"techniques.{name}: no technique of that name; it is {here}"
    assert name not in REGISTRY
    known = re.split(r"[ :.]", here.strip("`"))[0]
    assert known in {*REGISTRY, "train", "hf-smalldata"}


def test_an_unknown_metric_is_refused_with_the_nearest():
    assert problem(train={"metric_for_best_model": "macrof1"}) == (
        "train.metric_for_best_model: unknown metric 'macrof1'; did you mean 'macro_f1'?"
    )


def test_early_stopping_asks_for_validation_rows():
    patient = {"early_stopping_patience": 2}
    assert problem(data={"train": "a.csv"}, train=patient) == (
        "train.early_stopping_patience: needs validation rows; set data.validation or data.validation_fraction"
    )
    assert parse(data={"train": "a.csv", "validation": "b.csv"}, train=patient).train["early_stopping_patience"] == 2
    assert parse(data={"train": "a.csv", "validation_fraction": 0.1}, train=patient)
    assert parse(train=patient)  # `name` may bring validation rows


def test_what_unlabelled_rows_tell_asks_for_them():
    told = {"select_by": "entropy"}
    assert problem(train=told) == "train.select_by: entropy is that of unlabelled rows; set data.unlabelled"
    data = {"train": "a.csv", "unlabelled": "b.csv"}
    assert parse(data=data, train={**told, "early_stopping_patience": 2})  # needs no validation rows
    assert problem(data=data, train={**told, "metric_for_best_model": "log_loss"}) == (
        "train.metric_for_best_model: train.select_by is entropy; leave one of them out"
    )
    assert "'validation', 'entropy' or 'mutual_information'" in problem(train={"select_by": "luck"})


def test_budgets_exclude_each_other():
    data = {"name": "rows", "labels_per_class": 2, "fraction": 0.5}
    assert problem(data=data) == "data: give `labels_per_class` or `fraction`, not both"


def write(folder: Path, content: str | bytes) -> Path:
    file = folder / "recipe.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_a_file_is_read_and_its_name_stands_before_its_problems(tmp_path):
    file = write(tmp_path, yaml.safe_dump(PLAIN))
    assert Recipe.read(file, ["seeds=[5]"]).seeds == (5,)
    with pytest.raises(Problems) as caught:
        Recipe.read(file, ["task=speech"])
    first, line = str(caught.value).split("\n")
    assert first == "1 problem in recipe.yaml:"
    assert line.startswith("  task: unknown task 'speech'")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("task: [", "not YAML: while parsing a flow node"),
        ("a: !!python/object:os.system x", "not YAML: could not determine a constructor"),
        (b"task: \xff\xfe", "not YAML: 'utf-8' codec can't decode"),
        ("[" * 20_000, "not YAML: maximum recursion depth exceeded"),
        ("seeds: [" + "9" * 5000 + "]", "not YAML: Exceeds the limit (4300 digits)"),
        ("seeds: [2026-13-45]", "not YAML: month must be in 1..12"),
        ("task: a\nseeds: [0]\ntask: b", "not YAML: 'task' is there twice in "),
        (
            "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghij")),
            "not YAML: more than 10,000 values",
        ),
        ("a: &a [*a]", "not YAML: more than 10,000 values"),
        ("", "expected sections such as task, data and model, got NoneType"),
        ("- a\n- b", "expected sections such as task, data and model, got list"),
        ("just words", "expected sections such as task, data and model, got str"),
    ],
    ids=["open", "object", "bytes", "deep", "digits", "date", "twice", "aliases", "itself", "empty", "list", "words"],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(content, expected, tmp_path):
    file = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: {expected}")
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path):
    file = write(tmp_path, b"a" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value) == f"{file}: expected a recipe, got a file of 1,000,001 bytes"


def test_a_missing_file_is_told_with_where_to_look(tmp_path):
    with pytest.raises(UserError, match="no such recipe; `hf-smalldata list recipes` shows those that come with the"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="no such recipe"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("name", recipe_files())
def test_every_recipe_of_the_package_parses_and_says_what_it_is(name):
    file = recipe_files()[name]
    recipe = Recipe.read(file)
    assert Recipe.parse(yaml.safe_load(recipe.to_yaml())) == recipe
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_there_are_recipes_for_each_task():
    tasks = {Recipe.read(file).task for file in recipe_files().values()}
    assert tasks == set(TASKS)


@pytest.mark.parametrize(("technique", "task", "message"), [
    ({"flip": {"horizontal": 2}}, "image-classification", "flip.horizontal: expected 0 to 1, got 2"),
    ({"waveform": {"speed": [0.1, 1]}}, "audio-classification", "waveform.speed: expected 0.5 to 2, got 0.1"),
    ({"lora": {"dropout": 1}}, "text-classification", "lora.dropout: expected at least 0 and below 1, got 1"),
    ({"pooling": {"blocks": 1}}, "text-classification", "pooling.blocks: expected at least 2, got 1 or "),
])  # fmt: skip
def test_a_value_out_of_range_is_told_the_whole_range(technique, task, message):
    with pytest.raises(Problems, match=re.escape(f"techniques.{message}")):
        Recipe.parse({"task": task, "data": {"train": "a.csv"}, "model": {"name": "x"}, "techniques": [technique]})
