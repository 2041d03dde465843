"""Rows of a source read as `load` reads them, but what `load` refuses becomes a finding, and the rest is read.

A file that is no table at all, or columns that cannot be told apart, stay one clear error.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets

from hf_smalldata.data.columns import Columns, find_columns
from hf_smalldata.data.load import label_cells
from hf_smalldata.data.modality import Kind, Modality, Read, get_modality
from hf_smalldata.data.source import Tables, read_sources
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.strata import class_names
from hf_smalldata.data.table import Table, is_missing
from hf_smalldata.doctor import giveaways
from hf_smalldata.doctor.findings import Finding, among, fine
from hf_smalldata.doctor.guess import read_and_guess
from hf_smalldata.doctor.sample import Part, Sample, by_name
from hf_smalldata.doctor.tagged import sound_tags
from hf_smalldata.errors import UserError


@dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        kind: of the inputs.
        tables: the source as it is, by split.
        columns: the part that each of its columns plays.
        data: the rows that can be examined.
        findings: on those that cannot, and on what was left out.
    """

    kind: Kind
    tables: Tables
    columns: Columns
    data: Sample
    findings: tuple[Finding, ...]


def read_source(spec: DataSpec, kind: Kind | None = None) -> Source:
    """Read rows to be examined.

    Args:
        spec: the source.
        kind: of its inputs; guessed when None.

    Raises:
        UserError: nothing can be read, or not which column is what.
    """
    kind, tables = read_and_guess(spec) if kind is None else (kind, read_sources(spec, kind))
    modality = get_modality(kind)
    columns = find_columns(tables, spec, kind)
    spec = modality.settled(spec, [table.columns[columns.input] for table in tables.values()])
    inputs, given = dict[str, Dataset](), dict[str, list[Any]]()
    missing, unreadable, findings, said = dict[str, str](), dict[str, str](), list[Finding](), list[str]()
    for split, table in tables.items():
        own = label_cells(table, columns, spec, kind)
        if split != "train" and all(map(is_missing, own)):
            findings.append(Finding("missing", "warn", f"no {split} row has a label: the {split} split is not used"))
            continue
        gone = _missing(table, columns, own)
        rows = [at for at, row_id in enumerate(table.ids) if row_id not in gone]
        read, changed, bad = _readable(functools.partial(_inputs, table, columns, modality, spec), rows)
        said += [*table.warnings, *changed]
        missing |= gone
        unreadable |= {table.ids[at]: reason for at, reason in bad.items()}
        if read is not None:
            inputs[split], given[split] = read, [own[at] for at in rows if at not in bad]
    if "train" not in inputs:
        reason = next(iter({**unreadable, **missing}.items()))
        raise UserError(f"{tables['train'].where}: no training row can be read; {': '.join(reason)}")
    total = sum(len(table.ids) for table in tables.values())
    findings += [_reading_finding(said), _missing_finding(missing, total)]
    if not modality.a_file_each:  # files are read later, once
        findings.append(_unreadable_finding(unreadable, total))
    data, more = _labelled(inputs, given, tables["train"], columns, modality, spec)
    return Source(kind, tables, columns, data, (*findings, *more, *_paths(data, tables["train"], columns)))


def _missing(table: Table, columns: Columns, cells: Sequence[Any]) -> dict[str, str]:
    """Rows without an input or a label."""
    gone: dict[str, str] = {}
    for name in (columns.input, columns.pair):
        if name is not None:
            gone |= {row_id: f"without '{name}'" for row_id, cell in zip(table.ids, table.columns[name], strict=True)
                     if is_missing(cell)}  # fmt: skip
    for row_id, cell in zip(table.ids, cells, strict=True):
        if is_missing(cell):
            gone.setdefault(row_id, "without a label")
    return gone


def _missing_finding(missing: Mapping[str, str], total: int) -> Finding:
    if not missing:
        return fine("missing", "every row has an input and a label")
    reasons = ", ".join(f"{count:,} {why}" for why, count in Counter(missing.values()).most_common())
    return Finding("missing", "warn", f"{among(len(missing), total)} incomplete: {reasons}", tuple(missing),
                   "they are left out; fill them in if you can", missing)  # fmt: skip


