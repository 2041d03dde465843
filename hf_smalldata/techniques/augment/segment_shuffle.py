"""Segment shuffle: words of a sentence shuffled inside each entity and inside each stretch between entities.

Helps with tens of tagged sentences, since what a word is then depends less on one order of its neighbours. Does little
from some hundreds on, and hurts where the order inside an entity tells its type.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from datasets import Dataset
from pydantic import Field

from hf_smalldata.evaluation.entities import entities
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.words import Word, of_words, varied


def segments(tags: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each entity and of each stretch without one, in order; together they are the sentence."""
    edges = {0, len(tags)} | {edge for start, end, _ in entities(tags) for edge in (start, end)}
    return list(pairwise(sorted(edges)))


def shuffled(words: Sequence[Word], probability: float, rng: np.random.Generator) -> list[Word]:
    """Each segment, with a probability, has its words in random order; tags and gaps keep their places.

    Args:
        words: of a sentence.
        probability: 0 to 1.
        rng: decides which, and the order.
    """
    result = list(words)
    for start, end in segments([word.tag for word in words]):
        if end - start > 1 and rng.random() < probability:
            order = rng.permutation(np.arange(start, end))
            result[start:end] = [
                word._replace(text=words[at].text) for word, at in zip(words[start:end], order, strict=True)
            ]
    return result


class SegmentShuffle(Technique):
    """Variants of each row with words shuffled ("SiS" in the paper)."""

    name = "segment_shuffle"
    tasks = frozenset({"token-classification"})
    paper = "https://arxiv.org/abs/2010.11683"

    probability: float = Field(default=0.5, ge=0, le=1)  # of each segment; 0 makes no rows
    n_aug: int = Field(default=1, ge=0)  # variants of a row; the paper tries 1, 3, 6 and 10

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants."""
        change = of_words(partial(shuffled, probability=self.probability))
        return varied(train, ctx, self.name, self.n_aug, change)
