"""Label-wise token replacement: a word gives way to one of its tag, as often as that is in the training rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from hf_smalldata.techniques.augment.label_token_replacement import LabelTokenReplacement, by_tag, replaced
from hf_smalldata.techniques.augment.words import Word

WORDS = [Word("", "in"), Word(" ", "New", 1), Word(" ", "York", 2)]


def test_words_are_kept_by_tag_as_often_as_they_are_there():
    assert by_tag([WORDS, WORDS[:2]]) == {0: ["in", "in"], 1: ["New", "New"], 2: ["York"]}


def test_a_word_is_replaced_with_the_probability_by_the_frequency_of_its_tag():
    rng = np.random.default_rng(0)
    known = {0: ["on"], 1: ["Los"] * 3 + ["San"], 2: ["Angeles"]}
    made = [replaced(WORDS, known, 0.4, rng) for _ in range(4000)]
    assert all([(word.gap, word.tag) for word in each] == [(word.gap, word.tag) for word in WORDS] for each in made)
    firsts = [each[1].text for each in made]
    for name, share in (("New", 0.6), ("Los", 0.3), ("San", 0.1)):
        assert firsts.count(name) / 4000 == pytest.approx(share, abs=0.03)


def test_a_tag_is_seen_on_words_at_more_places(tokens):
    """What the paper wants: more sentences in which a word carries its tag."""

    def contexts(rows):
        return {(before, word) for words in rows["tokens"] for before, word in itertools.pairwise(words)}

    made = LabelTokenReplacement(n_aug=3).rows(tokens.rows, tokens.context())
    assert len(contexts(made)) > 1.5 * len(contexts(tokens.rows))


def test_probability_zero_is_the_identity(tokens):
    assert LabelTokenReplacement(probability=0).rows(tokens.rows, tokens.context()) is tokens.rows
    with pytest.raises(ValidationError, match="probability"):
        LabelTokenReplacement(probability=2)
