"""Where rows come from: a source as the user writes it to a table for each split."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hf_smalldata.data import bundled, class_folders, files, hub
from hf_smalldata.data.modality import Kind, get_modality
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import SPLIT_NAMES, Table, split_of
from hf_smalldata.errors import Problems, UserError, did_you_mean, listed

Tables = dict[str, Table]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_NO_DATA_ENDINGS = (".txt", ".xlsx", ".xls", ".zip", ".gz", ".tar", ".arrow", ".yaml", ".yml", ".xml")


def read_sources(spec: DataSpec, kind: Kind) -> Tables:
    """Tables by split name: all of `name`, then the splits that name a source of their own.

    `validation: dev` beside `name` takes that split of `name`; a split so taken serves no second purpose.

    Raises:
        UserError: a source that cannot be read, no training rows, or one source for two splits.
    """
    whole = read(spec.name, spec, kind) if spec.name is not None else {}
    tables = dict(whole)
    own = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    taken = {split_of(value) for value in own.values() if value is not None and whole}
    for split in taken - {None}:
        tables.pop(str(split), None)
    for split, value in own.items():
        if value is not None:
            tables[split] = _of_split(value, whole, spec, kind) or _one(
                read(value, spec, kind, alone=True), split, value
            )
    if "train" not in tables:
        raise UserError(
            f"{spec.name}: expected training rows, found only {listed(sorted(tables))}; "
            "set data.train to the source to learn from"
        )
    _check_origins(tables)
    return _with_unique_ids({split: tables[split] for split in SPLIT_NAMES if split in tables})


def read(source: str, spec: DataSpec, kind: Kind, alone: bool = False) -> Tables:
    """Everything one source holds, by split.

    Args:
        source: a bundled name, a file, a folder or a Hub id, tried in this order.
        spec: how to read it.
        kind: what the task reads.
        alone: True when it stands for one split: ids of images then begin with the folder's own name, so that
            `train: ants/train` gives the ids that `name: ants` gives.
    """
    if bundled.is_bundled(source):
        return bundled.bundled_tables(source, kind)
    path = Path(source).expanduser()
    if path.exists() and not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read by this user; change its permissions")
    if path.is_file():
        return {"train": replace(files.read_table(path, spec, kind), origin=path.resolve())}
    if path.is_dir():
        return _read_folder(path, spec, kind, alone)
    check_not_a_path(source)
    return hub.read_hub(source, spec.config, spec.revision)


def check_not_a_path(source: str) -> None:
    """Of what is no file or folder here: it may be a Hub id.

    Raises:
        UserError: it is a path, and nothing is there.
    """
    if _looks_like_path(source):
        raise UserError(_no_such_file(Path(source).expanduser()))


def _of_split(value: str, whole: Mapping[str, Table], spec: DataSpec, kind: Kind) -> Table | None:
    """The split of `name` that `value` names, or None when it names a source."""
    split = split_of(value) if whole else None
    if split is None or Path(value).exists():
        return None
    if split not in whole:
        raise UserError(f"{spec.name} has no split '{value}'; found {listed(sorted(whole))}")
    return whole[split]


def _one(tables: Tables, split: str, source: str) -> Table:
    """The table that a source of one split means: its split of that name, or its only one."""
    if split in tables:
        return tables[split]
    if len(tables) == 1:
        return next(iter(tables.values()))
    raise UserError(
        f"data.{split}: {source} holds {listed(sorted(tables))} and no {split} split; name one file or folder"
    )


def _read_folder(folder: Path, spec: DataSpec, kind: Kind, alone: bool) -> Tables:
    """Files such as train.csv and test.csv, else (for images and sounds) class folders."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        split = split_of(path.stem)
        if path.is_file() and path.suffix.lower() in files.suffixes(kind) and split is not None:
            found.setdefault(split, []).append(path)
    double = [f"{split}: {listed([path.name for path in paths])}" for split, paths in found.items() if len(paths) > 1]
    if double:
        raise Problems(f"{folder} (expected one file a split; name it as data.train, data.test, ...)", double)
    if found:
        return {
            split: replace(files.read_table(paths[0], spec, kind), origin=paths[0].resolve())
            for split, paths in found.items()
        }
    modality = get_modality(kind)
    if modality.a_file_each:
        if alone and not any(split_of(path.name) for path in folder.iterdir() if path.is_dir()):
            return {"train": class_folders.read_classes(folder, folder.parent, kind, modality.accepts)}
        return class_folders.read_folder(folder, kind, modality.accepts)
    names = sorted(path.name for path in folder.iterdir())
    raise UserError(
        f"{folder}: expected files such as train.csv and test.csv ({listed(files.suffixes(kind))}), "
        f"found {listed(names) or 'nothing'}; to read one file, name it"
    )


def _looks_like_path(source: str) -> bool:
    """True of what cannot be a Hub id, or would hardly be one."""
    ending = Path(source).suffix.lower()
    first = Path(source).parts[0] if Path(source).parts else ""
    return (
        ending in (*files.SUFFIXES, *_NO_DATA_ENDINGS)
        or source.startswith((".", "~", os.sep))
        or not _HUB_ID.fullmatch(source)
        or ("/" in source and Path(first).is_dir())
    )


def _no_such_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return (
            f"no such file or folder: {path} (there is no folder {folder} either); paths are relative to {Path.cwd()}"
        )
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    hint = did_you_mean(path.name, names) if near else f"; {folder} holds {listed(sorted(names)) or 'nothing'}"
    return f"no such file or folder: {path}{hint}"


def _check_origins(tables: Mapping[str, Table]) -> None:
    seen: dict[Path, str] = {}
    for split, table in tables.items():
        if table.origin is not None and table.origin in seen:
            raise UserError(
                f"data.{seen[table.origin]} and data.{split} are the same source, {table.origin}: a model must not be "
                f"judged on rows it learnt from; leave data.{split} out to have rows held out"
            )
        if table.origin is not None:
            seen[table.origin] = split


def _with_unique_ids(tables: Tables) -> Tables:
    """Two splits of one file name in two folders get their split's name before each id."""
    ids = [row_id for table in tables.values() for row_id in table.ids]
    if len(set(ids)) == len(ids):
        return tables
    return {split: replace(table, ids=[f"{split}/{row_id}" for row_id in table.ids]) for split, table in tables.items()}
