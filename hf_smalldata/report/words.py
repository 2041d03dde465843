"""The words of a report: what was found, in sentences that anybody can read and nobody can over-read.

A difference that is "not resolved" is not "no effect". The best of several settings was picked on the rows that it is
reported on, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hf_smalldata.evaluation.metrics import greater_is_better
from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.report.formats import plural, sentence, shown

NOT_RESOLVED = "not resolved"
MARKS = {"helped": "▲", "better": "▲", "hurt": "▼", "worse": "▼", NOT_RESOLVED: "○"}
KINDS = {  # kind -> what it asks, and which side is subtracted from which
    "technique": ("What each technique adds to the others", "the recipe with it minus the recipe without it"),
    "addition": ("What each technique adds to the plain recipe", "the plain recipe with it minus the plain recipe"),
    "recipe": ("Recipes against each other", "the first minus the second"),
    "gate": ("The recipe without what did not help", "the shorter recipe minus the whole"),
    "baseline": ("Against baselines on the same rows", "the setting minus the baseline"),
}
_TOLD_AS = {"technique": "in the recipe", "addition": "on top of the plain recipe"}


class Finding(NamedTuple):
    """A sentence, and the verdict it carries ("" for none)."""

    verdict: str
    sentence: str


def lead(content: Mapping[str, Any]) -> str:
    """The answer in one sentence: the setting with the best main metric at the largest budget, and its interval."""
    best, metric = best_result(content), content["main_metric"]
    rivals, value = len(_settings(content)), shown(best["metrics"][metric])
    name, place = f"“{best['variant']}”", f"from {plural(best['train_rows'], 'training row')}"
    if rivals == 1:
        return f"{name} has {TITLES[metric]} {value} {place}."
    degree = "highest" if greater_is_better(metric) else "lowest"
    return f"{name} has the {degree} {TITLES[metric]} of the {rivals} settings tried: {value} {place}."


def findings(content: Mapping[str, Any]) -> list[Finding]:
    """What else was found at the largest budget: baselines, techniques, what to keep, what more labels would do."""
    best = best_result(content)
    found = []
    for kind in ("baseline", "recipe"):
        for each in of_kind(content, kind):
            if each["budget"] == best["budget"] and best["variant"] in (each["a"], each["b"]):
                difference = f"{content['row_score']} {shown(each['difference'], sign=True)}"
                sides = f"“{each['a']}” against “{each['b']}”"
                found.append(Finding(each["verdict"], f"{each['verdict'].capitalize()}: {sides}, {difference}."))
    for kind in _TOLD_AS:
        found += _techniques(content, kind)
    if content["gate"]:
        found.append(Finding("", sentence(content["gate"]["sentence"])))
    for curve in content["curves"]:
        if curve["forecast"] and curve["variant"] == best["variant"]:
            told = sentence(curve["forecast"]["sentence"])
            found.append(Finding("", f"Forecast for “{curve['variant']}”, {100 * curve['level']:g} % interval: {told}"))
    return found


def caveats(content: Mapping[str, Any]) -> list[str]:
    """How the answer must be read."""
    said = [f"Brackets are intervals: {content['setting']['interval']}."]
    if best_result(content)["metrics"][content["main_metric"]]["low"] is None:
        said.append("A figure without brackets has no interval that could be told.")
    if any(each["verdict"] == NOT_RESOLVED for each in content["comparisons"]):
        said.append("“Not resolved” is not “no effect”: these rows and seeds are too few to tell.")
    if len(_settings(content)) > 1:
        said.append("The best setting was picked by these same figures, so expect a little less of it on new rows.")
    return said


def best_result(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result, baselines aside, with the best main metric among those with the most labels."""
    metric = content["main_metric"]
    sign = 1 if greater_is_better(metric) else -1
    found: Mapping[str, Any] = max(_settings(content), key=lambda each: sign * each["metrics"][metric]["value"])
    return found


def kinds(content: Mapping[str, Any]) -> list[str]:
    """Kinds of comparisons that were made, in the order of the report."""
    return [kind for kind in KINDS if of_kind(content, kind)]


