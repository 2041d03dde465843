"""Character noise: so many words, so many characters, by keys, scans and misspellings that there are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from datasets import Dataset
from pydantic import ValidationError

from hf_smalldata.techniques.augment.char_noise import CharNoise
from hf_smalldata.techniques.augment.words import WORD

TEXT = "Yesterday the neighbours believed their beautiful government would definitely receive another separate address."
ROWS = Dataset.from_list([{"id": "a", "text": TEXT, "label": 0}])
KEYS_AROUND = {"e": set("23@#4$wrsdf"), "a": set("qwszx")}


def context(*labels: str) -> SimpleNamespace:
    return SimpleNamespace(seed=0, labels=labels, facts={}, task=SimpleNamespace(kind="text"))


def changed(n_aug: int = 10, **fields: object) -> list[list[tuple[str, str]]]:
    """Of each variant the words that changed, old and new."""
    made = CharNoise(n_aug=n_aug, **fields).rows(ROWS, context())["text"][1:]
    old = WORD.findall(TEXT)
    return [[pair for pair in zip(old, text[:-1].split(), strict=True) if pair[0] != pair[1]] for text in made]


@pytest.mark.parametrize("kind", ["keyboard", "ocr"])
def test_a_share_of_the_words_gets_one_wrong_character_each(kind):
    for words in changed(kinds=(kind,), word_fraction=0.3, character_fraction=0.01):
        assert 1 <= len(words) <= 5
        for old, new in words:
            assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def test_a_larger_share_of_characters_is_wrong_where_that_is_asked_for():
    few, many = (
        sum(a != b for words in changed(kinds=("keyboard",), character_fraction=share)
            for old, new in words for a, b in zip(old, new, strict=True))
        for share in (0.1, 0.8)
    )  # fmt: skip
    assert many > 3 * few


def test_a_wrong_key_lies_beside_the_right_one():
    slips = [(a, b) for words in changed(kinds=("keyboard",), n_aug=60, word_fraction=0.5)
             for old, new in words for a, b in zip(old, new, strict=True) if a != b]  # fmt: skip
    for key, around in KEYS_AROUND.items():
        hits = {b for a, b in slips if a == key}
        assert hits
        assert hits <= around


@pytest.mark.parametrize(("keyboard", "text"), [("uk", "доброго ранку"), ("he", "שלום עולם"), ("de", "größer")])
def test_keyboards_of_other_languages_have_their_own_letters(keyboard, text):
    rows = Dataset.from_list([{"id": "a", "text": text, "label": 0}])
    noise = CharNoise(kinds=("keyboard",), keyboard=keyboard, word_fraction=1.0)
    assert len(noise.rows(rows, context())) == 4


def test_misspellings_are_those_that_people_make():
    words = {pair for words in changed(kinds=("spelling",), n_aug=40, word_fraction=0.3) for pair in words}
    assert ("believed", "beleived") in words
    assert all(new for _, new in words)


def test_a_slip_of_the_keyboard_parts_no_word():
    rows = Dataset.from_list([{"id": "a", "text": "uuuu" * 30, "label": 0}])
    made = CharNoise(kinds=("keyboard",), character_fraction=1.0).rows(rows, context())
    assert all(len(text) == 120 and " " not in text for text in made["text"])


def test_kinds_take_turns():
    first, second = changed(kinds=("keyboard", "spelling"), n_aug=2, word_fraction=0.3)
    assert all(len(old) == len(new) for old, new in first)
    assert any(len(old) != len(new) for old, new in second)


def test_protected_words_and_negations_stay():
    rows = Dataset.from_list([{"id": "a", "text": "never mention the excellent restaurant", "label": 0}])
    made = CharNoise(kinds=("keyboard",), word_fraction=1.0, protect=("restaurant",)).rows(rows, context("excellent"))
    for text in made["text"][1:]:
        assert {"never", "excellent", "restaurant"} <= set(text.split())
        assert "mention" not in text


def test_strength_zero_is_the_identity():
    assert CharNoise(word_fraction=0).rows(ROWS, context()) is ROWS


def test_words_of_noisy_texts_are_known_after_noise():
    """What the paper's section 6 rests on: the noise of training is that of the texts to come."""
    known = set(WORD.findall(TEXT))
    slips = {new for words in changed(kinds=("spelling",), n_aug=40, word_fraction=0.3) for _, new in words}
    learnt = set(WORD.findall(" ".join(CharNoise(kinds=("spelling",), n_aug=80, word_fraction=0.3).rows(
        ROWS.map(lambda row: {"id": "b"}), context())["text"])))  # fmt: skip
    slips -= known
    assert len(slips) > 20
    assert len(slips & learnt) > len(slips) / 2


def test_bad_values_are_named():
    for field, value in (("word_fraction", 2), ("character_fraction", 0), ("kinds", ()), ("kinds", ("ocean",)),
                         ("keyboard", "klingon"), ("n_aug", -1)):  # fmt: skip
        with pytest.raises(ValidationError, match=field):
            CharNoise(**{field: value})
