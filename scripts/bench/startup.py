"""Start-up: `--help` in seconds, and what `train` adds beyond loading the libraries and the model.

    python scripts/bench/startup.py [--repeats 5]

`train` here is zero epochs on a tiny model and 60 rows, without the reload proof; from it is taken the time that a bare
process needs to import the same libraries and load the same model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import sys
import torch, transformers, datasets, peft, accelerate, evaluate, sklearn.linear_model, sklearn.feature_extraction.text
import pandas, scipy.special
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer
AutoTokenizer.from_pretrained(sys.argv[1])
AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=3, ignore_mismatched_sizes=True)
"""

TRAIN = """
import sys
from hf_smalldata import bundle, cli
bundle.prove = lambda *_: 0.0
sys.argv = ["hf-smalldata", *sys.argv[1:]]
cli.main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = (
            "import sys, pathlib; from hf_smalldata.testing import *; f = pathlib.Path(sys.argv[1]);"
            "tiny_text_model(f / 'model');"
            "text_rows(20).to_json(f / 'train.jsonl'); text_rows(20, 1).to_json(f / 'test.jsonl')"
        )
        subprocess.run([sys.executable, "-c", make, name], check=True, capture_output=True)
        arguments = ["train", "--task", "text-classification", "--model", str(folder / "model"),
                     f"data.train={folder / 'train.jsonl'}", f"data.test={folder / 'test.jsonl'}",
                     "train.num_train_epochs=0", "--output", str(folder / "run"), "--overwrite"]  # fmt: skip
        print(f"--help: {seconds([sys.executable, '-m', 'hf_smalldata', '--help'], repeats):.2f} s")
        bare = seconds([sys.executable, "-c", BARE, str(folder / "model")], repeats)
        whole = seconds([sys.executable, "-c", TRAIN, *arguments], repeats)
        print(f"train: {whole:.2f} s, libraries and model alone: {bare:.2f} s, overhead: {whole - bare:.2f} s")


def seconds(command: list[str], repeats: int) -> float:
    """Median wall-clock; the first run only warms the disk's cache."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
