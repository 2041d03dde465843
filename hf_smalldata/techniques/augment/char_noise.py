"""Character noise: variants of training texts with the slips of keyboards, of scanners and of spelling in a few words.

Helps when the texts to come are typed in haste or scanned and the training texts are clean. Does little on clean texts,
and hurts where single characters decide, as in codes and formulas.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from datasets import Dataset
from pydantic import Field

from hf_smalldata.errors import require
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.words import AS_WORDS, Row, protected, substituted, varied

Kind = Literal["keyboard", "ocr", "spelling"]
Keyboard = Literal["de", "en", "es", "fr", "he", "it", "nl", "pl", "th", "tr", "uk"]


class CharNoise(Technique):
    """Each variant of a row has one kind of noise, in turn; words stay as many, so tags stay.

    Of the paper's noises these are the natural ones (keys beside the right one, common misspellings); those of
    scanners are added.
    """

    name = "char_noise"
    tasks = frozenset({"text-classification", "token-classification"})
    extra: ClassVar[str | None] = "text"
    paper = "https://arxiv.org/abs/1711.02173"

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("keyboard", "ocr", "spelling")  # spelling is English
    word_fraction: float = Field(default=0.1, ge=0, le=1)  # of the words of a text; 0 makes no rows
    character_fraction: float = Field(default=0.1, gt=0, le=1)  # of the characters of such a word, at least one
    keyboard: Keyboard = "en"
    n_aug: int = Field(default=3, ge=0)  # variants of a row
    protect: tuple[str, ...] = ()  # words that stay, besides negations and the words of labels' names

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants."""
        leave = protected(self.protect, ctx.labels)
        noises = [self._noise(kind, leave) for kind in self.kinds] if self.word_fraction else []

        def change(row: Row, number: int, rng: np.random.Generator) -> dict[str, Any]:
            return substituted(row, noises[number % len(noises)], rng)

        return varied(train, ctx, self.name, self.n_aug if noises else 0, change)

    def _noise(self, kind: Kind, leave: re.Pattern[str]) -> Any:
        family = require(f"nlpaug.augmenter.{'word' if kind == 'spelling' else 'char'}", extra="text")
        settings = {"stopwords_regex": leave, **AS_WORDS}
        if kind == "spelling":
            augmenter = family.SpellingAug(aug_p=self.word_fraction, aug_max=None, **settings)
            augmenter.model = _misspellings(augmenter.dict_path)
            return augmenter
        settings |= {"aug_word_p": self.word_fraction, "aug_word_max": None, "aug_char_p": self.character_fraction,
                     "aug_char_min": 1, "aug_char_max": None}  # fmt: skip
        if kind == "ocr":
            return family.OcrAug(**settings)
        augmenter = family.KeyboardAug(lang=self.keyboard, include_upper_case=False, **settings)
        keys = augmenter.model.model
        augmenter.model.model = {key: [slip for slip in keys[key] if len(slip) == 1] for key in keys}  # "u" has " t"
        return augmenter


@lru_cache(maxsize=1)
def _misspellings(path: str) -> Any:
    """Words and how they are misspelled, sorted: nlpaug holds them in the order of a set, another in each process."""
    found = require("nlpaug.model.word_dict", extra="text").Spelling(path, include_reverse=False)
    found.dict = {word: sorted(filter(str.isalpha, each)) for word, each in found.dict.items()}
    return found
