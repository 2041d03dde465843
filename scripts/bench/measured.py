"""What benches share: each measurement in a process of its own, its result kept as a line, so that a run can go on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def measure_all(keys: Iterable[Mapping[str, Any]], setting: Mapping[str, Any], results: Path) -> list[Line]:
    """Run the calling script again with `--one KEY` for each key that `results` has no line of; all lines of a setting.

    Args:
        keys: what is measured, in order.
        setting: what else the results depend on.
        results: a jsonl file, to which each result is appended at once.
    """
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for key in keys:
        if any({**setting, **key}.items() <= line.items() for line in done):
            continue
        command = [sys.executable, sys.argv[0], *sys.argv[1:], "--one", json.dumps(key)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line = {**setting, **key, **json.loads(out.splitlines()[-1]), "date": date.today().isoformat(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores"}  # fmt: skip
        done.append(line)
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    return [line for line in done if setting.items() <= line.items()]
