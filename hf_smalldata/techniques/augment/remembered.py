"""Texts that a model made, remembered on disk by what they were made of: a study asks for the same ones many times."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from hf_smalldata.tasks.pretrained import locate
from hf_smalldata.tasks.task import ModelSpec


def remembered(
    file: Path, key: str, texts: Sequence[str], make: Callable[[Sequence[str]], Iterator[list[list[str]]]]
) -> dict[str, list[str]]:
    """What was made of each text: read where it is kept, made where it is not, and kept from then on.

    Args:
        file: a database, made if it is not there; processes may share it.
        key: all that the result depends on besides the text.
        texts: of which some may be alike.
        make: takes texts, and gives lists of strings for one part of them after the other, in their order.
    """
    names = {text: hashlib.sha256(f"{key}\n{text}".encode()).hexdigest() for text in texts}
    with closing(sqlite3.connect(file, timeout=60)) as database:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS made (name TEXT PRIMARY KEY, texts TEXT NOT NULL)")
        ask = "SELECT texts FROM made WHERE name = ?"
        there = {text: database.execute(ask, (name,)).fetchone() for text, name in names.items()}
        found = {text: json.loads(row[0]) for text, row in there.items() if row}
        missing = [text for text in names if text not in found]
        if missing:
            left = iter(missing)
            for part in make(missing):
                fresh = dict(zip((next(left) for _ in part), part, strict=True))
                with database:
                    rows = [(names[text], json.dumps(each)) for text, each in fresh.items()]
                    database.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", rows)
                found |= fresh
    return found


def state_of(spec: ModelSpec) -> list[tuple[str, int, int]]:
    """Of a folder, which may be another model tomorrow: names, sizes and times of its weights; nothing of a Hub id."""
    files = Path(locate(spec.name)).glob("*.safetensors")
    return sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
