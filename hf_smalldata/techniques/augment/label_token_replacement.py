"""Label-wise token replacement: words replaced by others that carry the same tag in the training rows.

Helps with tens to a few hundred tagged sentences, as every tag is seen on more words in more places. Does little from
a thousand on, and hurts where sentences must stay sensible: replaced words need not fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from datasets import Dataset
from pydantic import Field

from hf_smalldata.data.made import real
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.words import Word, apart, of_words, varied


def by_tag(sentences: Sequence[Sequence[Word]]) -> dict[int, list[str]]:
    """Tag -> words that carry it, one as often as it is in the sentences."""
    found: dict[int, list[str]] = defaultdict(list)
    for words in sentences:
        for word in words:
            found[word.tag].append(word.text)
    return found


def replaced(
    words: Sequence[Word], known: Mapping[int, Sequence[str]], probability: float, rng: np.random.Generator
) -> list[Word]:
    """Each word, with a probability, gives way to one of its tag; tags keep their places.

    Args:
        words: of a sentence.
        known: tag -> words to draw from, each as likely as it is frequent.
        probability: 0 to 1.
        rng: decides which, and by what.
    """
    result = []
    for word in words:
        among = known[word.tag]
        drawn = rng.random() < probability
        result.append(word._replace(text=among[int(rng.integers(len(among)))]) if drawn else word)
    return result


class LabelTokenReplacement(Technique):
    """Variants of each row with words replaced by their tags ("LwTR" in the paper)."""

    name = "label_token_replacement"
    tasks = frozenset({"token-classification"})
    paper = "https://arxiv.org/abs/2010.11683"

    probability: float = Field(default=0.3, ge=0, le=1)  # of each word; 0 makes no rows
    n_aug: int = Field(default=1, ge=0)  # variants of a row; the paper tries 1, 3, 6 and 10

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants."""
        known = by_tag([apart(row)[0] for row in real(train)])
        change = of_words(partial(replaced, known=known, probability=self.probability))
        return varied(train, ctx, self.name, self.n_aug, change)
