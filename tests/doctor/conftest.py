"""Text data in one call: what each check needs is a few rows of one fault among many sound ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor import Finding, Report, examine
from hf_smalldata.doctor.sample import Sample, sample_of

Rows = list[tuple[str, str]]  # text, label
LETTERS = "bcdfghklmnprstvwz"


def made_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of six made words that no other shares."""
    generator = np.random.default_rng(seed)
    return [" ".join("".join(generator.choice(list(LETTERS), 6)) for _ in range(6)) for _ in range(count)]


def sound_rows(count: int, seed: int = 0) -> Rows:
    return [(text, "ab"[at % 2]) for at, text in enumerate(made_texts(count, seed))]


def loaded(splits: dict[str, Rows]) -> Splits:
    objects = {split: {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
               for split, rows in splits.items()}  # fmt: skip
    return load(DataSpec(name="rows"), "text", objects=objects)


def sample(**splits: Rows) -> Sample:
    read = loaded(splits)
    return sample_of(read, modality_of(read.train))


def report(**splits: Rows) -> Report:
    read = loaded(splits)
    return examine(read, modality_of(read.train))


def named(found: Report, name: str) -> Finding:
    """The gravest finding of a check."""
    order = ("pass", "warn", "fail")
    return max((each for each in found.findings if each.name == name), key=lambda each: order.index(each.level))


@pytest.fixture
def made() -> SimpleNamespace:
    """The functions above, since test files cannot import them."""
    return SimpleNamespace(texts=made_texts, rows=sound_rows, sample=sample, report=report, named=named)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[[int], Path]:
    """Makes class folders of two classes, each image different from all others."""

    def make(count: int) -> Path:
        folder = tmp_path / "photos"
        for at in range(count):
            place = folder / "ab"[at % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(at).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(place / f"{at:03}.png")
        return folder

    return make