def _unreadable_finding(bad: Mapping[str, str], total: int) -> Finding:
    if not bad:
        return fine("unreadable", "every input can be read")
    first, reason = next(iter(bad.items()))
    return Finding("unreadable", "fail", f"{among(len(bad), total)} unreadable; {first}: {reason}", tuple(bad),
                   "mend them or take them out", bad)  # fmt: skip


def _reading_finding(said: Sequence[str]) -> Finding:
    return Finding("reading", "warn", "; ".join(said)) if said else fine("reading", "nothing was left out or changed")


def _inputs(table: Table, columns: Columns, modality: Modality, spec: DataSpec, rows: Sequence[int]) -> Read:
    """Columns id, input, and group where a column is named for it; and what was changed in reading."""
    data: dict[str, Any] = {"id": [table.ids[row] for row in rows]}
    if columns.group is not None:
        cells = table.columns[columns.group]
        data["group"] = [table.ids[row] if is_missing(cells[row]) else str(cells[row]) for row in rows]
    ids = Dataset.from_dict(data, features=Features({name: Value("string") for name in data}))
    made, changed = modality.inputs(table, columns.input, columns.pair, rows, spec)
    return concatenate_datasets([ids, made], axis=1), changed


def _readable(
    read: Callable[[Sequence[int]], Read], rows: Sequence[int]
) -> tuple[Dataset | None, list[str], dict[int, str]]:
    """Rows that `read` takes, what it changed, and why it refuses others: found by halving, so that few cost little."""
    if not rows:
        return None, [], {}
    try:
        return *read(rows), {}
    except UserError as error:
        if len(rows) == 1:
            lines = str(error).splitlines()  # of several, the first only says how many problems there are
            return None, [], {rows[0]: lines[min(1, len(lines) - 1)].strip()}
        half = len(rows) // 2
        first, said, bad = _readable(read, rows[:half])
        second, more, worse = _readable(read, rows[half:])
        parts = [part for part in (first, second) if part is not None]
        return (concatenate_datasets(parts) if parts else None), said + more, bad | worse


def _labelled(
    inputs: Mapping[str, Dataset],
    cells: Mapping[str, list[Any]],
    train: Table,
    columns: Columns,
    modality: Modality,
    spec: DataSpec,
) -> tuple[Sample, list[Finding]]:
    """Rows with labels as `load` would encode them, else as they are written, and what is wrong with them."""
    findings: list[Finding] = []
    if modality.kind == "tokens":
        inputs, cells, findings = sound_tags(inputs, cells, spec)
        spec = spec.model_copy(update={"broken_tags": "repair"})
    names = train.label_names.get(columns.labels[0]) if len(columns.labels) == 1 else columns.labels
    try:
        targets = modality.targets(inputs, cells, " + ".join(columns.labels), names, spec)
    except UserError as error:
        if modality.kind == "tokens":
            raise
        texts = {split: [str(cell) for cell in each] for split, each in cells.items()}
        if len(set(texts["train"])) > 1:  # of one class only, the check of classes says so
            findings.append(Finding("labels", "fail", str(error), advice="training would stop here"))
        parts = {split: Part(split, rows, texts[split]) for split, rows in inputs.items()}
        every = sorted({text for each in texts.values() for text in each})
        return Sample(modality, "single_label_classification", parts, every), findings
    parts = {split: Part(split, rows, by_name(targets.by_split[split], targets.names, targets.problem_type))
             for split, rows in inputs.items()}  # fmt: skip
    return Sample(modality, targets.problem_type, parts, class_names(targets.names, targets.problem_type)), findings


def _paths(data: Sample, table: Table, columns: Columns) -> list[Finding]:
    """Paths of a table that hold the label; class folders hold it by design."""
    if not data.modality.a_file_each or (table.origin is not None and table.origin.is_dir()):
        return []
    given = {row_id: cell for row_id, cell in zip(table.ids, table.columns[columns.input], strict=True)
             if isinstance(cell, str)}  # fmt: skip
    return giveaways.paths(data, given, columns.input)
