"""Every technique of a task, each alone on top of a plain recipe, on one data set: what helped, what hurt.

    python scripts/bench/techniques.py BASE.yaml [KEY=VALUE]... [--settings settings.yaml] [--techniques eda llrd]
                                       [--seeds 0 1 2 3 4] [--jobs 1]
                                       [--output runs/bench-techniques] [--table table.md]

A study compares the base recipe with itself plus one technique, on the same draws and test rows, with Holm's
correction over all of them. Techniques with a learning rate of their own, as adapters have, train with that. Finished
Runs are kept: the same command goes on where it stopped. --settings gives techniques other settings than their
defaults, training settings that belong to them, or a reason to leave them out; names that are no technique's stand for
stacks:

    freeze: {techniques: [{freeze: {blocks: 3}}]}
    few-shot: {techniques: [pooling, contrastive, logistic_head], train: {num_train_epochs: 0}}
    back_translation: {leave_out: its models are on the Hub}
"""

from __future__ import annotations

import argparse
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe, override
from hf_smalldata.study import study
from hf_smalldata.study.executors import choose
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.yaml_text import read_yaml

Settings = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--settings", type=Path, help="a YAML file: name -> techniques, train, leave_out")
    parser.add_argument("--techniques", nargs="+", metavar="NAME", help="[default: all that fit and can run here]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, help="Runs at a time [default: 1]")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-techniques"))
    parser.add_argument("--table", type=Path, help="a markdown file for the table, too")
    given = parser.parse_args()
    base = override(read_yaml(given.base), given.overrides)
    settings = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    recipes, left = variants(base, settings, given.techniques)
    made = study(
        {"plain": Recipe.parse(base), **recipes}, given.output, seeds=given.seeds, executor=choose("local", given.jobs)
    )
    lines = table(made.results, left)
    print("\n".join(lines))
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def variants(
    base: dict[str, Any], settings: Settings, names: list[str] | None
) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The base with each technique, by name, and why others are left out."""
    recipes: dict[str, Recipe] = {}
    left: dict[str, str] = {}
    for name in names or [*_fitting(base["task"]), *(each for each in settings if each not in REGISTRY)]:
        one = settings.get(name, {})
        techniques = [*base.get("techniques", ()), *one.get("techniques", [name])]
        content = {**base, "techniques": techniques, "train": {**base.get("train", {}), **one.get("train", {})}}
        if "leave_out" in one:
            left[name] = one["leave_out"]
            continue
        try:
            recipes[name] = Recipe.parse(content)
            rate = next((rate for each in recipes[name].techniques if (rate := each.default_learning_rate())), None)
            if rate is not None and "learning_rate" not in one.get("train", {}):
                content["train"]["learning_rate"] = rate  # adapters take other steps than full fine-tuning
                recipes[name] = Recipe.parse(content)
        except UserError as error:
            left[name] = str(error).replace("\n", " ")
    return recipes, left


def _fitting(task: str) -> list[str]:
    """Techniques that have a say in the trained model and need nothing but labelled rows."""
    kinds = {name: get_technique(name) for name in REGISTRY}
    return [name for name, kind in kinds.items() if task in kind.tasks and not kind.needs and kind().trains]


def table(results: dict[str, Any], left: dict[str, str]) -> list[str]:
    """A line for each technique, the largest difference first."""
    lines = {line["variant"]: line for line in results["results"] if not line["baseline"]}
    metric = results["main_metric"]
    plain = lines["plain"]
    compared = [each for each in results["comparisons"] if each["kind"] == "recipe"]
    rows = [f"| technique | {metric} | difference (95 %) | verdict | seconds of training |", "|---|---|---|---|---|",
            f"| plain | {_show(plain['metrics'][metric])} | | | {_seconds(plain):.1f} |"]  # fmt: skip
    for each in sorted(compared, key=lambda one: -one["difference"]["value"]):
        line, gap = lines[each["what"]], each["difference"]
        rows.append(f"| `{each['what']}` | {line['metrics'][metric]['value']:.3f} | {_show(gap, '+')} | "
                    f"{each['verdict']} | {_seconds(line):.1f} |")  # fmt: skip
    seeds = {run["seed"] for run in plain["runs"]}
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    said = [f"{len(seeds)} seeds, {plain['train_rows']} training rows; {machine}, {date.today()}."]
    return [*said, "", *rows, "", *(f"- `{name}` left out: {why}" for name, why in left.items())]


def _show(value: dict[str, Any], sign: str = "") -> str:
    if value["low"] is None:
        return f"{value['value']:{sign}.3f} (no interval)"
    return f"{value['value']:{sign}.3f} ({value['low']:{sign}.3f} to {value['high']:{sign}.3f})"


def _seconds(line: dict[str, Any]) -> float:
    found = [run["train_seconds"] for run in line["runs"]]
    return float(sum(found) / len(found))


if __name__ == "__main__":
    main()
