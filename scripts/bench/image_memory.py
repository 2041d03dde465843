"""Peak memory of training on images, by the size of the files: it should follow the model's input size alone.

    python scripts/bench/image_memory.py [--rows 300] [--sizes 400x300 1600x1200 4000x3000]

Files are JPEGs of noise in two colours, made in a temporary folder; the model is a tiny vision transformer for 32 x 32
pixels. Each size is read, examined, split and trained on in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--sizes", nargs="+", default=["400x300", "1600x1200", "4000x3000"])
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.rows, *map(int, given.one.split("x")))))
        return
    print("| files | MB decoded, all | peak GB | seconds |\n|---|---|---|---|")
    for size in given.sizes:
        command = [sys.executable, __file__, "--rows", str(given.rows), "--one", size]
        found = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        print(
            f"| {given.rows} of {size} | {found['decoded_mb']:,.0f} | {found['peak_gb']:.2f} | {found['seconds']:.0f} |"
        )


def measure(rows: int, width: int, height: int) -> dict[str, float]:
    import resource
    import time

    import numpy as np
    from PIL import Image

    from hf_smalldata.memory import keep_freed
    from hf_smalldata.pipeline import train
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.testing import tiny_image_model

    keep_freed()  # as the command line does
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for at in range(rows):
            colour = ("red", "blue")[at % 2]
            small = np.zeros((60, 80, 3), np.uint8)
            small[..., 0 if colour == "red" else 2] = rng.integers(0, 255, (60, 80))
            (place / "files" / colour).mkdir(parents=True, exist_ok=True)
            Image.fromarray(small).resize((width, height)).save(place / "files" / colour / f"{at}.jpg")
        recipe = Recipe.parse({
            "task": "image-classification", "data": {"name": str(place / "files")},
            "model": {"name": str(tiny_image_model(place / "model"))},
            "train": {"num_train_epochs": 1, "disable_tqdm": True},
        })  # fmt: skip
        started = time.perf_counter()
        train(recipe, place / "run")
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"decoded_mb": rows * width * height * 3 / 1e6, "peak_gb": round(peak, 3), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
