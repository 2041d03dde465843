"""Wall time of `hf-smalldata check` on rows made here: texts, and JPEG photographs of 500 x 400 pixels.

    python scripts/bench/doctor.py [--texts 10000] [--images 2000] [--work FOLDER] [--repeats 3]

Times are those of the whole command, Python's start among them; the fastest of the repeats counts, since anything else
on the machine only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = 4
TEST_SHARE = 0.2
WORDS = 3000  # of the made language
WORDS_A_TEXT = (5, 60)
SIZE = (500, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-doctor"))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores\n| rows | seconds, fastest of {given.repeats} |\n|---|---|")
    for kind, count, make in (("texts", given.texts, make_texts), ("images", given.images, make_images)):
        folder = given.work / f"{kind}-{count}"
        if not folder.exists():
            make(folder, count)
        print(f"| {count:,} {kind} | {min(seconds(folder) for _ in range(given.repeats)):.1f} |", flush=True)


def seconds(folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "hf_smalldata", "check", str(folder), "--json"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    taken = time.perf_counter() - started
    found = json.loads(done.stdout)
    failed = [finding["sentence"] for finding in found["findings"] if finding["level"] == "fail"]
    assert done.returncode == 0, failed
    return taken


def make_texts(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    words = ["".join(generator.choice(letters, generator.integers(2, 10))) for _ in range(WORDS)]
    weights = 1 / np.arange(1, WORDS + 1)  # Zipf
    folder.mkdir(parents=True)
    for split, rows in (("train", round(count * (1 - TEST_SHARE))), ("test", round(count * TEST_SHARE))):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(rows):
                text = " ".join(generator.choice(words, generator.integers(*WORDS_A_TEXT), p=weights / weights.sum()))
                file.write(json.dumps({"text": text, "label": f"class {row % CLASSES}"}) + "\n")


def make_images(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for row in range(count):
        split = "train" if row < count * (1 - TEST_SHARE) else "test"
        place = folder / split / f"class {row % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (20, 25, 3), dtype=np.uint8))
        photo = coarse.resize(SIZE, Image.Resampling.BICUBIC)
        grain = Image.effect_noise(SIZE, 20).convert("RGB").filter(ImageFilter.BLUR)
        Image.blend(photo, grain, 0.2).save(place / f"{row}.jpg", quality=90)


if __name__ == "__main__":
    main()
