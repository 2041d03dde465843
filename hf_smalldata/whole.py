"""Outputs that are written whole or not at all: nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Within: make a file or a folder at the yielded path. At the end it is `target`; after an error all is as before.

    What was at `target` is replaced at the very end: whether it may be is for the caller to check first.
    """
    partial, old = (target.with_name(f".{target.name}.{what}") for what in ("partial", "old"))
    above = [folder for folder in target.absolute().parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(partial)
    try:
        yield partial
        if target.exists():
            _remove(old)
            target.rename(old)
        partial.rename(target)
        _remove(old)
    except BaseException:
        _remove(partial)
        if old.exists() and not target.exists():
            old.rename(target)
        for folder in above:
            folder.rmdir()
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
