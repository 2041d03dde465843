"""What `hf-smalldata check` does: its words to a source, the examination, and the cleaned copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import yaml
from pydantic import ValidationError

from hf_smalldata.data.modality import Kind
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor.examination import examined
from hf_smalldata.doctor.findings import Report, number
from hf_smalldata.doctor.fix import CHANGES, check_target, write_fixed
from hf_smalldata.doctor.lengths import Lengths, lengths_of
from hf_smalldata.doctor.source import read_source
from hf_smalldata.errors import Problems, UserError
from hf_smalldata.whole import alone
from hf_smalldata.yaml_text import parse_yaml

RECIPES = (".yaml", ".yml")
# A task's name is that of its kind with '-classification'; tasks themselves import torch, which takes seconds.
KINDS: dict[str, Kind] = {
    "text-classification": "text",
    "token-classification": "tokens",
    "image-classification": "image",
    "audio-classification": "audio",
    "sequence-classification": "sequence",
}
NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Checked:
    """An examined source: the task that it was examined for, whether that was guessed, and what was found."""

    data: str
    task: str
    guessed: bool
    report: Report

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"data": self.data, "task": self.task, "guessed": self.guessed, **self.report.as_dict()}


def check(
    data: str, settings: Sequence[str] = (), task: str | None = None, model: str | None = None, fix: Path | None = None
) -> Checked:
    """Examine a source as it lies there, rows that training would refuse among them.

    Args:
        data: a file, a folder, a Hub id, a bundled name, or a recipe's .yaml file.
        settings: `data.x=…` (of a recipe any setting) to override.
        task: a task's name; a recipe's own, else guessed by content, when None.
        model: a Hub id or folder, whose tokens are counted; a recipe's own when None.
        fix: a new folder for a cleaned copy.

    Raises:
        UserError: nothing can be read, `fix` is there, or another process is writing it.
    """
    datasets.disable_progress_bars()
    with alone(fix):
        if fix is not None:
            check_target(fix)
        spec, name, model_spec = _asked(data, settings, task, model)
        source = read_source(spec, _kind(name) if name is not None else None)
        found = NAMES[source.kind]
        lengths = _lengths(found, model_spec) if model_spec is not None else None
        report = examined(source.data, lengths, source.findings)
        if fix is not None:
            write_fixed(source, report, spec, fix)
    return Checked(data, found, name is None, report)


def show(checked: Checked, fix: Path | None) -> None:
    """Print the summary."""
    from rich.console import Console

    from hf_smalldata.doctor.terminal import terminal

    console = Console()
    guess = " (guessed; --task sets it)" if checked.guessed else ""
    console.print(f"{checked.data}, examined for {checked.task}{guess}", markup=False, highlight=False, soft_wrap=True)
    for part in terminal(checked.report):
        console.print(part, highlight=False)
    if fix is None and (gone := checked.report.drops()):
        console.print(
            f"--fix OUT writes a copy without {number(len(gone), 'row')} of these", markup=False, highlight=False
        )
    if fix is not None:
        said = f"cleaned copy: {fix}; every change: {fix / CHANGES}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def _asked(
    data: str, settings: Sequence[str], task: str | None, model: str | None
) -> tuple[DataSpec, str | None, dict[str, Any] | None]:
    """The data section, the task if it is told, and the model section if there is one."""
    if Path(data).suffix.lower() in RECIPES:
        from hf_smalldata.recipe import Recipe

        options = [f"{key}={value}" for key, value in (("task", task), ("model.name", model)) if value is not None]
        recipe = Recipe.read(data, [*options, *settings])
        return recipe.data, recipe.task, recipe.model.model_dump()
    return asked(data, settings), task, {"name": model} if model is not None else None


def asked(data: str, settings: Sequence[str]) -> DataSpec:
    """As `recipe.override` would have it, for the data section alone: what imports recipes waits seconds for torch."""
    content: dict[str, Any] = {"name": data}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.startswith("data."):
            raise UserError(
                f"expected data.KEY=VALUE, such as data.label_column=topic, got {setting!r}; only a recipe has others"
            )
        *sections, last = key.split(".")[1:]
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        try:
            place[last] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise UserError(f"{setting}: {' '.join(str(error).split())}") from None
        if key == "data.train":
            content.pop("name", None)
    try:
        return DataSpec.model_validate(content)
    except ValidationError as error:
        said = [f"{'.'.join(['data', *map(str, one['loc'])])}: {one['msg']}" for one in error.errors()]
        raise Problems("the command line", said) from None


def _kind(task: str) -> Kind:
    from hf_smalldata.errors import did_you_mean

    if task not in KINDS:
        raise UserError(f"unknown task '{task}'{did_you_mean(task, KINDS)}")
    return KINDS[task]


def _lengths(task: str, model: dict[str, Any]) -> Lengths | None:
    from hf_smalldata.tasks import get_task
    from hf_smalldata.tasks.task import ModelSpec

    chosen = get_task(task)
    return lengths_of(chosen, chosen.load_processor(ModelSpec.model_validate(model)))