def of_kind(content: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Comparisons of a kind in order of their budgets."""
    return by_budget(content, [each for each in content["comparisons"] if each["kind"] == kind])


def kind_title(content: Mapping[str, Any], kind: str) -> str:
    """What a kind of comparisons asks, with the side that all of them share."""
    side, name = _shared(content, kind)
    if side == "a":
        return f"“{name}” against {'baselines' if kind == 'baseline' else 'other recipes'}"
    if side == "b":
        return f"{'Recipes' if kind == 'recipe' else 'Settings'} against “{name}”"
    return KINDS[kind][0]


def compared(content: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """A comparison's name below its kind's title."""
    if comparison["kind"] in _TOLD_AS:
        return str(comparison["what"])
    side, _ = _shared(content, comparison["kind"])
    if side:
        return str(comparison["b" if side == "a" else "a"])
    return f"{comparison['a']} against {comparison['b']}"


def compared_by(content: Mapping[str, Any], kind: str) -> str:
    """What the names of `compared` are."""
    if kind in _TOLD_AS:
        return "technique"
    return "baseline" if kind == "baseline" and _shared(content, kind)[0] == "a" else "setting"


def folds(setting: Mapping[str, Any]) -> str:
    """How rows took turns as test rows."""
    times = "" if setting["repeats"] == 1 else f", {setting['repeats']} times over"
    return f"{setting['folds']}-fold cross-validation{times}: every row is tested by a model that has not seen it"


def calibration(found: Mapping[str, Any]) -> str:
    """What the temperature did to the confidence, in words."""
    state = "too sure of itself" if found["temperature"] > 1 else "not sure enough of itself"
    return (
        f"The model was {state}: a temperature of {found['temperature']:.2f}, from {plural(found['rows'], 'row')}, "
        f"takes ECE from {found['ece_before']:.3f} to {found['ece_after']:.3f} and log-loss from "
        f"{found['log_loss_before']:.3f} to {found['log_loss_after']:.3f}, measured on other folds."
    )


def budgets_differ(content: Mapping[str, Any]) -> bool:
    """Whether results must be told apart by their budget."""
    return len(content["setting"]["budgets"]) > 1


def training_rows(content: Mapping[str, Any]) -> dict[str, int]:
    """Budget -> rows trained on, in order of the budgets."""
    return {each["budget"]: each["train_rows"] for each in by_budget(content, content["results"])}


def by_budget(content: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Items in order of their budgets, otherwise as they came."""
    return sorted(items, key=lambda each: content["setting"]["budgets"].index(each["budget"]))


def _settings(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Results of the largest budget, baselines aside."""
    ours = [each for each in by_budget(content, content["results"]) if not each["baseline"]]
    return [each for each in ours if each["budget"] == ours[-1]["budget"]]


def _shared(content: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """The side, "a" or "b", that all comparisons with recipes or baselines share, and its name; or two ""."""
    for side in ("a", "b") if kind in ("recipe", "baseline") else ():
        names = {each[side] for each in of_kind(content, kind)}
        if len(names) == 1:
            return side, names.pop()
    return "", ""


def _techniques(content: Mapping[str, Any], kind: str) -> list[Finding]:
    """A sentence for each verdict, naming the techniques and, where they differ, the budgets."""
    chosen, several = of_kind(content, kind), budgets_differ(content)
    found = []
    for verdict in MARKS:
        names: dict[str, list[str]] = {}
        for each in chosen:
            if each["verdict"] == verdict:
                detail = each["budget"] if several else shown(each["difference"], sign=True)
                names.setdefault(each["what"], []).append(detail)
        if names:
            at = "at budget " if several else ""
            listed = "; ".join(f"{name} ({at}{_together(details)})" for name, details in names.items())
            found.append(Finding(verdict, f"{verdict.capitalize()} {_TOLD_AS[kind]}: {listed}."))
    return found


def _together(items: Sequence[str]) -> str:
    """`8`, `8 and 16`, `8, 16 and 64`."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))
