"""EDA: variants of each training text by four rules: synonyms, random insertion, swap and deletion of words.

Helps with a few hundred English texts or fewer and a model that learns from scratch or little was pretrained; four
variants of a row cost four times its training. Does little for a large pretrained encoder, and hurts where the order
of words or a single word decides. Texts in other languages want `alpha_synonym: 0` and `alpha_insertion: 0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Annotated, Any, ClassVar

import numpy as np
from datasets import Dataset
from pydantic import Field
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import require
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.synonyms import synonym_augmenter, wordnet
from hf_smalldata.techniques.augment.words import AS_WORDS, WORD, Row, Word, applied, protected, substituted, varied

Fraction = Annotated[float, Field(ge=0, le=1)]
Rule = Callable[[Row, np.random.Generator], dict[str, Any]]


def inserted(
    words: Sequence[str], count: int, synonyms: Sequence[Sequence[str]], rng: np.random.Generator
) -> list[str]:
    """`count` times a synonym of a random word put at a random place.

    Args:
        words: of a text.
        count: of insertions.
        synonyms: of each word that has some; without any the words come back.
        rng: decides word, synonym and place.
    """
    result = list(words)
    for _ in range(count if synonyms else 0):
        among = synonyms[int(rng.integers(len(synonyms)))]
        result.insert(int(rng.integers(len(result) + 1)), among[int(rng.integers(len(among)))])
    return result


class Eda(Technique):
    """Each variant of a row is made by one rule, the rules in turn; of tagged rows by the first, outside entities.

    Departures: of α l words, the paper rounds down and deletes each with probability α, here as many are changed as
    α l rounded up; words swap with their neighbours, one that comes first gets a capital, and the second word stays if
    the first is deleted (nlpaug's ways); synonyms are single words, of words as they are written; case and punctuation
    stay otherwise, as pretrained models read them.
    """

    name = "eda"
    tasks = frozenset({"text-classification", "token-classification"})
    extra: ClassVar[str | None] = "text"
    paper = "https://arxiv.org/abs/1901.11196"

    alpha_synonym: Fraction = 0.1  # of the words of a text; 0 leaves the rule out
    alpha_insertion: Fraction = 0.1
    alpha_swap: Fraction = 0.1
    alpha_deletion: Fraction = 0.1
    n_aug: int = Field(default=4, ge=0)  # variants of a row; the paper: 16 for 500 rows, 8 for 2,000, 4 for 5,000
    protect: tuple[str, ...] = ()  # neither replaced nor deleted, besides negations and the words of labels' names

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants."""
        rules = self._rules(ctx)

        def change(row: Row, number: int, rng: np.random.Generator) -> dict[str, Any]:
            order = rng_of(ctx.seed, row["id"]).permutation(len(rules))
            rule: Rule = rules[order[number % len(rules)]]
            return rule(row, rng)

        return varied(train, ctx, self.name, self.n_aug if rules else 0, change)

    def _rules(self, ctx: Context) -> list[Rule]:
        """Those of strength above 0."""
        leave = protected(self.protect, ctx.labels)
        content = protected([*ENGLISH_STOP_WORDS, *self.protect], ctx.labels)
        rules: list[Rule] = []
        if self.alpha_synonym:
            rules.append(partial(_replace, synonym_augmenter(self.alpha_synonym, content)))
        if ctx.task.kind == "tokens":
            return rules
        if self.alpha_insertion:
            rules.append(partial(_insert, self.alpha_insertion, content))
        library = require("nlpaug.augmenter.word", extra="text")
        settings = {"aug_max": None, **AS_WORDS}
        if self.alpha_swap:
            rules.append(partial(_swap, library.RandomWordAug("swap", aug_p=self.alpha_swap, **settings), leave))
        if self.alpha_deletion:
            deletion = library.RandomWordAug("delete", aug_p=self.alpha_deletion, stopwords_regex=leave, **settings)
            rules.append(partial(_move, deletion))
        return rules


def _replace(augmenter: Any, row: Row, rng: np.random.Generator) -> dict[str, Any]:
    return substituted(row, augmenter, rng, among=_is_outside)


def _is_outside(word: Word) -> bool:
    return word.tag == 0


def _move(augmenter: Any, row: Row, rng: np.random.Generator) -> dict[str, Any]:
    """Words with the signs that touch them swapped or deleted."""
    return {**row, "text": " ".join(applied(augmenter, row["text"].split(), rng))}


def _swap(augmenter: Any, leave: re.Pattern[str], row: Row, rng: np.random.Generator) -> dict[str, Any]:
    """As `_move`, but for swaps that would move what is left alone, such as a negation: then nothing changes."""
    made, before = _move(augmenter, row, rng), row["text"].split()
    kept = [(at, word) for at, word in enumerate(before) if leave.match(word)]
    after = made["text"].split()
    return made if all(after[at].lower() == word.lower() for at, word in kept) else dict(row)


def _insert(alpha: float, leave: re.Pattern[str], row: Row, rng: np.random.Generator) -> dict[str, Any]:
    words = row["text"].split()
    among = [word for word in WORD.findall(row["text"]) if not leave.match(word)]
    synonyms = [found for word in among if (found := wordnet().predict(word))]
    return {**row, "text": " ".join(inserted(words, ceil(alpha * len(words)), synonyms, rng))}
