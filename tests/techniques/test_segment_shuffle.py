"""Segment shuffle: words stay in their segment, tags where they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from hf_smalldata.techniques.augment.segment_shuffle import SegmentShuffle, segments, shuffled
from hf_smalldata.techniques.augment.words import Word

TAGS = [0, 0, 0, 1, 2, 2, 1, 3, 0, 0]
WORDS = [Word("-" * at, f"w{at}", tag) for at, tag in enumerate(TAGS)]


def test_segments_are_entities_and_what_lies_between():
    assert segments(TAGS) == [(0, 3), (3, 6), (6, 7), (7, 8), (8, 10)]
    assert segments([]) == []
    assert segments([0, 0]) == [(0, 2)]
    assert segments([1, 2]) == [(0, 2)]


def test_words_stay_in_their_segment_and_tags_and_gaps_in_their_place():
    for seed in range(20):
        made = shuffled(WORDS, 1.0, np.random.default_rng(seed))
        assert [(word.gap, word.tag) for word in made] == [(word.gap, word.tag) for word in WORDS]
        for start, end in segments(TAGS):
            assert sorted(word.text for word in made[start:end]) == [word.text for word in WORDS[start:end]]


def test_a_segment_is_shuffled_with_the_probability():
    rng = np.random.default_rng(0)
    pair = [Word("", "a"), Word(" ", "b")]
    turned = [shuffled(pair, 0.5, rng)[0].text == "b" for _ in range(4000)]
    assert np.mean(turned) == pytest.approx(0.25, abs=0.03)  # half of the shuffles of two words turn them round


def test_a_word_gets_new_neighbours(tokens):
    """What the paper wants: what a word is hangs less on the order of the words beside it."""

    def neighbours(rows):
        return {pair for words in rows["tokens"] for pair in itertools.pairwise(words)}

    made = SegmentShuffle(n_aug=3).rows(tokens.rows, tokens.context())
    assert len(neighbours(made)) > 1.5 * len(neighbours(tokens.rows))


def test_probability_zero_is_the_identity(tokens):
    assert SegmentShuffle(probability=0).rows(tokens.rows, tokens.context()) is tokens.rows
    with pytest.raises(ValidationError, match="probability"):
        SegmentShuffle(probability=-1)
