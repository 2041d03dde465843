"""Words of rows: text, starts and tags stay in step; what no rule changes; draws that are the row's own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from hf_smalldata.techniques.augment.char_noise import CharNoise
from hf_smalldata.techniques.augment.eda import Eda
from hf_smalldata.techniques.augment.seeded import seeded
from hf_smalldata.techniques.augment.words import Word, apart, protected, together, varied

TEXTS = ("The movie wasn't good, and its plot was slow.", "Great value for money! Would buy again.")
ROWS = Dataset.from_list([{"id": str(at), "text": text, "label": at} for at, text in enumerate(TEXTS)])
TAGGED = {"id": "a", "text": "(Ann Lee) sang.", "tokens": ["(", "Ann", "Lee", ")", "sang", "."],
          "starts": [0, 1, 5, 8, 10, 14], "label": [0, 1, 2, 0, 0, 0]}  # fmt: skip
GUARDED = ("not", "Never,", "isn't", "isn’t", "dont", "cannot", "n't", "(no", "(won't)", "wouldn", "'t", "t", "shan't",
           "price", "FAULT", "late")  # fmt: skip
FREE = ("nothingness", "knot", "front", "notes", "pricey", "do", "now", "want", "")


def context(seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, labels=("bad", "fine"), facts={}, task=SimpleNamespace(kind="text"))


def variants(seed: int = 0) -> list[str]:
    return [text for kind in (Eda, CharNoise) for text in kind(n_aug=6).rows(ROWS, context(seed))["text"]]


@pytest.mark.parametrize("row", [TAGGED, *ROWS, {"text": "  odd\n\tgaps — and “signs”… "}, {"text": ""}])
def test_a_row_taken_apart_and_put_together_is_the_row(row):
    assert together(row, *apart(row)) == row


def test_words_of_a_text_are_runs_of_letters_and_digits_with_what_stands_between():
    assert apart(ROWS[1])[0][:2] == [Word("", "Great"), Word(" ", "value")]
    assert apart({"text": "It isn't, no."}) == ([Word("", "It"), Word(" ", "isn't"), Word(", ", "no")], ".")


def test_starts_follow_longer_words_and_longer_rows():
    words, rest = apart(TAGGED)
    words[1:3] = [Word("", "Maximilian", 1), Word(" ", "de", 2), Word(" ", "Vere", 2)]
    made = together(TAGGED, words, rest)
    assert made["text"] == "(Maximilian de Vere) sang."
    assert made["label"] == [0, 1, 2, 2, 0, 0, 0]
    assert [made["text"][at:][: len(word)] for at, word in zip(made["starts"], made["tokens"], strict=True)] == made[
        "tokens"
    ]


@pytest.mark.parametrize("word", GUARDED)
def test_negations_words_of_labels_and_words_of_the_user_are_protected(word):
    assert protected(["price"], ["a_fault", "late-delivery"]).match(word)


@pytest.mark.parametrize("word", FREE)
def test_no_other_words_are_protected(word):
    assert not protected(["price"], ["a_fault", "late-delivery"]).match(word)


def test_empty_and_doubled_variants_are_counted_and_not_kept():
    texts = ["", "  ", TEXTS[0], TEXTS[1], "new", "new"]
    facts = context()
    made = varied(ROWS, facts, "eda", 6, lambda row, number, rng: {**row, "text": texts[number]})
    assert facts.facts == {"eda": {"made": 1, "same": 7, "empty": 4}}
    assert made["text"][:] == [*TEXTS, "new"]
    assert made["parent"][-1] == "0"


def test_where_nothing_is_made_the_rows_come_back_as_they_are_and_that_is_said(caplog):
    assert varied(ROWS, context(), "eda", 2, lambda row, number, rng: dict(row)) is ROWS
    assert "made no row" in caplog.text


def test_rows_that_another_technique_made_are_kept_and_not_varied_again():
    once = Eda(n_aug=1).rows(ROWS, context())
    twice = CharNoise(n_aug=1).rows(once, context())
    assert twice["source"][:] == [None, None, "eda", "eda", "char_noise", "char_noise"]
    assert set(twice["parent"][2:]) == {"0", "1"}


def test_of_a_pair_the_first_text_varies_and_the_second_stays():
    pairs = ROWS.add_column("text_pair", ["one", "two"])
    for kind in (Eda, CharNoise):
        made = kind().rows(pairs, context()).to_pandas()
        assert set(made.groupby("parent").text_pair.unique().explode().items()) == {("0", "one"), ("1", "two")}
        assert not set(made.text[2:]) & set(TEXTS)


def test_inside_of_the_scope_the_row_decides_and_behind_it_nothing_was_drawn():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    drawn = []
    for _ in range(2):
        with seeded(np.random.default_rng(3)):
            drawn.append((random.random(), np.random.random()))
    with pytest.raises(ZeroDivisionError), seeded(np.random.default_rng(4)):
        drawn.append((random.random() / 0, 0.0))
    assert drawn[0] == drawn[1]
    assert (random.random(), np.random.random()) == expected


def test_threads_give_the_variants_that_one_gives():
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(variants, [0, 1, 0, 1]))
    assert both == [variants(0), variants(1)] * 2
    assert both[0] != both[1]


def test_the_order_of_rows_changes_no_variant():
    backwards = Eda().rows(ROWS.select([1, 0]), context()).to_pandas().set_index("id").text
    assert dict(backwards) == dict(Eda().rows(ROWS, context()).to_pandas().set_index("id").text)


@pytest.mark.slow
def test_another_process_with_another_order_of_sets_gives_the_same_variants():
    script = "import test_words; print('\\n'.join(test_words.variants()))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == variants()
