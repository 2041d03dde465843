"""Class folders, the form in which most small sets of images and sounds come: a folder for each class, a file a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_smalldata.data.table import Table, split_of
from hf_smalldata.errors import UserError, listed

Accepts = Callable[[Path], bool]  # whether a file is an input of this kind

_WORDS = {"image": ("images", "cat/1.jpg, dog/1.jpg"), "audio": ("audio files", "cat/1.wav, dog/1.wav")}


def read_folder(folder: Path, kind: str, accepts: Accepts) -> dict[str, Table]:
    """Class folders, with or without split folders (train, validation / valid / val / dev, test) above them.

    A folder of a split's name is a split only if it holds folders of files and no such files itself, so a class may be
    called `train`. Ids are paths below `folder`: `train/ants/x.jpg`.

    Args:
        folder: where to look.
        kind: image or audio; also the column that the files become.
        accepts: which files count; asked about files only.

    Raises:
        UserError: no class folders.
    """
    splits = {
        split: path for path in _folders(folder) if (split := split_of(path.name)) and _holds_classes(path, accepts)
    }
    if splits:
        return {split: read_classes(path, folder, kind, accepts) for split, path in splits.items()}
    return {"train": read_classes(folder, folder, kind, accepts)}


def read_classes(folder: Path, root: Path, kind: str, accepts: Accepts) -> Table:
    """One split: each direct subfolder that holds files of the kind is a class. Ids are paths below `root`.

    Raises:
        UserError: no class folders.
    """
    ids: list[str] = []
    columns: dict[str, list[Any]] = {kind: [], "label": []}
    empty: list[str] = []
    strange: list[Path] = []
    for class_folder in _folders(folder):
        accepted: list[Path] = []
        for path in _files(class_folder):
            (accepted if accepts(path) else strange).append(path)
        if not accepted:
            empty.append(class_folder.name)
        ids += [path.relative_to(root).as_posix() for path in accepted]
        columns[kind] += [str(path) for path in accepted]
        columns["label"] += [class_folder.name] * len(accepted)
    what, example = _WORDS[kind]
    if not ids:
        raise UserError(_no_classes(folder, what, example, accepts))
    warnings = []
    if empty:
        warnings.append(f"{folder}: folders without {what} are no classes here: {listed(empty)}")
    if strange:
        names = listed([path.relative_to(root).as_posix() for path in strange])
        warnings.append(f"{folder}: {len(strange)} files are no {what} and were left out: {names}")
    return Table(str(folder), ids, columns, origin=folder.resolve(), warnings=tuple(warnings))


def vacant(file: Path) -> Path:
    """The path itself, or with the first number behind its name that is free: rows of several folders meet in one."""
    found, number = file, 2
    while found.exists():
        found, number = file.with_name(f"{file.stem}-{number}{file.suffix}"), number + 1
    return found


def _no_classes(folder: Path, what: str, example: str, accepts: Accepts) -> str:
    found = listed(sorted(path.name for path in folder.iterdir())) or "nothing"
    inner = [path for path in _folders(folder) if _holds_classes(path, accepts)]
    advice = f"; did you mean one of its folders, such as {inner[0]}?" if inner else ""
    return f"{folder}: expected a folder of {what} for each class ({example}), found {found}{advice}"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _holds_classes(folder: Path, accepts: Accepts) -> bool:
    return not any(map(accepts, _files(folder))) and any(any(map(accepts, _files(inner))) for inner in _folders(folder))
