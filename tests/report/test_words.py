"""The sentences of a report say what the figures say, and no more."""

from hf_smalldata.report import words
from hf_smalldata.report.formats import duration, one_line, percent, sentence, shown, size


def test_the_answer_names_the_best_setting_at_the_largest_budget_with_its_interval(contents):
    study = contents["text_study"]()
    at_64 = [each for each in study["results"] if each["budget"] == "64" and not each["baseline"]]
    best = max(at_64, key=lambda each: each["metrics"]["accuracy"]["value"])
    expected = (
        f"“{best['variant']}” has the highest accuracy of the 4 settings tried: {shown(best['metrics']['accuracy'])}"
    )
    assert words.lead(study) == f"{expected} from 320 training rows."


def test_where_less_is_better_the_lowest_is_the_best(contents):
    run = contents["regression_run"]()
    ours, baseline = run["results"]
    other = ours | {"variant": "worse", "metrics": {"rmse": {"value": 2.0, "low": None, "high": None}}}
    run["results"] = [other, ours, baseline]
    assert words.lead(run).startswith("“reviews” has the lowest RMSE of the 2 settings tried: 0.6")


def test_a_single_setting_is_called_no_winner(contents):
    assert words.lead(contents["one_seed_run"]()).startswith("“reviews” has accuracy 0.")


def test_techniques_are_told_by_verdict_and_budget(contents):
    told = words.findings(contents["text_study"]())
    assert words.Finding("helped", "Helped in the recipe: lora (at budget 8, 16 and 64).") in told
    assert words.Finding("hurt", "Hurt in the recipe: freeze (at budget 8, 16 and 64).") in told


def test_at_one_budget_techniques_are_told_with_their_intervals(contents):
    study = contents["text_study"]()
    study["setting"]["budgets"] = ["64"]
    for part in ("results", "comparisons"):
        study[part] = [each for each in study[part] if each["budget"] == "64"]
    assert "Helped in the recipe: lora (+0.022 [+0.002, +0.042])." in [told for _, told in words.findings(study)]


def test_what_is_not_resolved_is_not_called_without_effect(contents):
    study = contents["text_study"]()
    assert any("“Not resolved” is not “no effect”" in said for said in words.caveats(study))
    study["comparisons"] = [each for each in study["comparisons"] if each["verdict"] != "not resolved"]
    assert not any("ot resolved" in said for said in words.caveats(study))


def test_picking_the_best_on_the_same_rows_is_admitted(contents):
    assert any("picked by these same figures" in said for said in words.caveats(contents["text_study"]()))
    assert not any("picked" in said for said in words.caveats(contents["regression_run"]()))


def test_a_missing_interval_is_admitted(contents):
    assert any("has no interval" in said for said in words.caveats(contents["one_seed_run"]()))


def test_gate_and_forecast_are_whole_sentences(contents):
    told = [finding.sentence for finding in words.findings(contents["text_study"]())]
    assert any(said.startswith("Left out: freeze;") and said.endswith("better.") for said in told)
    assert any("90 % interval: 80 more labels: +0.003" in said for said in told)


def test_comparisons_are_named_by_the_side_that_differs(contents):
    run, study = contents["regression_run"](), contents["text_study"]()
    assert words.kind_title(run, "baseline") == "“reviews” against baselines"
    assert words.compared(run, run["comparisons"][0]) == "training mean"
    assert words.kind_title(study, "baseline") == "Settings against “TF-IDF + logistic regression”"
    assert words.compared(study, study["comparisons"][-1]) == "without freeze"
    study["comparisons"][-1]["b"] = "majority class"
    assert words.compared(study, study["comparisons"][-1]) == "without freeze against majority class"


def test_every_kind_of_comparison_has_a_title():
    assert set(words.KINDS) == {"technique", "addition", "recipe", "gate", "baseline"}


def test_figures_have_their_units():
    assert [duration(12.14), duration(323), duration(7500)] == ["12.1 s", "5 min 23 s", "2 h 5 min"]
    assert [size(312e6), size(1.456e9), size(None)] == ["312 MB", "1.46 GB", "–"]
    assert [percent(0.9), percent(0.9214), percent(None)] == ["90 %", "92.1 %", "–"]
    assert shown({"value": 0.03, "low": 0.01, "high": 0.05}, sign=True) == "+0.030 [+0.010, +0.050]"
    assert [shown({"value": 0.03, "low": None, "high": None}), shown(None)] == ["0.030", "–"]
    assert [sentence("left out: a"), sentence("Done.")] == ["Left out: a.", "Done."]
    assert one_line(" a\n\tb\x0bc ") == "a b c"
