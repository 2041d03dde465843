"""Seconds to find near-duplicates among 10,000 texts (short and long), 2,000 images, and sequences and sounds.

    python scripts/bench/similar.py [--texts FILE.jsonl] [--images FOLDER]

One core when OMP_NUM_THREADS=1. Rows are made in code unless given: a jsonl file with a "text" a line, a folder of
images in any depth (their decoding is not counted). Each made set holds a twentieth of near-copies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_smalldata.data.images import SUFFIXES, open_image
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_images import similar_images
from hf_smalldata.data.similar_sounds import similar_sounds, sound_hash
from hf_smalldata.data.similar_texts import similar_sequences, similar_texts

TEXTS, IMAGES, SOUNDS, RATE_HZ = 10_000, 2_000, 2_000, 16_000
DRAWN = np.random.default_rng(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="jsonl with a text a line")
    parser.add_argument("--images", type=Path, help="folder of images")
    given = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, numpy {np.__version__}")
    if given.texts:
        texts = [json.loads(line)["text"] for line in given.texts.read_text().splitlines()]
        clock(given.texts.name, len(texts), lambda: similar_texts(texts))
    else:
        for words in (10, 400):
            rows = made_texts(words)
            clock(f"texts of {words} words", len(rows), lambda rows=rows: similar_texts(rows))
    dna = ["".join(DRAWN.choice(list("ACGT"), 100)) for _ in range(TEXTS)]
    clock("DNA of 100 letters", len(dna), lambda: similar_sequences(dna))
    images = found_images(given.images) if given.images else made_images()
    clock("images" if given.images else "images of 224 x 224", len(images), lambda: similar_images(images))
    sounds = [DRAWN.standard_normal(RATE_HZ) * np.hanning(RATE_HZ) for _ in range(SOUNDS)]
    sound_hash(sounds[0], RATE_HZ)  # imports the filters
    clock("sounds of 1 s", len(sounds), lambda: similar_sounds(sounds, RATE_HZ))


def clock(name: str, count: int, find: Callable[[], list[Pair]]) -> None:
    started = time.perf_counter()
    pairs = find()
    print(f"{name}: {count} rows, {len(pairs)} pairs, {time.perf_counter() - started:.2f} s")


def made_texts(words: int) -> list[str]:
    """Words as frequent as in a language (Zipf)."""
    vocabulary = np.array(
        ["".join(DRAWN.choice(list("abcdefghilmnoprstu"), DRAWN.integers(2, 10))) for _ in range(9000)]
    )
    share = 1 / np.arange(1, len(vocabulary) + 1)
    texts = [" ".join(DRAWN.choice(vocabulary, words, p=share / share.sum())) for _ in range(TEXTS * 19 // 20)]
    return texts + [f"{text}, {word}." for text, word in zip(texts[: TEXTS // 20], vocabulary, strict=False)]


def made_images() -> list[Image.Image]:
    coarse = DRAWN.integers(0, 256, (IMAGES * 19 // 20, 16, 16, 3), dtype=np.uint8)
    images = [Image.fromarray(each).resize((224, 224), Image.Resampling.BICUBIC) for each in coarse]
    return images + [image.resize((112, 112)) for image in images[: IMAGES // 20]]


def found_images(folder: Path) -> list[Any]:
    return [open_image(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES][:IMAGES]


if __name__ == "__main__":
    main()
