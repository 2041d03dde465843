"""A card tells what the Run holds: valid front matter, and no figure that was typed."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_smalldata.data.domains import TRANSDUCTIVE
from hf_smalldata.destination import PublishSpec
from hf_smalldata.errors import UserError
from hf_smalldata.publish.card import model_card, recipe_of
from hf_smalldata.publish.licence import language_of, licence_of
from hf_smalldata.publish.lint import lint
from hf_smalldata.run import read_json, write_json

SPEC = PublishSpec(repo="me/topics")


def test_the_front_matter_is_what_the_hub_reads(hub_run):
    data = ModelCard(str(model_card(hub_run, SPEC))).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "text-classification",
        "cc-by-nc-4.0",
    )
    assert (data.base_model, data.base_model_relation, data.language) == ("me/base", "finetune", "en")
    assert {"hf_smalldata", "lora"} <= set(data.tags)
    assert data.datasets is None  # the rows are a file of this machine
    found = {result.metric_name: result for result in data.eval_results}
    for name, told in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
        interval = hub_run.metrics["results"]["model"][name]
        assert found[told].metric_value == interval["value"]
        assert found[told].metric_args["low"] == interval["low"]
        assert found[told].metric_args["interval"].startswith("95 %, Student's t over seeds")
    assert found["accuracy"].dataset_type == "custom"


def test_a_card_of_an_adapter_says_so_and_how_to_load_it(hub_run):
    card = model_card(hub_run, PublishSpec(repo="me/topics", adapter_only=True))
    assert (card.data.library_name, card.data.base_model_relation) == ("peft", "adapter")
    assert "PeftModel.from_pretrained(base, place)" in card.text


def test_a_path_of_this_machine_is_no_base_model_and_is_not_told(run):
    card = model_card(run, SPEC)
    assert card.data.get("base_model") is None
    assert str(run.folder.parent) not in str(card)
    assert run.metrics["model"] not in str(card)
    assert "bert adapted to" in card.text


def test_a_bundled_model_is_told_by_the_name_that_it_has_on_the_hub(run):
    recipe = run.part("recipe.yaml")
    recipe.write_text(recipe.read_text().replace(run.metrics["model"], "bundled/minilm-l6"))
    write_json(run.part("metrics.json"), {**run.metrics, "model": "bundled/minilm-l6"})
    data = model_card(run, SPEC).data
    assert (data.base_model, data.base_model_relation) == ("sentence-transformers/all-MiniLM-L6-v2", "finetune")
    assert (data.license, data.language) == ("apache-2.0", "en")


def test_the_template_holds_no_figure():
    text = files("hf_smalldata.publish").joinpath("card.md").read_text()
    assert re.findall(r"\d", re.sub(r"\{[{%].*?[}%]\}", "", text)) == []


def test_a_card_passes_its_lint_and_a_typed_figure_does_not(run):
    sources = [run.metrics, read_json(run.part("environment.json"))]
    card = str(model_card(run, SPEC))
    assert lint(card, sources) == []
    assert lint(f"{card}\nIt has an accuracy of 0.987 on our rows.\n", sources) == ["0.987: in no file of the Run"]


@pytest.mark.parametrize(("said", "told"), [
    ("It is right in 99 % of rows.", ["99 %"]), ("A 99% F1, 98 per cent at worst.", ["99 %", "98 %"]),
    ("**99**\\% and ![](https://x/accuracy-98%25-green)", ["99 %", "98 %"]),
    ("In 2024, from 5 seeds and 1,234 rows, with torch 2.4.1, [95 % intervals](https://x/a%20b) and 95% CI.", []),
    ("Quoted: `99 %`; the 95th percentile.", []), ("Right in 62 % of rows, wrong in 37.5 %.", []),
])  # fmt: skip
def test_percentages_that_nobody_measured_are_told_and_ordinary_prose_is_not(said, told):
    card = f"---\npipeline_tag: text-classification\n---\n# x\n\n{said}\n"
    metrics = {"results": {"model": {"accuracy": {"value": 0.6225, "low": None, "high": 0.375}}}, "rows": {"test": 99}}
    assert lint(card, [metrics]) == [f"{figure}: in no file of the Run" for figure in told]


def test_a_label_that_is_a_percentage_is_no_figure(run):
    metrics = run.metrics
    metrics["labels"][0], metrics["classes"]["80 %"] = "80 %", metrics["classes"].pop("animals")
    write_json(run.part("metrics.json"), metrics)
    assert lint(str(model_card(run, SPEC)), [metrics, read_json(run.part("environment.json"))]) == []


@pytest.mark.parametrize(("value", "told"), [("0.3", None), ("0.2963", None), ("30", None), ("29.63 %", None),
                                             ("0.99", "0.99"), ("99 %", "99"), ("1", "1")])  # fmt: skip
def test_the_model_index_has_the_values_of_the_run(value, told):
    index = [{"name": "x", "results": [{"task": {"type": "t"}, "dataset": {"type": "d", "name": "d"},
                                        "metrics": [{"type": "accuracy", "value": "VALUE", "args": {"low": 0.25}},
                                                    {"type": "bleu", "value": 0.7}]}]}]  # fmt: skip
    front = yaml.safe_dump({"pipeline_tag": "text-classification", "model-index": index}).replace("VALUE", value)
    metrics = {"results": {"model": {"accuracy": {"value": 8 / 27, "low": 0.25, "high": 0.99}}}}
    wrong = [] if told is None else [f"model-index: accuracy {told}: the Run has {8 / 27}"]
    assert lint(f"---\n{front}---\n# x\n", [metrics]) == [*wrong, "model-index: bleu 0.7: in no file of the Run"]


def test_wrong_front_matter_is_told_all_at_once(run):
    card = "---\npipeline_tag: text\nbase_model: a/b/c\nlanguage: Danish\n---\n# x"
    found = lint(card, [])
    assert [each.partition(":")[0] for each in found] == ["pipeline_tag", "a/b/c", "language"]
    assert lint("---\n- 1\n---\n", []) == ["front matter: repo card metadata block should be a dict"]


def test_classes_rows_made_rows_and_split_are_told(run):
    metrics = run.metrics
    metrics["runs"][0]["techniques"] = {
        "gan": {"made": 40, "kept": 30, "share_of_training_rows": 0.5, "dropped": {"copies": 10}}
    }
    write_json(run.part("metrics.json"), metrics)
    text = model_card(run, SPEC).text
    assert "gan made 40 rows, of which 30 were learnt from" in text
    assert f"| animals | {metrics['classes']['animals']['train']} | {metrics['classes']['animals']['test']} |" in text
    assert run.rows["digest"]["test"] in text
    assert "Most likely to fail" in text
    assert "torch 2." in text


def test_what_made_rows_and_what_else_was_done_are_named(run):
    metrics = run.metrics
    facts = {"generator": "me/writer", "made": 4, "kept": 3, "share_of_training_rows": 0.5, "dropped": {}}
    metrics["runs"][0]["techniques"] = {"language_model": facts, "pseudo_labels": {"disclosed": "had no effect: why"}}
    write_json(run.part("metrics.json"), metrics)
    text = model_card(run, SPEC).text.replace("\\", "")
    assert "language_model (me/writer) made 4 rows" in text
    assert "\n- pseudo_labels had no effect: why.\n" in text


def test_where_the_rows_that_judge_come_from_is_told(run):
    assert "test rows of the same source as those" in model_card(run, SPEC).text
    recipe = recipe_of(run)
    told = recipe.model_copy(update={"data": recipe.data.model_copy(update={"test": "theirs.csv"})})
    assert "rows of a test set of its own" in model_card(run, SPEC, recipe=told).text


def test_transductive_learning_is_told(run):
    assert "transductive learning" not in model_card(run, SPEC).text
    said = f"3 of 40 unlabelled rows are test rows, without their labels: {TRANSDUCTIVE}"
    write_json(run.part("metrics.json"), {**run.metrics, "notes": [*run.metrics["notes"], said]})
    assert f"- {said}." in model_card(run, SPEC).text


def test_a_studys_verdicts_stand_on_the_card(run):
    from hf_smalldata.reporting import run_content

    study = {**run_content(run), "notes": ["row topics.csv:3 is odd"]}
    text = model_card(run, SPEC, study).text
    assert "## The study that favoured this model\n" in text
    assert "### Findings" in text
    assert "### Paired differences" in text
    assert lint(str(model_card(run, SPEC, study)), [run.metrics, read_json(run.part("environment.json")), study]) == []
    assert "topics.csv:3" not in text


def test_labels_cannot_break_the_card(run):
    metrics = run.metrics
    metrics["classes"] = {"a|b\n---\n<script>": metrics["classes"]["animals"]}
    write_json(run.part("metrics.json"), metrics)
    text = model_card(run, SPEC).text
    assert "\n| a\\|b --- \\<script\\> |" in text


@pytest.mark.parametrize(("given", "base", "expected"), [
    (None, "mit", "mit"), ("apache-2.0", "mit", "apache-2.0"), ("mit", None, "mit"), (None, None, None),
    ("cc-by-nc-4.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
])  # fmt: skip
def test_a_licence_is_inherited_or_given_where_the_base_leaves_room(given, base, expected):
    card = None if base is None else {"license": base}
    assert licence_of(given, card, "x").get("license") == expected


def test_a_licence_that_must_be_kept_is_kept():
    with pytest.raises(UserError, match=r"x is under cc-by-nc-4\.0, which what is made of it keeps; got mit"):
        licence_of("mit", {"license": "cc-by-nc-4.0"}, "x")


def test_the_name_of_another_licence_comes_along():
    found = licence_of(None, {"license": "other", "license_name": "gemma", "license_link": "LICENSE"}, "x")
    assert found == {"license": "other", "license_name": "gemma", "license_link": "LICENSE"}


def test_only_a_single_language_is_inherited():
    assert language_of(None, {"language": ["da"]}) == "da"
    assert language_of(None, {"language": ["da", "en"]}) is None
    assert language_of("de", {"language": "da"}) == "de"
