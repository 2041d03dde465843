"""What a source holds, told by its content, so that `check` needs no task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hf_smalldata.data import audio, bundled, images
from hf_smalldata.data.conll import SUFFIXES as CONLL
from hf_smalldata.data.files import SUFFIXES as TABLES
from hf_smalldata.data.modality import Kind
from hf_smalldata.data.sequences import SUFFIXES as FASTA
from hf_smalldata.data.source import Tables, read_sources
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, is_missing, split_of

FEWEST_LETTERS = 20  # of a cell without blanks from which it may be a sequence
_CELLS_ASKED = 50
_SHARE = 0.8  # of them: a few damaged cells are what the doctor is for
_FILES_ASKED = 5000
_SPANS = ("spans", "entities", "ents")


def read_and_guess(spec: DataSpec) -> tuple[Kind, Tables]:
    """The kind of a source and its tables, read once where the kind makes no difference to reading.

    Raises:
        UserError: the source cannot be read.
    """
    source = spec.name or spec.train or ""
    entry = bundled.BUNDLED_DATA.get(source)
    kind = entry.kind if entry is not None else kind_of_place(Path(source).expanduser())
    if kind not in (None, "text"):
        return cast(Kind, kind), read_sources(spec, cast(Kind, kind))
    tables = read_sources(spec, "text")
    return kind_of_table(tables["train"]), tables


def kind_of_place(path: Path) -> Kind | None:
    """The kind that a file's ending, or the files of a folder, tell by themselves; None for tables and the rest."""
    if path.is_file():
        return _by_ending(path)
    if not path.is_dir():
        return None
    named = [file for file in sorted(path.iterdir()) if file.is_file() and split_of(file.stem) is not None]
    told = [kind for file in named if (kind := _by_ending(file)) is not None]
    if told or any(file.suffix.lower() in TABLES for file in named):
        return told[0] if told else None
    for file in sorted(path.glob("*/**/*"))[:_FILES_ASKED]:
        if file.is_file() and not file.name.startswith("."):
            if file.suffix.lower() in audio.SUFFIXES:
                return "audio"
            if images.accepts(file):
                return "image"
    return None


def kind_of_table(table: Table) -> Kind:
    """What the rows of a table are: by their columns' names and contents, text if nothing says otherwise."""
    lower = {name.lower(): cells for name, cells in table.columns.items()}
    if {"tokens", "words"} & set(lower) or any(_most(lower.get(name, ()), _is_list) for name in _SPANS):
        return "tokens"
    features = table.dataset.features if table.dataset is not None else {}
    for name, cells in table.columns.items():
        feature = type(features[name]).__name__ if name in features else ""
        if feature == "Image" or _most(cells, lambda cell: _suffix(cell) in images.SUFFIXES):
            return "image"
        if feature == "Audio" or _most(cells, lambda cell: _suffix(cell) in audio.SUFFIXES):
            return "audio"
        if _most(cells, _is_sequence):
            return "sequence"
    return "text"


def _by_ending(file: Path) -> Kind | None:
    ending = file.suffix.lower()
    if ending in FASTA:
        return "sequence"
    blank_lines = ending == ".tsv" and b"\n\n" in file.read_bytes().replace(b"\r", b"").strip()
    return "tokens" if ending in CONLL or blank_lines else None


def _most(cells: Sequence[Any], holds: Callable[[Any], bool]) -> bool:
    some = [cell for cell in list(cells[: 4 * _CELLS_ASKED]) if not is_missing(cell)][:_CELLS_ASKED]
    return bool(some) and sum(map(holds, some)) >= _SHARE * len(some)


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple))


def _suffix(cell: Any) -> str:
    if isinstance(cell, Mapping):
        cell = cell.get("path")
    return Path(cell).suffix.lower() if isinstance(cell, str) and len(cell) < 1000 and "\n" not in cell else ""


def _is_sequence(cell: Any) -> bool:
    bare = cell.strip().upper() if isinstance(cell, str) else ""
    return len(bare) >= FEWEST_LETTERS and not set(bare) - set("ACGTUN")
