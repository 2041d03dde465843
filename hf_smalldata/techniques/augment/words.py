"""Words of rows: taken apart and put together again with text, starts and tags in step, and what rules leave alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from hf_smalldata.data.made import real, rng_of, with_made
from hf_smalldata.technique import Context
from hf_smalldata.techniques.augment.seeded import seeded

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Change = Callable[[Row, int, np.random.Generator], dict[str, Any]]  # row, number of the variant -> variant

WORD = re.compile(r"\w+(?:['’]\w+)*")
NEGATIONS = (
    "barely", "cannot", "hardly", "neither", "never", "no", "nobody", "none", "nor", "not", "nothing", "nowhere",
    "scarcely", "without",
)  # fmt: skip
# before n't, which is written with it, without its sign, or cut off as a word of its own
AUXILIARIES = ("ai", "are", "ca", "could", "did", "do", "does", "had", "has", "have", "is", "might", "must", "need",
               "sha", "should", "was", "were", "wo", "would")  # fmt: skip


class Word(NamedTuple):
    """A word, the characters between it and the word before, and its tag (0 where words have none)."""

    gap: str
    text: str
    tag: int = 0


def apart(row: Row) -> tuple[list[Word], str]:
    """Words of a row and what stands behind the last: its `tokens`, or runs of letters and digits in its `text`."""
    text = row["text"]
    if "tokens" in row:
        places = [(start, start + len(word)) for start, word in zip(row["starts"], row["tokens"], strict=True)]
        tags = list(row["label"])
    else:
        places = [found.span() for found in WORD.finditer(text)]
        tags = [0] * len(places)
    ends = [0, *(end for _, end in places)]
    words = [
        Word(text[before:start], text[start:end], tag)
        for before, (start, end), tag in zip(ends[:-1], places, tags, strict=True)
    ]
    return words, text[ends[-1] :]


def together(row: Row, words: Sequence[Word], rest: str) -> dict[str, Any]:
    """The row with other words: `text`, and of tagged rows `tokens`, `starts` and `label`."""
    text, starts = "", []
    for word in words:
        text += word.gap
        starts.append(len(text))
        text += word.text
    made = {**row, "text": text + rest}
    if "tokens" in row:
        made |= {"tokens": [word.text for word in words], "starts": starts, "label": [word.tag for word in words]}
    return made


def varied(train: Dataset, ctx: Context, technique: str, count: int, change: Change) -> Dataset:
    """Training rows and up to `count` variants of each real one; empty and doubled variants are counted, not kept.

    What was made stands in `ctx.facts`, as `{"made": …, "same": …, "empty": …}`. The second text of a pair stays.

    Args:
        train: rows with a `text`.
        ctx: of the run.
        technique: its name, which the made rows bear.
        count: of variants of a row.
        change: row, number of the variant from 0 on, generator -> the row with another text.
    """
    seen = {_inputs(row) for row in train}
    facts, made = {"made": 0, "same": 0, "empty": 0}, []
    for row in real(train):
        for number in range(count):
            variant = change(row, number, rng_of(ctx.seed, f"{technique}:{row['id']}", number))
            fate = "empty" if not variant["text"].strip() else "same" if _inputs(variant) in seen else "made"
            facts[fate] += 1
            if fate == "made":
                seen.add(_inputs(variant))
                made.append({**variant, "parent": row["id"]})
    ctx.facts[technique] = facts
    if facts["same"] or facts["empty"]:
        logger.info("%s: left out %d variants like a row that is there and %d empty ones", technique, facts["same"],
                    facts["empty"])  # fmt: skip
    if not count:
        return train
    if not made:
        logger.warning("%s: made no row: every variant was like a row that is there, or empty", technique)
        return train
    return with_made(train, made, technique)


def of_words(change: Callable[..., Sequence[Word]]) -> Change:
    """A change of rows, from one of their words that takes `words` and `rng`."""

    def changed(row: Row, number: int, rng: np.random.Generator) -> dict[str, Any]:
        words, rest = apart(row)
        return together(row, change(words, rng=rng), rest)

    return changed


def protected(words: Iterable[str], labels: Iterable[str]) -> re.Pattern[str]:
    """Matches a word, with signs around it, that is one of `words`, a negation or part of a label's name."""
    names = [word for label in labels for word in WORD.findall(label.replace("_", " "))]
    negated = rf"(?:{'|'.join(AUXILIARIES)})n(?:['’]?t)?|n['’]t|t"  # t: of `can 't`
    listed = "|".join(re.escape(word) for word in dict.fromkeys([*words, *names, *NEGATIONS]))
    return re.compile(rf"\W*(?:{listed}|{negated})\W*$", re.IGNORECASE)


# Settings with which nlpaug takes and gives words as they are.
AS_WORDS: dict[str, Any] = {"tokenizer": lambda text: text.split("\0"), "reverse_tokenizer": list}


def applied(augmenter: Any, words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Words as an augmenter of nlpaug, made with `AS_WORDS`, changes them."""
    with seeded(rng):
        found = getattr(augmenter, augmenter.action)("\0".join(words))
    return list(words) if isinstance(found, str) else list(found)  # a text where it finds nothing to do


def substituted(
    row: Row, augmenter: Any, rng: np.random.Generator, among: Callable[[Word], bool] = lambda word: True
) -> dict[str, Any]:
    """The row with some of its words replaced one by one, so that tags stay.

    Args:
        row: tagged or not.
        augmenter: of nlpaug; gives as many words as it takes.
        rng: decides which, and by what.
        among: words that may be replaced.
    """
    words, rest = apart(row)
    places = [at for at, word in enumerate(words) if among(word)]
    for at, text in zip(places, applied(augmenter, [words[at].text for at in places], rng), strict=True):
        words[at] = words[at]._replace(text=text)
    return together(row, words, rest)


def _inputs(row: Row) -> tuple[Any, ...]:
    """What two rows have alike that are one row twice."""
    return row["text"], row.get("text_pair"), tuple(row.get("tokens", ()))
