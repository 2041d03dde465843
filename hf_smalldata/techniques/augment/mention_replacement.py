"""Mention replacement: entities of a sentence replaced by others of their type from the training rows.

Helps with tens to a few hundred sentences, where a name is seen in one sentence alone and a model learns the pair by
heart. Does little when the training rows name few entities of a type, and hurts where an entity's words must fit the
sentence, such as "the river" and its name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from datasets import Dataset
from pydantic import Field

from hf_smalldata.data.made import real
from hf_smalldata.evaluation.entities import entities
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.words import Word, apart, of_words, varied

Mention = Sequence[Word]


def mentions(sentences: Sequence[Sequence[Word]]) -> dict[int, list[Mention]]:
    """Type -> its mentions, one as often as it is in the sentences."""
    found: dict[int, list[Mention]] = defaultdict(list)
    for words in sentences:
        for start, end, kind in entities([word.tag for word in words]):
            found[kind].append(words[start:end])
    return found


def replaced(
    words: Sequence[Word], known: Mapping[int, Sequence[Mention]], probability: float, rng: np.random.Generator
) -> list[Word]:
    """Each mention, with a probability, gives way to another one of its type; the words around stay.

    Args:
        words: of a sentence.
        known: type -> mentions to draw from, each as likely as it is frequent.
        probability: 0 to 1.
        rng: decides which, and by what.
    """
    result: list[Word] = []
    last = 0
    for start, end, kind in entities([word.tag for word in words]):
        here = words[start:end]
        result += words[last:start]
        others = [mention for mention in known[kind] if _texts(mention) != _texts(here)]
        if others and rng.random() < probability:
            first, *following = others[int(rng.integers(len(others)))]
            here = [first._replace(gap=here[0].gap), *following]
        result += here
        last = end
    return [*result, *words[last:]]


class MentionReplacement(Technique):
    """Variants of each row with other mentions ("MR" in the paper); rows without a mention have none."""

    name = "mention_replacement"
    tasks = frozenset({"token-classification"})
    paper = "https://arxiv.org/abs/2010.11683"

    probability: float = Field(default=0.5, ge=0, le=1)  # of each mention; 0 makes no rows
    n_aug: int = Field(default=1, ge=0)  # variants of a row; the paper tries 1, 3, 6 and 10

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants."""
        known = mentions([apart(row)[0] for row in real(train)])
        change = of_words(partial(replaced, known=known, probability=self.probability))
        return varied(train, ctx, self.name, self.n_aug, change)


def _texts(mention: Mention) -> list[str]:
    return [word.text for word in mention]
