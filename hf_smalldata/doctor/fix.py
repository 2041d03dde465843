"""A cleaned copy of a source, in its own form: less the rows that an examination would drop, one spelling a class.

The source is never touched. Every change is a line of `changes.csv`; what only a person can decide (a suspected typo, a
language) is left as it is. A cell of `changes.csv` that a spreadsheet would take for a formula begins with an
apostrophe; the rows themselves are to be read again, so theirs are as they were.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from hf_smalldata.data import delimited
from hf_smalldata.data.class_folders import vacant
from hf_smalldata.data.conll import SUFFIXES as CONLL
from hf_smalldata.data.modalities.files import FilesModality
from hf_smalldata.data.sequences import SUFFIXES as FASTA
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table
from hf_smalldata.doctor.findings import Report
from hf_smalldata.doctor.source import Source
from hf_smalldata.errors import UserError
from hf_smalldata.whole import check_makeable, whole

CHANGES = "changes.csv"


class _Copy(NamedTuple):
    """What is written of one split: rows by index, and whole columns with other cells."""

    table: Table
    keep: Sequence[int]
    cells: Mapping[str, Sequence[Any]]


def check_target(folder: Path) -> None:
    """Refuse a folder that is there or cannot be made.

    Raises:
        UserError: it is, or cannot.
    """
    if folder.exists():
        raise UserError(f"--fix: {folder} is there already; name a new folder")
    check_makeable(folder, "--fix")


def write_fixed(source: Source, report: Report, spec: DataSpec, folder: Path) -> None:
    """Write the copy and `changes.csv` into a new folder, whole or not at all.

    Tables keep their ending and are named after their split; class folders are copied; what came from elsewhere (the
    Hub, a package) becomes parquet. CoNLL files keep token and tag only. Relative paths in tables become absolute.

    Raises:
        UserError: the folder is there, or no training row would be left.
    """
    check_target(folder)
    drops, renames = report.drops(), {} if source.kind == "tokens" else report.renames
    copies = {
        split: _copy(source, table, drops, renames, spec.label_separator) for split, table in source.tables.items()
    }
    if not copies["train"].keep:
        raise UserError("--fix: no training row would be left; see the findings")
    with whole(folder) as partial:
        partial.mkdir()
        for split, copy in copies.items():
            if copy.keep:
                _write(split, copy, source, spec, partial, several=len(copies) > 1)
        with (partial / CHANGES).open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "split", "what", "why"])
            changes = _changes(source, copies, drops, renames)
            lines.writerows(map(delimited.inert, line) for line in changes)


def _copy(
    source: Source, table: Table, drops: Mapping[str, Any], renames: Mapping[str, str], separator: str | None
) -> _Copy:
    keep = [at for at, row_id in enumerate(table.ids) if row_id not in drops]
    cells: dict[str, Sequence[Any]] = {}
    for name in source.columns.labels:
        given = list(table.columns[name])
        new = [_renamed(cell, renames, separator) for cell in given]
        if new != given:
            cells[name] = new
    name = source.columns.input
    if source.data.modality.a_file_each and table.folder is not None:
        cells[name] = [str((table.folder / cell).resolve()) if isinstance(cell, str) else cell
                       for cell in table.columns[name]]  # fmt: skip
    return _Copy(table, keep, cells)


def _renamed(cell: Any, renames: Mapping[str, str], separator: str | None) -> Any:
    if isinstance(cell, (list, tuple)):
        return [_renamed(each, renames, None) for each in cell]
    if not isinstance(cell, str):
        return cell
    if separator is not None and renames:
        return separator.join(dict.fromkeys(renames.get(part.strip(), part.strip()) for part in cell.split(separator)))
    return renames.get(cell, cell)


def _changes(
    source: Source, copies: Mapping[str, _Copy], drops: Mapping[str, tuple[str, str]], renames: Mapping[str, str]
) -> Iterable[tuple[str, str, str, str]]:
    for split, copy in copies.items():
        kept = set(copy.keep)
        for at, row_id in enumerate(copy.table.ids):
            if at not in kept:
                check, why = drops[row_id]
                yield row_id, split, "dropped", f"{check}: {why}"
                continue
            for name in source.columns.labels:
                if name in copy.cells and copy.cells[name][at] != copy.table.columns[name][at]:
                    yield row_id, split, f"label is {copy.cells[name][at]!r}", f"was {copy.table.columns[name][at]!r}"


def _write(split: str, copy: _Copy, source: Source, spec: DataSpec, folder: Path, several: bool) -> None:
    origin = copy.table.origin
    if origin is not None and origin.is_dir():
        _copy_files(copy, source, folder / split if several else folder)
        return
    if origin is None:
        _write_rows(copy, source, folder / f"{split}.parquet")
        return
    suffix = origin.suffix.lower()
    target = folder / f"{split}{suffix}"
    if suffix == ".parquet":
        _write_parquet(copy, pq.read_table(origin), target)
        return
    text = origin.read_bytes().decode(spec.encoding).removeprefix("\ufeff")
    writers: dict[str, Callable[[_Copy, str], str]] = {".jsonl": _json_lines, ".json": _json}
    if source.kind == "tokens" and "tags" in copy.table.columns and suffix in (*CONLL, ".tsv"):
        made = _conll(copy)
    elif suffix in FASTA:
        made = _fasta(copy, text, source.columns.labels[0])
    elif suffix in writers:
        made = writers[suffix](copy, text)
    else:
        given = delimited.given_delimiter(spec.delimiter, suffix)
        _write_delimited(copy, given or delimited.find_delimiter(text), target, spec.encoding)
        return
    target.write_bytes(made.encode(spec.encoding))


def _copy_files(copy: _Copy, source: Source, folder: Path) -> None:
    """Class folders; files of merged classes that have one name get a number."""
    column = source.columns.labels[0]
    names = copy.cells.get(column, copy.table.columns[column])
    for at in copy.keep:
        path = Path(copy.table.columns[source.columns.input][at])
        target = folder / str(names[at]) / PurePosixPath(copy.table.ids[at]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, vacant(target))


def _write_parquet(copy: _Copy, table: pa.Table, target: Path) -> None:
    for name, cells in copy.cells.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(list(cells), table.schema.field(at).type))
    pq.write_table(table.take(list(copy.keep)), target)


def _write_rows(copy: _Copy, source: Source, target: Path) -> None:
    """Rows that came from no file, with what `datasets` says of their columns."""
    rows = copy.table.dataset
    if rows is None:
        rows = Dataset.from_dict({name: list(cells) for name, cells in copy.table.columns.items()})
    if isinstance(source.data.modality, FilesModality):
        rows = rows.cast_column(source.columns.input, source.data.modality.feature)
    for name, cells in copy.cells.items():
        rows = rows.remove_columns(name).add_column(name, list(cells))
    rows.select(copy.keep).to_parquet(target)


def _json_lines(copy: _Copy, text: str) -> str:
    lines = [line for line in text.split("\n") if line.strip()]
    return "".join(f"{_edited_line(copy, lines[at], at)}\n" for at in copy.keep)


def _edited_line(copy: _Copy, line: str, at: int) -> str:
    new = {name: cells[at] for name, cells in copy.cells.items() if cells[at] != copy.table.columns[name][at]}
    return json.dumps({**json.loads(line), **new}, ensure_ascii=False) if new else line.rstrip("\r")


def _json(copy: _Copy, text: str) -> str:
    """A list of objects; many .json files hold an object a line."""
    if not text.lstrip().startswith("["):
        return _json_lines(copy, text)
    rows = json.loads(text)
    kept = [{**rows[at], **{name: cells[at] for name, cells in copy.cells.items()}} for at in copy.keep]
    return json.dumps(kept, ensure_ascii=False, indent=1) + "\n"


def _write_delimited(copy: _Copy, delimiter: str, target: Path, encoding: str) -> None:
    columns = {**copy.table.columns, **copy.cells}
    with target.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cells[at] for cells in columns.values()] for at in copy.keep)


def _fasta(copy: _Copy, text: str, label: str) -> str:
    """Records as they are written, but for a label's other spelling in the header."""
    records: list[list[str]] = []
    for line in text.splitlines():
        if line.strip().startswith(">"):
            records.append([line])
        elif records:
            records[-1].append(line)
    for at in copy.keep if label in copy.cells else ():
        old, new = str(copy.table.columns[label][at]), str(copy.cells[label][at])
        head, found, tail = records[at][0].rpartition(old)
        records[at][0] = f"{head}{new}{tail}" if found else records[at][0]
    return "".join("\n".join(records[at]) + "\n" for at in copy.keep)


def _conll(copy: _Copy) -> str:
    tokens, given = copy.table.columns["tokens"], copy.table.columns["tags"]
    return "\n".join(
        "".join(f"{token}\t{tag}\n" for token, tag in zip(tokens[at], given[at], strict=True)) for at in copy.keep
    )
