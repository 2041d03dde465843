"""Outputs that are written whole or not at all: nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from hf_smalldata.errors import UserError


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


def check_makeable(target: Path, option: str = "--output") -> None:
    """A file or folder can be made there: a folder beside it, or beside the first that is missing above, is tried.

    What a system says may be written is not asked: it says so of all folders to root, of /proc and /sys too.

    Args:
        target: need not be there, nor the folders above it.
        option: by which the user named it.

    Raises:
        UserError: nothing can be made there.
    """
    above = next(folder for folder in target.absolute().parents if folder.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".hf_smalldata-", dir=above))
    except OSError as error:
        raise UserError(f"{option}: {target} cannot be made; {above} is no folder that may be written to "
                        f"({error.strerror}); choose another place") from None  # fmt: skip


@contextlib.contextmanager
def alone(target: Path | None, main: bool = True) -> Iterator[None]:
    """Within: no other command of this user on this machine makes the same target. A killed one is no obstacle.

    Args:
        target: a file or a folder; None where nothing is written.
        main: whether this is the one process of a command that writes; others just go on.

    Raises:
        UserError: one is at it.
    """
    if target is None or not main:
        yield
        return
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # in a container ids may have no names
    key = hashlib.sha256(str(target.resolve()).encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"hf_smalldata-{user}-{key}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{target}: another process is writing it; wait until that is done, or choose another place"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
