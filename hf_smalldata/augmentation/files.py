"""Training rows and their variants as a data set: tables, or class folders with a table beside them.

Each row says in `source` who made it (nobody: an original), in `parent` of which row, and in `group` of which original:
`data.group: group` keeps an original and its variants in one split.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from hf_smalldata.augmentation.family import Family, Tally
from hf_smalldata.augmentation.rows import FILES, Variants
from hf_smalldata.data import audio
from hf_smalldata.data.class_folders import vacant
from hf_smalldata.data.images import open_image
from hf_smalldata.data.modalities.files import read_bytes
from hf_smalldata.data.modality import Kind
from hf_smalldata.data.strata import named
from hf_smalldata.errors import UserError
from hf_smalldata.whole import check_makeable, whole

TABLE = "metadata"
_MARK = {"source", "parent", "group"}  # columns of what was written here, which alone may be overwritten
Line = dict[str, Any]


def check_target(place: Path, kind: Kind, overwrite: bool) -> None:
    """A set of a kind may be written there: a table's ending says how, a folder is new or was written here.

    Raises:
        UserError: it may not.
    """
    endings = [] if kind in FILES else [".jsonl"] if kind == "tokens" else [".csv", ".jsonl"]
    if endings and place.suffix not in endings:
        raise UserError(f"--out: expected a {' or '.join(endings)} file, got {place.name}")
    check_makeable(place, "--out")
    if not place.exists():
        return
    if not overwrite:
        raise UserError(f"--out: {place} exists; choose another name or pass --overwrite")
    if not _written_here(place):
        raise UserError(f"--overwrite: {place} is no set that augment wrote, so it is left alone; choose another name")


def write(found: Variants, place: Path) -> Tally:
    """All rows and variants, whole or not at all; variants that are left out (see `Variant`) are not written.

    Texts and sequences: .csv or .jsonl, rows of tokens .jsonl. Images and sounds: a folder of class folders (of
    `files` where rows have no one class, or its name is no folder's) and metadata.csv. Originals are the source's own
    files, variants png and wav. Several labels a row need .jsonl, metadata.jsonl for files. Cells are to be read again,
    so they are as they are: a text that begins with = is a formula to a spreadsheet.

    Raises:
        UserError: several labels a row, and a .csv.
    """
    several = found.problem_type == "multi_label_classification"
    tally = Tally()
    with whole(place) as partial:
        if found.task.kind in FILES:
            partial.mkdir()
            table = list(_files(_counted(found, tally), found, partial))
            _write_table(table, partial / f"{TABLE}{'.jsonl' if several else '.csv'}")
        elif several and place.suffix == ".csv":
            raise UserError(f"--out: rows have several labels each; write {place.with_suffix('.jsonl').name}")
        else:
            table = [line for family in _counted(found, tally) for line in lines(family, found)]
            _write_table(table, partial, place.suffix)
    return tally


def _written_here(place: Path) -> bool:
    tables = [place] if place.is_file() else [file for file in place.glob(f"{TABLE}.*") if file.is_file()]
    for table in tables:
        with table.open(encoding="utf-8", errors="replace", newline="") as file:
            first = file.readline()
        try:
            columns = json.loads(first) if table.suffix == ".jsonl" else next(csv.reader([first]))
        except (json.JSONDecodeError, StopIteration):
            return False
        if set(columns) >= _MARK:
            return True
    return False


def _counted(found: Iterable[Family], tally: Tally) -> Iterator[Family]:
    for family in found:
        tally.add(family)
        yield family._replace(variants=[each for each in family.variants if not each.left_out])


def lines(family: Family, found: Variants) -> Iterator[Line]:
    """The cells of an original and of its variants, without those of files."""
    inputs: Mapping[Kind, Sequence[str]] = {"text": ("text", "text_pair"), "tokens": ("tokens",),
                                            "sequence": ("sequence",)}  # fmt: skip
    for row in family.rows:
        label = named(row["label"], found.labels, found.problem_type)
        cells = {name: row[name] for name in inputs.get(found.task.kind, ()) if name in row}
        group = (family.original or row).get("group") or (family.original or row)["id"]
        yield {**cells, "tags" if found.task.kind == "tokens" else "label": label, "id": row["id"],
               "source": row["source"], "parent": row["parent"], "group": group}  # fmt: skip


def _write_table(lines: Sequence[Line], file: Path, suffix: str | None = None) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        if (suffix or file.suffix) == ".csv":
            writer = csv.DictWriter(out, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        else:
            out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _files(families: Iterable[Family], found: Variants, folder: Path) -> Iterator[Line]:
    """Files put into the folder, and the cells of each."""
    by_class = found.problem_type == "single_label_classification" and all(map(_is_folder, found.labels))
    for family in families:
        for row, line in zip(family.rows, lines(family, found), strict=True):
            home = folder / (line["label"] if by_class else "files")
            home.mkdir(exist_ok=True)
            made = line["source"] is not None
            name = f"{_stem(family)}-{line['source'].replace('+', '-')}" if made else _stem(family)
            data, suffix = _encoded(row, found.task.kind) if made else _original(family, found.task.kind)
            file = vacant(home / f"{name}{suffix}")
            file.write_bytes(data)
            yield {"file_name": file.relative_to(folder).as_posix(), **line}


def _original(family: Family, kind: Kind) -> tuple[bytes, str]:
    """The source's own file and its ending, where it has a name; else what was decoded of it."""
    path = family.undecoded["path"]
    return _encoded(family.original, kind) if path is None else (read_bytes(family.undecoded), Path(path).suffix)


def _encoded(row: Any, kind: Kind) -> tuple[bytes, str]:
    if kind == "audio":
        return audio.as_file(row["audio"])["bytes"], ".wav"
    stream = BytesIO()
    open_image(row["image"]).save(stream, format="PNG")
    return stream.getvalue(), ".png"


def _stem(family: Family) -> str:
    """The name of the original's file, else its id."""
    if family.original is None:
        return "new"
    path = family.undecoded["path"]
    return Path(path).stem if path is not None else re.sub(r"[^\w.-]+", "-", family.original["id"])


def _is_folder(label: str) -> bool:
    return not label.startswith(".") and not set(label) & set('/\\:*?"<>|')
