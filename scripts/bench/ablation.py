"""An ablation as one `study` against the same Runs as `train` commands, one after the other: time, and equal bits.

    python scripts/bench/ablation.py RECIPE [KEY=VALUE]... [--seeds 5] [--work FOLDER] [--results ablation.jsonl]

The study comes first, in a process of its own. Then every one of its Runs is made again by `hf-smalldata train` with
the very recipe that the study recorded for it; its time is a line in --results, so that a run that was cut off goes on
where it stopped. Compared are the predictions for every test row, bit for bit. Both sides load libraries, rows and
model from the same disk cache (one training beforehand warms it), with the machine otherwise idle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", default="5")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-ablation"))
    parser.add_argument("--results", type=Path, default=Path("ablation.jsonl"))
    given = parser.parse_args()
    study = given.work / "study"
    done = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    if not any(line["what"] == "study" for line in done):
        shutil.rmtree(given.work, ignore_errors=True)
        run("train", given.recipe, *given.settings, "train.num_train_epochs=1", "seeds=[0]", "--output",
            given.work / "warm")  # fmt: skip
        seconds = run("study", given.recipe, *given.settings, "--ablate", "--seeds", given.seeds, "--quiet", "--output",
                      study)  # fmt: skip
        done.append(note(given.results, {"what": "study", "seconds": seconds}))
    places = sorted(file.parents[1] for file in study.glob("runs/*/*/smalldata/metrics.json"))
    for place in tqdm(places, desc="train", unit="run"):
        name = str(place.relative_to(study))
        if any(line["what"] == name for line in done):
            continue
        output = given.work / "train" / place.parent.name / place.name
        seconds = run("train", place / "smalldata" / "recipe.yaml", "--output", output, "--overwrite")
        pairs = [pd.read_parquet(folder / "smalldata" / "predictions.parquet") for folder in (place, output)]
        done.append(note(given.results, {"what": name, "seconds": seconds, "equal": pairs[0].equals(pairs[1])}))
    report(done)


def run(*words: Any) -> float:
    """Seconds of one command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "hf_smalldata", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def note(file: Path, line: dict[str, Any]) -> dict[str, Any]:
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    full = {**line, "date": date.today().isoformat(), "machine": machine}
    with file.open("a") as out:
        out.write(json.dumps(full) + "\n")
    return full


def report(lines: list[dict[str, Any]]) -> None:
    study = next(line["seconds"] for line in lines if line["what"] == "study")
    trains = [line for line in lines if line["what"] != "study"]
    total, equal = sum(line["seconds"] for line in trains), sum(line["equal"] for line in trains)
    print("| Runs | train commands, s | study, s | share | equal bit for bit |\n|---|---|---|---|---|")
    print(f"| {len(trains)} | {total:.0f} | {study:.0f} | {study / total:.0%} | {equal} of {len(trains)} |")


if __name__ == "__main__":
    main()
