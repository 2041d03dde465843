"""Readers of files of many rows (.csv, .tsv, .json, .jsonl, .parquet, FASTA, CoNLL): a Table or one clear error."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from hf_smalldata.data import delimited
from hf_smalldata.data.conll import SUFFIXES as CONLL
from hf_smalldata.data.conll import read_conll
from hf_smalldata.data.modality import Kind
from hf_smalldata.data.sequences import SUFFIXES as FASTA
from hf_smalldata.data.sequences import read_fasta
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, first_of, table_of_dataset
from hf_smalldata.errors import Problems, UserError, listed

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_BYTE_ORDER_MARKS = (  # utf-32's mark begins with utf-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def suffixes(kind: Kind) -> tuple[str, ...]:
    """Endings of the files that hold many rows of a kind."""
    more: dict[Kind, tuple[str, ...]] = {"tokens": CONLL, "sequence": FASTA}
    return (*SUFFIXES, *more.get(kind, ()))


def read_table(path: Path, spec: DataSpec, kind: Kind) -> Table:
    """Read one file; a row's id is `<file name>:<0-based row index>`.

    Raises:
        UserError: an ending we don't read, an empty file, another encoding, a broken line, no rows.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes(kind):
        raise UserError(
            f"{path}: expected a file that ends in {listed(suffixes(kind))}, found {path.suffix or 'no ending'}; "
            "save the rows as a .csv with a header line such as text,label"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); expected rows with a text and a label")
    if suffix == ".parquet":
        table = _read_parquet(path)
    else:
        text = _decode(path, spec.encoding)
        if not text.strip():
            raise UserError(f"{path}: the file holds nothing but blank space; expected rows with a text and a label")
        if kind == "tokens" and (suffix in CONLL or (suffix == ".tsv" and "\n\n" in text.strip())):
            columns: dict[str, list[Any]] = dict(read_conll(text, path.name))
        elif kind == "sequence" and suffix in FASTA:
            columns = dict(read_fasta(text, path.name))
        elif suffix in (".csv", ".tsv"):
            columns = delimited.read(text, path.name, delimited.given_delimiter(spec.delimiter, suffix))
        else:
            columns = _read_json(text, path.name, lines=suffix == ".jsonl")
        count = len(next(iter(columns.values()), []))
        table = Table(path.name, [f"{path.name}:{row}" for row in range(count)], columns, folder=path.parent)
    if not table.ids:
        raise UserError(f"{path}: expected rows, found none (columns: {listed(list(table.columns)) or 'none'})")
    return table


def read_lines(path: Path, encoding: str) -> Table:
    """A text a line that is not blank, in the column `text`; ids are those of rows.

    Raises:
        UserError: another encoding, or no such line.
    """
    lines = [line.strip() for line in _decode(path, encoding).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: expected a text a line, found nothing but blank space")
    return Table(path.name, [f"{path.name}:{row}" for row in range(len(lines))], {"text": lines}, folder=path.parent)


def _decode(path: Path, encoding: str) -> str:
    """The file as text, without a byte order mark."""
    data = path.read_bytes()
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise UserError(f"data.encoding: '{encoding}' is no encoding; try utf-8, cp1252 or utf-16") from None
    if codec == "utf-8":
        mark = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
        if mark or b"\0" in data[:4096]:
            raise UserError(
                f"{path}: expected utf-8, found {mark or 'zero bytes, as in utf-16'} (offset 0, line 1); "
                f"set data.encoding={mark or 'utf-16-le'}"
            )
        codec = "utf-8-sig"  # spreadsheets begin utf-8 with a byte order mark
    try:
        return data.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: expected {encoding}, found byte 0x{data[error.start]:02x} at offset {error.start} (line {line}), "
            "which is none; set data.encoding to what the file was saved with, e.g. data.encoding=cp1252 (Windows)"
        ) from None
    except UnicodeError as error:  # utf-16 without its mark, for one
        raise UserError(f"{path}: not {encoding} ({error}); set data.encoding to what it was saved with") from None


def _read_json(text: str, where: str, lines: bool) -> dict[str, list[Any]]:
    """A list of objects, or an object a line, to columns; a key that a row lacks is a missing cell."""
    if lines:
        return _columns(_json_lines(text, where), where, "line")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # many .json files hold an object a line
            return _columns(_json_lines(text, where), where, "line")
        raise UserError(f"{where}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists without end
        raise UserError(f"{where}: broken JSON: {error}") from None
    if not isinstance(rows, list):
        keys = f" with the keys {listed(list(rows))}" if isinstance(rows, dict) else ""
        raise UserError(
            f'{where}: expected a list of objects, [{{"text": ..., "label": ...}}, ...], found {_kind(rows)}{keys}'
        )
    return _columns(list(enumerate(rows, start=1)), where, "item")


def _json_lines(text: str, where: str) -> list[tuple[int, Any]]:
    rows, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would cut at U+2028 inside a string
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                problems.append(f"line {number}: broken JSON at column {error.colno}: {error.msg}")
            except (ValueError, RecursionError) as error:
                problems.append(f"line {number}: broken JSON: {error}")
    if problems:
        raise Problems(where, first_of(problems))
    return rows


def _columns(rows: list[tuple[int, Any]], where: str, unit: str) -> dict[str, list[Any]]:
    problems = [
        f'{unit} {number}: expected an object {{"text": ..., "label": ...}}, found {_kind(row)}'
        for number, row in rows
        if not isinstance(row, dict)
    ]
    if problems:
        raise Problems(where, first_of(problems))
    names = dict.fromkeys(name for _, row in rows for name in row)
    return {name: [row.get(name) for _, row in rows] for name in names}


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _read_parquet(path: Path) -> Table:
    try:
        rows = Dataset(pq.read_table(path))  # keeps class names and image columns that datasets wrote in the schema
        table = table_of_dataset(rows, path.name, path.name)  # where texts are decoded
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: expected a parquet file, found something else or a damaged one: {reason}") from error
    return Table(path.name, table.ids, table.columns, table.label_names, path.parent, table.dataset)
