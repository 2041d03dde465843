"""MLM substitution: variants of training texts in which a masked language model fills in other words that fit.

Helps with some tens to hundreds of rows and a model that was little pretrained: words that fit their sentence come in,
where synonyms from a list would not. Does little for a large encoder that knows those words already, and hurts where
single words decide the label and neither `protect` nor `label_conditioned` holds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, NamedTuple

import numpy as np
from datasets import Dataset
from pydantic import Field, PositiveFloat, PositiveInt

from hf_smalldata.data.made import real, rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import told_of
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.filling import Filler, Gapped
from hf_smalldata.techniques.augment.teaching import teach
from hf_smalldata.techniques.augment.variants import Variant, with_variants
from hf_smalldata.techniques.augment.words import Word, apart, protected, together

AT_ONCE = 1024  # texts: what is encoded at the same time


class MlmSubstitution(Technique):
    """Each variant has other words in some places; of tagged rows outside entities, one word for one, so tags stay.

    With `label_conditioned` the class's name stands before the text, and the masked language model first learns from
    the training rows what that means. The paper puts the class in place of the segment's vector, which not all models
    have; its name before the text is that of https://arxiv.org/abs/2003.02245.
    """

    name = "mlm_substitution"
    tasks = frozenset({"text-classification", "token-classification"})
    paper = "https://arxiv.org/abs/1812.06705"
    paths = ("checkpoint",)

    checkpoint: str | None = None  # a masked language model: a Hub id or a folder. Default: the recipe's own model
    revision: str | None = None
    fraction: float = Field(default=0.15, ge=0, le=1)  # of the words of a text, at least one; 0 makes no rows
    n_aug: int = Field(default=1, ge=0)  # variants of a row
    top_k: PositiveInt = 10  # a word is drawn from so many, the likeliest but the one that stood there
    temperature: PositiveFloat = 1.0  # near 0 the likeliest word, large any of the top_k alike
    min_similarity: Annotated[float, Field(ge=0, le=1)] = 0.5  # cosine with the row, by the recipe's model; 0: any
    protect: tuple[str, ...] = ()  # words that stay, besides negations, numbers and the words of labels' names
    label_conditioned: bool = False  # for rows of one class
    steps: PositiveInt = 200  # of learning what class names mean, 16 rows each; with label_conditioned

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants.

        Raises:
            UserError: no masked language model, or rows that have no class to put before them.
        """
        if self.label_conditioned and ctx.problem_type != "single_label_classification":
            raise UserError("mlm_substitution.label_conditioned: for rows of one class each, and these are "
                            f"{ctx.problem_type}; leave it out")  # fmt: skip
        if self.fraction == 0 or self.n_aug == 0:
            return train
        return with_variants(self, train, ctx, self.min_similarity, lambda: (self._variants(real(train), ctx), {}))

    def _variants(self, originals: Dataset, ctx: Context) -> list[Variant]:
        leave = protected(self.protect, ctx.labels)
        with told_of({"model.name:": "techniques.mlm_substitution.checkpoint (such as distilbert-base-uncased):"}):
            filler = Filler.load(self._spec(ctx), leave)
        fronts: list[str | None] = [None] * len(originals)
        if self.label_conditioned:
            names = [ctx.labels[label].replace("_", " ") for label in originals["label"]]
            teach(filler, originals["text"][:], names, self.steps, ctx.seed)
            fronts = [*names]
        drafts = [
            Draft.of(row, front, self.fraction, leave, rng_of(ctx.seed, f"{self.name}:{row['id']}", number))
            for row, front in zip(originals, fronts, strict=True)
            for number in range(self.n_aug)
        ]
        found = []
        for start in range(0, len(drafts), AT_ONCE):
            part = drafts[start : start + AT_ONCE]
            filled = filler.fill([draft.gapped for draft in part], self.top_k, self.temperature)
            found += [draft.variant(words) for draft, words in zip(part, filled, strict=True)]
        return found

    def _spec(self, ctx: Context) -> ModelSpec:
        if self.checkpoint is None:
            return ctx.model.model_copy(update={"template": None})
        return ModelSpec(name=self.checkpoint, revision=self.revision)


class Draft(NamedTuple):
    """A row some of whose words are to be filled in anew."""

    row: Mapping[str, Any]
    words: list[Word]
    rest: str
    chosen: list[int]  # indices of words
    gapped: Gapped

    @classmethod
    def of(
        cls,
        row: Mapping[str, Any],
        front: str | None,
        fraction: float,
        leave: re.Pattern[str],
        rng: np.random.Generator,
    ) -> Draft:
        """Words to fill in, drawn among those of letters that are no entity's and that `leave` does not match."""
        words, rest = apart(row)
        among = [at for at, word in enumerate(words)
                 if word.text.isalpha() and word.tag == 0 and not leave.match(word.text)]  # fmt: skip
        count = min(max(round(fraction * len(words)), 1), len(among))
        chosen = sorted(rng.choice(among, count, replace=False).tolist()) if among else []
        ends = list(accumulate(len(word.gap) + len(word.text) for word in words))
        gaps = [(ends[at] - len(words[at].text), ends[at]) for at in chosen]
        return cls(row, words, rest, chosen, Gapped(row["text"], gaps, rng, front))

    def variant(self, filled: Sequence[str | None]) -> Variant:
        """With a word for each of the chosen, which keeps its capitals; a None leaves the word."""
        words = list(self.words)
        for at, new in zip(self.chosen, filled, strict=True):
            if new is not None:
                words[at] = words[at]._replace(text=cased_like(new, words[at].text))
        made = together(self.row, words, self.rest)
        return {"parent": self.row["id"], **{name: made[name] for name in ("text", "tokens", "starts") if name in made}}


def cased_like(word: str, other: str) -> str:
    """A word with the capitals of another: DOG, Dog; as it is where the other has none."""
    if other.isupper() and len(other) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if other[:1].isupper() else word
