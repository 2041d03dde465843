"""MaskedWordAug: in flows of nlpaug, many texts in one pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
from nlpaug.augmenter.word import RandomWordAug, WordAugmenter
from nlpaug.flow import Sequential

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.augment.nlpaug_mlm import MaskedWordAug

TEXTS = ["the cat saw a dog today", "rain and snow", "we saw bread and rice"]


@pytest.fixture
def augmenter(masked) -> MaskedWordAug:
    return MaskedWordAug(str(masked.folder), aug_p=0.4, stopwords=["saw"])


def words(text: str) -> list[str]:
    return text.lower().split()


def test_a_list_is_filled_in_one_pass_and_stays_in_order(augmenter, monkeypatch):
    calls = []
    fill = type(augmenter.filler).fill
    monkeypatch.setattr(
        type(augmenter.filler), "fill", lambda self, texts, *more: calls.append(len(texts)) or fill(self, texts, *more)
    )
    made = augmenter.augment(TEXTS)
    assert calls == [3]
    for old, new in zip(TEXTS, made, strict=True):
        assert len(words(old)) == len(words(new))
        assert sum(one != other for one, other in zip(words(old), words(new), strict=True)) == round(
            0.4 * len(words(old))
        )
    assert made[0].split()[2] == "saw"


def test_one_text_has_many_variants(augmenter):
    made = augmenter.augment(TEXTS[0], n=5)
    assert isinstance(augmenter, WordAugmenter)
    assert len(made) == 5
    assert len(set(made)) > 1


def test_a_flow_of_nlpaug_takes_it_beside_its_own(augmenter):
    flow = Sequential([augmenter, RandomWordAug("swap")])
    (made,) = flow.augment(TEXTS[0])
    assert len(words(made)) == len(words(TEXTS[0]))
    assert words(made) != words(TEXTS[0])
    every = TEXTS
    for each in flow:
        every = each.augment(every)
    assert [len(words(text)) for text in every] == [len(words(text)) for text in TEXTS]


def test_draws_hang_on_the_seed_alone(masked):
    def made() -> list[str]:
        return MaskedWordAug(str(masked.folder), seed=3).augment(TEXTS)

    first = made()
    random.random()
    np.random.rand()
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert made() == first
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_checkpoint_without_the_head_is_refused(text):
    with pytest.raises(UserError, match="no masked-language-model head"):
        MaskedWordAug(str(text.folder))
