"""The README's table of backbones: what each does under full, LoRA and frozen training, and after a stock reload.

    python scripts/bench/backbones.py [--only NAME ...] > table.md

Random weights, a few layers, two steps, two to four minutes on one core: what is tested is that an architecture goes
through the project's own path, not how well it learns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from backbones import BACKBONES, LABELS, SETTINGS, Backbone, attempt, rows_for

MEANING = {"full": "full", "lora": "LoRA", "frozen": "frozen", "bottom": "bottom block frozen"}
HEADER = ["backbone", "class", "blocks", *(MEANING[setting] for setting in SETTINGS), "prefix cache",
          "largest difference after reloading"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BACKBONES, default=list(BACKBONES), metavar="NAME")
    chosen = parser.parse_args().only
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rows = {task: rows_for(task, root / task) for task in LABELS}
        print("| " + " | ".join(HEADER) + " |")
        print("|" + "---|" * len(HEADER))
        for backbone in chosen:
            cells = row(BACKBONES[backbone], root / backbone, rows)
            print("| " + " | ".join([backbone, *cells]) + " |", flush=True)


def row(backbone: Backbone, folder: Path, rows: dict[str, Any]) -> list[str]:
    """The cells of one backbone behind its name."""
    torch.manual_seed(0)
    backbone.save(folder / "model")
    cells, cached, largest = [], False, 0.0
    for setting in SETTINGS:
        with tempfile.TemporaryDirectory() as work:
            try:
                trial = attempt(backbone, setting, folder / "model", rows[backbone.task], Path(work))
            except UserError as error:
                cells.append(str(error))
                continue
            difference = trial.difference()
        cells.append("ok" if difference <= trial.tolerance else "reloads to other answers")
        largest = max(largest, difference)
        cached = cached or trial.facts["prefix_cache"].startswith("on")
    found = blocks(trial.before)
    place = next(name for name, module in trial.before.named_modules() if module is found[0].module)
    described = f"{len(found)}, from `{place}`"
    return [f"`{type(trial.before).__name__}`", described, *cells, "yes" if cached else "no", f"{largest:.0e}"]


if __name__ == "__main__":
    main()
