"""What `hf-smalldata check --source A --target B` does: its words to two domains, and what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from hf_smalldata.data.columns import find_columns
from hf_smalldata.data.domains import table_of, with_domains
from hf_smalldata.data.load import load
from hf_smalldata.data.modality import Kind, get_modality
from hf_smalldata.data.source import read_sources
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor.command import KINDS, NAMES, asked
from hf_smalldata.doctor.guess import read_and_guess
from hf_smalldata.doctor.shift import Shift, shift
from hf_smalldata.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Compared:
    """Two domains, the task that they were compared for, and what was found."""

    source: str
    target: str
    task: str
    shift: Shift

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"source": self.source, "target": self.target, "task": self.task, **self.shift.as_dict()}


def compare(source: str | None, target: str | None, settings: Sequence[str] = (), task: str | None = None) -> Compared:
    """Compare two domains.

    Args:
        source: of labelled rows.
        target: of rows with or without labels.
        settings: `data.x=…`, of both.
        task: a task's name; guessed by the source's content when None.

    Raises:
        UserError: one of them is missing or cannot be read, or rows have not one class each.
    """
    if source is None or target is None:
        raise UserError(f"check: --{'source' if source is None else 'target'} is missing; two domains are compared")
    if task is not None and task not in KINDS:
        raise UserError(f"unknown task '{task}'{did_you_mean(task, KINDS)}")
    datasets.disable_progress_bars()
    spec = asked(source, settings)
    kind = KINDS[task] if task is not None else read_and_guess(spec)[0]
    splits = load(spec, kind, fewest_classes=1)
    if splits.problem_type != "single_label_classification":
        raise UserError(f"--source: expected rows of one class each, and these are {splits.problem_type}")
    field = "source" if _has_labels(target, spec, kind, splits.labels) else "unlabelled"
    try:
        if field == "source" and len(splits.labels) == 1:  # then the target's are the classes
            theirs = load(spec.model_copy(update={"name": None, "train": target}), kind, fewest_classes=1).labels
            more = tuple(name for name in theirs if name not in splits.labels)
            splits = replace(splits, labels=splits.labels + more)
        both = with_domains(splits, spec.model_copy(update={field: target}), kind, fewest_classes=1)
    except UserError as error:
        said = str(error).replace(f"data.{field}:", "--target:").replace("the target has", "--source has")
        raise UserError(said) from error
    rows = both.source if field == "source" else both.unlabelled
    if rows is None:
        raise UserError(f"--target: {target} holds no rows")
    return Compared(source, target, NAMES[kind], shift(splits.train, rows, splits.labels))


def show_shift(compared: Compared) -> None:
    """Print the report."""
    from rich.console import Console
    from rich.table import Table

    console, found = Console(), compared.shift

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{compared.source} ({found.rows['source']:,} rows) against {compared.target} ({found.rows['target']:,} rows), "
        f"{compared.task}")  # fmt: skip
    say(f"a linear model on plain features tells the domains apart with an AUC of {found.auc:.2f} (0.5: not at all); "
        f"proxy A-distance {found.distance:.2f} of 2")  # fmt: skip
    for name, (one, two) in found.measures.items():
        say(f"{name}: median {one:g} in the source, {two:g} in the target")
    if found.unknown_words is not None:
        say(f"{found.unknown_words:.0%} of the target's words are not in the source; typical of the source: "
            f"{', '.join(found.typical['source'])}; of the target: {', '.join(found.typical['target'])}")  # fmt: skip
    grid = Table("class", "source", "target (estimated)" if found.estimated else "target", box=None)
    for name, count in found.classes["source"].items():
        shares = [f"{found.prior[domain][name]:.0%}" if found.prior else "" for domain in ("source", "target")]
        grid.add_row(name, f"{count} rows, {shares[0]}" if shares[0] else f"{count} rows", shares[1] or "not known")
    console.print(grid, highlight=False)
    for at, sentence in enumerate(found.advice, 1):
        say(f"{at}. {sentence}")


def _has_labels(target: str, spec: DataSpec, kind: Kind, labels: Sequence[str]) -> bool:
    """Whether a target has the columns that hold labels in the source, or folders of its classes."""
    path = Path(target).expanduser()
    if get_modality(kind).a_file_each and path.is_dir():
        return any((path / name).is_dir() or any(path.glob(f"*/{name}/")) for name in labels)
    wanted = find_columns(read_sources(spec, kind), spec, kind).labels
    table = table_of(target, spec, kind)
    return all(name in table.columns for name in wanted)
