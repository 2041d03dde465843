"""A study on disk: its plan, one folder for each Run, and what they say together.

study.json       what is studied: resolved recipes, seeds, budgets, folds, a digest of the rows
runs/            a Run each, without weights: <variant>/<budget>_<fold>_<seed>_<digest of recipe and rows>
results.json     means, intervals, comparisons, curves, calibration: all that a report shows
report.html  report.md  gated.yaml  model/ (with --refit: an ordinary Run)
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import OURS, check_place, read_json, write_json
from hf_smalldata.study.plan import Cell, Plan
from hf_smalldata.study.workbench import Files

PLAN, RESULTS, SOUP = "study.json", "results.json", "soup.parquet"


@dataclass(frozen=True)
class Study:
    """A study's folder."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """The study in a folder.

        Raises:
            UserError: no such folder, or not a finished study.
        """
        path = Path(folder).expanduser()
        if not is_study(path):
            raise UserError(f"{folder}: not a study; expected a folder that `hf-smalldata study` wrote")
        if not (path / RESULTS).is_file():
            raise UserError(f"{folder}: this study is not finished; the command that began it goes on with it")
        return cls(path)

    @property
    def results(self) -> dict[str, Any]:
        """results.json."""
        return read_json(self.folder / RESULTS)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes that were compared, by name."""
        recorded = read_json(self.folder / PLAN)["recipes"]
        return {name: Recipe.parse(content) for name, content in recorded.items()}


def is_study(folder: Path) -> bool:
    """Whether a study was begun in this folder."""
    return (folder / PLAN).is_file()


def begin(folder: Path, plan: Plan, rows: str) -> None:
    """Make the folder of a study, or go on in it; more seeds, budgets, repeats and recipes may join.

    Args:
        folder: new, empty, or of the same study.
        plan: what is studied.
        rows: digest of all rows.

    Raises:
        UserError: the folder holds something else, or another study; what differs is named.
    """
    now: dict[str, Any] = {
        "recipes": {name: _content(recipe) for name, recipe in plan.variants.items()},
        "seeds": list(plan.seeds), "budgets": list(plan.budgets), "folds": plan.folds, "repeats": plan.repeats,
        "rows": rows,
    }  # fmt: skip
    if is_study(folder):
        before = read_json(folder / PLAN)
        problems = [
            f"{name}: {difference}"
            for name in before["recipes"]
            if name in now["recipes"]
            for difference in differences(before["recipes"][name], now["recipes"][name])
        ]
        if before["folds"] != now["folds"]:
            problems.append(f"folds: {before['folds']} there, {now['folds']} now")
        if before["rows"] != rows:
            problems.append("data: its rows have other contents now")
        if problems:
            raise Problems(f"{folder}, which holds another study (choose another --output, or delete it)", problems)
        now["recipes"] = {**before["recipes"], **now["recipes"]}
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--output: {folder} holds something that is no study; choose another folder")
    else:
        check_place(folder)
        folder.mkdir(parents=True, exist_ok=True)
    replace_json(folder / PLAN, now)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """`train.learning_rate: 0.0002 there, 0.001 now`, for each setting that differs."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        one, other = before.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{where}{name}.")
        elif one != other:
            found.append(f"{where}{name}: {_short(one)} there, {_short(other)} now")
    return found


def place_of(folder: Path, cell: Cell, key: str) -> Path:
    """Where a Run lies; a Run of another recipe or other rows lies elsewhere."""
    fold = f"_repeat-{cell.repeat}_fold-{cell.fold}" if cell.fold >= 0 else ""
    variant = re.sub(r"[^\w+-]+", "-", cell.variant)
    return folder / "runs" / variant / f"{cell.budget}{fold}_seed-{cell.seed}_{key[:12]}"


def is_made(place: Path) -> bool:
    """Whether the Run at a place is finished."""
    return (place / OURS / "metrics.json").is_file()


def read_soup(place: Path) -> pd.DataFrame | None:
    """soup.parquet of a Run: what the average of the seeds up to it predicts; None where there is none."""
    file = place / OURS / SOUP
    return pd.read_parquet(file) if file.is_file() else None


def put(place: Path, files: Files) -> None:
    """Write a Run, whole or not at all."""
    partial = place.parent / f".{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / OURS).mkdir(parents=True)
    for name, content in files.items():
        (partial / OURS / name).write_bytes(content)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)


def read(place: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """metrics.json and predictions.parquet of a Run."""
    return read_metrics(place), pd.read_parquet(place / OURS / "predictions.parquet")


def read_metrics(place: Path) -> dict[str, Any]:
    """metrics.json of a Run."""
    return read_json(place / OURS / "metrics.json")


def replace_json(file: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    write_json(partial, content)
    partial.replace(file)


def replace_text(file: Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(file)


def _content(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what the plan sets; techniques by name, so that a difference names them."""
    content = recipe.as_dict()
    del content["seeds"]
    for name in ("labels_per_class", "fraction"):
        content["data"][name] = None
    return content


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
