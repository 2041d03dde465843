"""A Run: the folder that a training leaves. Written whole or not at all; everything later reads only this.

Top level: an ordinary transformers model (config, safetensors, tokenizer or image processor, README.md), and for
adapters an `adapter/` beside it. `smalldata/` holds what is ours: recipe.yaml, rows.json, metrics.json,
predictions.parquet, environment.json.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from safetensors import SafetensorError

from hf_smalldata.errors import UserError
from hf_smalldata.whole import check_makeable

OURS = "smalldata"


@dataclass(frozen=True)
class Run:
    """A finished Run on disk."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path, model: bool = True) -> Run:
        """The Run in a folder.

        Args:
            folder: what `train` wrote, or one of a study's.
            model: whether its model is wanted; the Runs of a study have none.

        Raises:
            UserError: no such folder, not a Run, or without the model that is wanted.
        """
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise UserError(f"{folder}: no such Run; expected a folder that `hf-smalldata train` wrote")
        if not (path / OURS / "metrics.json").is_file():
            raise UserError(f"{folder}: not a Run; expected {OURS}/metrics.json in it")
        if model and not (path / "config.json").is_file():
            raise UserError(f"{folder}: this Run has no model, as those of a study; train its {OURS}/recipe.yaml")
        return cls(path)

    def part(self, name: str) -> Path:
        """A file of ours, e.g. `rows.json`."""
        return self.folder / OURS / name

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: results with intervals, baselines, comparisons, one entry a seed."""
        return read_json(self.part("metrics.json"))

    @property
    def predictions(self) -> pd.DataFrame:
        """One line for each test row and seed: id, seed, label, prediction, and a score for each label."""
        return pd.read_parquet(self.part("predictions.parquet"))

    @property
    def rows(self) -> dict[str, Any]:
        """rows.json: the ids of every split and draw."""
        return read_json(self.part("rows.json"))


@dataclass(frozen=True)
class Folders:
    """Where a training writes: `run` becomes the Run, `work` is thrown away."""

    run: Path
    work: Path


def partial_folder(output: Path) -> Path:
    """Where an unfinished Run of this output lies, beside it."""
    return output.parent / f".{output.name}.partial"


@contextlib.contextmanager
def writing(output: Path, overwrite: bool, resume: bool, keep_partial: bool, main: bool) -> Iterator[Folders]:
    """Within: write into the yielded folders. At the end: `output` is the whole Run; after an error it is untouched.

    Args:
        output: the Run's folder; must be new or empty unless `overwrite`.
        overwrite: replace what is there, at the very end.
        resume: go on with the work of an interrupted training.
        keep_partial: leave the work of an interrupted training for `resume`.
        main: whether this is the process that makes and moves folders.

    Raises:
        UserError: the output is there already, or there is nothing to resume.
    """
    partial = partial_folder(output)
    check_output(output, overwrite)
    if resume and not partial.exists():
        raise UserError(f"--resume: nothing to resume for {output}; a training that saves (train.save_strategy=epoch) "
                        "and was interrupted leaves its work there")  # fmt: skip
    folders = Folders(run=partial / "run", work=partial / "work")
    above = [folder for folder in partial.parents if not folder.exists()]  # made below, gone again after an error
    if main:
        if partial.exists() and not resume:
            shutil.rmtree(partial)
        shutil.rmtree(folders.run, ignore_errors=True)
        (folders.run / OURS).mkdir(parents=True)
        folders.work.mkdir(exist_ok=True)
    try:
        with _disk_errors():
            yield folders
    except BaseException:
        if main and not (keep_partial and any(folders.work.rglob("checkpoint-*"))):
            shutil.rmtree(partial, ignore_errors=True)
            for folder in above:
                folder.rmdir()
        raise
    if main:
        _put(folders.run, output)
        shutil.rmtree(partial)


def check_output(output: Path, overwrite: bool) -> None:
    """The folder must be new, empty, or free to be overwritten; nothing but a Run is ever overwritten.

    Raises:
        UserError: it is not, or nothing can be written there.
    """
    check_place(output)
    if not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        raise UserError(f"--output: {output} exists; choose another folder or pass --overwrite")
    if not (output / OURS).is_dir():
        raise UserError(f"--overwrite: {output} is not a Run, so it is left alone; choose another folder")


def check_place(output: Path) -> None:
    """A folder can be made there.

    Raises:
        UserError: a file lies there, or nothing may be written.
    """
    if output.is_file():
        raise UserError(f"--output: {output} is a file; expected a folder")
    check_makeable(output)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a Run or a study.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON and of UTF-8
        raise UserError(f"{path}: expected JSON, found a damaged file ({error}); write the Run or study anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}; write the Run or study anew")
    return content


def environment() -> dict[str, Any]:
    """Machine, versions and command: what a reader needs to judge times and repeat results."""
    packages = ("hf_smalldata", "torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "numpy",
                "scikit-learn")  # fmt: skip
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": _command(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "processes": PartialState().num_processes,
        "versions": {name: version(name) for name in packages},
    }


def _command() -> str:
    """The command as it was typed; a program by its name, not by where it is installed."""
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return shlex.join([*name.split(), *sys.argv[1:]])


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """What a disk refuses, safetensors and torch tell in errors of their own: here they are OSErrors again."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        number = re.search(r"os error (\d+)", text)
        if number is None and "PytorchStreamWriter" not in text and "unexpected pos" not in text:
            raise
        code = int(number[1]) if number else errno.ENOSPC  # torch does not say which
        raise OSError(code, os.strerror(code)) from error


def _put(made: Path, output: Path) -> None:
    """Rename into place; what was there goes last."""
    old = output.parent / f".{output.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    made.rename(output)
    shutil.rmtree(old, ignore_errors=True)
