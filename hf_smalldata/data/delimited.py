"""Delimited text (.csv, .tsv) to columns, strictly: a line that does not fit is named, never guessed at.

The csv module and not pandas: pandas pads short lines in silence and counts long ones from the wrong end when a quoted
field holds line breaks.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import Any, Literal

from hf_smalldata.data.table import first_of
from hf_smalldata.errors import Problems, UserError, listed

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_LOOK_AT_RECORDS = 50
_KNOWN_HEADERS = frozenset({"text", "label", "labels", "class", "sentence", "category", "target", "y", "id", "image"})

Record = tuple[int, list[str]]  # the 1-based line on which it begins, its fields


def inert(cell: Any) -> Any:
    """What a spreadsheet shows and does not run: an id or a word of the text may be anyone's."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if re.fullmatch(r"[+-][\d.]+", cell) else f"'{cell}"


def given_delimiter(given: str | None, suffix: str) -> str | None:
    r"""The delimiter to read with, or None to find it. A command line passes a tab as the two characters `\t`."""
    if given is None:
        return "\t" if suffix == ".tsv" else None
    delimiter = "\t" if given in ("\\t", "tab") else given
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UserError(f"data.delimiter: expected one character such as , ; | or \\t, found {given!r}")
    return delimiter


def read(text: str, where: str, delimiter: str | None = None) -> dict[str, list[str]]:
    """Columns by header name. Quoted fields may hold line breaks; blank lines are skipped.

    Args:
        text: the whole file; its first record is the header.
        where: the file's name for messages.
        delimiter: found among comma, semicolon, tab and bar when None.

    Raises:
        UserError: lines whose number of fields is not the header's, an open quote, a repeated or missing header, a
            delimiter that does not fit.
    """
    used = delimiter or find_delimiter(text)
    records, broken = _parse(text, used)
    problems = _problems(records, broken, used)
    if problems and used == "\t":  # tab-separated files often carry bare quotes: "Great" film<TAB>pos
        bare, _ = _parse(text, used, quoting=csv.QUOTE_NONE)
        if not _problems(bare, None, used):
            records, problems = bare, []
    if not records:
        raise Problems(where, problems or ["expected a header line and rows, found none"])
    header = [name.strip() for name in records[0][1]]
    if len(header) == 1 and delimiter is not None:
        _check_delimiter(text, where, delimiter)
    if problems:
        raise Problems(where, problems)
    rows = [fields for _, fields in records[1:]]
    _check_header(header, rows, where)
    return {name: [row[at] for row in rows] for at, name in enumerate(header) if name}


def find_delimiter(text: str) -> str:
    """The delimiter that cuts the most of the first records as it cuts the header; a comma when none cuts at all."""

    def fit(delimiter: str) -> tuple[float, int]:
        lengths = [len(fields) for _, fields in _parse(text, delimiter, most=_LOOK_AT_RECORDS)[0]]
        if not lengths or lengths[0] < 2:
            return 0.0, 0
        return Counter(lengths)[lengths[0]] / len(lengths), lengths[0]

    return max(DELIMITERS, key=fit)  # the first of equals: the comma


def _parse(
    text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL, most: int | None = None
) -> tuple[list[Record], str | None]:
    """Records up to the end, to `most` of them or to the first broken quote, and a sentence on that."""
    records: list[Record] = []
    limit = csv.field_size_limit(max(len(text), 1))  # its default refuses a text of 128 kB
    line = 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
        for fields in reader:
            if fields:
                records.append((line, fields))
            if len(records) == most:
                break
            line = reader.line_num + 1
    except csv.Error as error:
        what = "the quoted field never ends" if "end of data" in str(error) else str(error)
        return records, f'line {line}: {what}; a quote inside a quoted field is written twice, ""'
    finally:
        csv.field_size_limit(limit)
    return records, None


def _problems(records: list[Record], broken: str | None, delimiter: str) -> list[str]:
    """A sentence for each record that does not fit the header (the first 20), then the broken quote."""
    width = len(records[0][1]) if records else 0
    unfit = [
        f"line {line}: expected {width} fields cut by {_named(delimiter)}, found {len(fields)}"
        for line, fields in records
        if len(fields) != width
    ]
    return [*first_of(unfit), *([broken] if broken else [])]


def _named(delimiter: str) -> str:
    return _NAMES.get(delimiter, repr(delimiter))


def _check_delimiter(text: str, where: str, delimiter: str) -> None:
    better = find_delimiter(text)
    records, _ = _parse(text, better, most=1)
    if better != delimiter and records and len(records[0][1]) > 1:
        raise UserError(
            f"{where}: data.delimiter is {_named(delimiter)}, which leaves the header in one piece, "
            f"{text.splitlines()[0][:80]!r}; {_named(better)} cuts it: leave data.delimiter out or set it to {better!r}"
        )


def _check_header(header: list[str], rows: list[list[str]], where: str) -> None:
    named = [name for name in header if name]
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise UserError(f"{where}: expected each column name once, found {listed(twice)} more than once; rename them")
    numbered = named == [str(at) for at in range(len(named))]  # as pandas writes columns without names
    if numbered or {name.lower() for name in named} & _KNOWN_HEADERS:
        return
    for at, name in enumerate(header):
        values = {row[at].strip() for row in rows}
        if name in values and len(values) <= max(2, len(rows) // 2):
            raise UserError(
                f"{where}: expected a header line, found what looks like a row: {name!r} is also a value of its "
                "column; add a first line such as text,label"
            )
