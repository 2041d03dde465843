"""MaskedWordAug: the masked language model of `mlm_substitution` as a word augmenter of nlpaug, for its flows.

nlpaug's own, `ContextualWordEmbsAug`, fills the gaps of one text after the other and does not run on transformers 5.
Here a list of texts is filled in one go. `flow.augment(text)` of nlpaug hands on one text at a time; all of a list at
once go through the augmenters of a flow, which is a list of them:

    flow = Sequential([MaskedWordAug("distilbert/distilbert-base-uncased"), RandomWordAug("swap")])
    for augmenter in flow:
        texts = augmenter.augment(texts)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_smalldata.errors import require
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment.filling import Filler
from hf_smalldata.techniques.augment.mlm_substitution import Draft
from hf_smalldata.techniques.augment.words import protected

_WordAugmenter: Any = require("nlpaug.augmenter.word", extra="text").WordAugmenter


class MaskedWordAug(_WordAugmenter):  # type: ignore[misc]
    """Other words in some places of a text, such as fit there; negations and numbers stay.

    Args:
        checkpoint: a masked language model, a Hub id or a folder.
        aug_p: share of the words that are replaced, at least one.
        top_k: a word is drawn from so many, the likeliest.
        temperature: of the draw.
        stopwords: words that stay.
        seed: of all draws; nlpaug's global generators have no say.

    Raises:
        UserError: nlpaug is not installed, or there is no such masked language model.
    """

    def __init__(
        self,
        checkpoint: str,
        aug_p: float = 0.15,
        top_k: int = 10,
        temperature: float = 1.0,
        stopwords: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(action="substitute", name="MaskedWord_Aug", aug_p=aug_p, stopwords=list(stopwords))
        self.leave: re.Pattern[str] = protected(stopwords, ())
        self.filler = Filler.load(ModelSpec(name=checkpoint), self.leave)
        self.top_k, self.temperature = top_k, temperature
        self.rng = np.random.default_rng(seed)

    def augment(self, data: str | list[str], n: int = 1, num_thread: int = 1) -> list[str]:
        """A variant of each text of a list, or `n` of one text; threads have no use, as all is one batch."""
        texts = data if isinstance(data, list) else [data] * n
        return self._filled([self.clean(text) for text in texts])

    def substitute(self, data: str) -> str:
        """A variant of one text."""
        return self._filled([data])[0]

    def _filled(self, texts: Sequence[str]) -> list[str]:
        rows = ({"id": "", "text": text} for text in texts)
        drafts = [
            Draft.of(row, None, self.aug_p, self.leave, rng)
            for row, rng in zip(rows, self.rng.spawn(len(texts)), strict=True)
        ]
        filled = self.filler.fill([draft.gapped for draft in drafts], self.top_k, self.temperature)
        return [draft.variant(words)["text"] for draft, words in zip(drafts, filled, strict=True)]
