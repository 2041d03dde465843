"""EDA: as many words as alpha says, by the rule that is on; and a word the model then knows by its synonym."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from pydantic import ValidationError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.augment import synonyms
from hf_smalldata.techniques.augment.eda import Eda, inserted
from hf_smalldata.techniques.augment.synonyms import synonym_augmenter, wordnet
from hf_smalldata.techniques.augment.words import applied, protected

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OFF = {"alpha_synonym": 0, "alpha_insertion": 0, "alpha_swap": 0, "alpha_deletion": 0}


def context(kind: str = "text", labels: tuple[str, ...] = ("good", "bad")) -> SimpleNamespace:
    return SimpleNamespace(seed=0, labels=labels, facts={}, task=SimpleNamespace(kind=kind))


def rows_of(*texts: str) -> Dataset:
    return Dataset.from_list([{"id": str(at), "text": text, "label": at % 2} for at, text in enumerate(texts)])


def made_of(text: str, n_aug: int = 20, **alphas: float) -> list[str]:
    made = Eda(**{**OFF, **alphas}, n_aug=n_aug).rows(rows_of(text), context())
    assert len(made) > 1
    return made["text"][1:]


def test_wordnet_gives_single_words_of_all_senses_in_a_fixed_order():
    assert wordnet().predict("Movie") == ["film", "picture", "pic", "flick"]
    assert {"puke", "guy"} <= set(wordnet().predict("cat"))
    assert wordnet().predict("movies") == []
    assert all(word.isalpha() and word.islower() for others in wordnet().synonyms.values() for word in others)


def test_a_share_of_the_words_rounded_up_is_replaced_by_synonyms():
    words = ["movie", "car", "dog", "house", "picture"]
    for alpha, count in ((0.1, 1), (0.2, 1), (0.5, 3), (1.0, 5)):
        new = applied(synonym_augmenter(alpha, protected([], [])), words, np.random.default_rng(0))
        changed = [(old, word) for old, word in zip(words, new, strict=True) if old != word]
        assert len(changed) == count
        assert all(word in wordnet().predict(old) for old, word in changed)


def test_insertion_adds_synonyms_and_keeps_all_words_in_order():
    made = inserted(NUMBERS, 3, [["a"], ["b", "c"]], np.random.default_rng(0))
    assert [word for word in made if word in NUMBERS] == NUMBERS
    assert len(made) == 13
    assert inserted(NUMBERS, 3, [], np.random.default_rng(0)) == NUMBERS


def test_a_swap_keeps_all_words_and_moves_some():
    for text in made_of(" ".join(NUMBERS), alpha_swap=0.2):
        assert sorted(text.lower().split()) == sorted(NUMBERS)


def test_deletion_takes_a_share_of_the_words_rounded_up():
    for text in made_of(" ".join(NUMBERS), alpha_deletion=0.25):
        assert len(text.split()) == 7 or text.split()[0] == "one"  # the second stays if the first goes, says nlpaug
        assert [word for word in NUMBERS if word in text.split()] == text.split()


def test_each_rule_makes_as_many_of_the_variants():
    made = Eda(alpha_synonym=0.3, n_aug=4).rows(rows_of("the dog saw one movie in that old house"), context())
    assert Counter(len(text.split()) for text in made["text"][:]) == {9: 3, 8: 1, 10: 1}


def test_negations_labels_and_the_users_words_are_neither_deleted_nor_replaced():
    text = "never a good movie in the house, isn't it"
    for made in made_of(text, alpha_deletion=0.9) + made_of(text, alpha_synonym=1.0):
        assert {"never", "good", "isn't"} <= set(made.split())
    protect = Eda(**{**OFF, "alpha_synonym": 1.0}, protect=("Movie",)).rows(rows_of(text), context())
    assert all("movie" in made for made in protect["text"])


def test_no_negation_is_moved_and_no_clitic_has_a_synonym():
    text = "it 's not a good film , the plot isn 't new and we can 't hear it"
    for made in made_of(text, alpha_swap=0.1, n_aug=200):
        assert [at for at, word in enumerate(made.split()) if word in ("not", "'t")] == [2, 10, 15]
    for made in made_of(text, alpha_synonym=1.0, alpha_deletion=0.5):
        assert made.split().count("'t") == 2
        assert not {"'sec", "'second", "'tonne"} & set(made.split())


def test_case_punctuation_and_gaps_stay_where_words_are_replaced():
    for made in made_of("(Movie),  house!\n", alpha_synonym=0.5):
        assert made.startswith("(")
        assert made[1].isupper() or made.startswith("(Movie")
        assert "),  " in made
        assert made.endswith("!\n")


def test_strength_zero_is_the_identity():
    rows = rows_of("one movie", "two dogs")
    assert Eda(**OFF).rows(rows, context()) is rows
    assert Eda(n_aug=0).rows(rows, context()) is rows


def test_of_tagged_rows_words_outside_entities_are_replaced_alone(tokens):
    made = Eda(alpha_synonym=1.0).rows(tokens.rows, tokens.context()).to_pandas().set_index("id")
    assert made.source.notna().any()
    for _, row in made[made.source.notna()].iterrows():
        old = made.loc[row.parent]
        assert list(row.label) == list(old.label)
        assert all(new == word for new, word, tag in zip(row.tokens, old.tokens, old.label, strict=True) if tag)
        assert list(row.tokens) != list(old.tokens)


def test_a_classifier_of_words_learns_words_that_no_text_holds():
    """The claim of the paper's section 4: variants keep their labels and say them in other words."""
    train = rows_of("a terrific movie", "an awful house", "we saw the terrific film", "that awful dwelling")
    more = Eda(**{**OFF, "alpha_synonym": 0.5}, n_aug=60).rows(train, context())
    plain, augmented = (
        make_pipeline(CountVectorizer(stop_words="english"), LogisticRegression()).fit(
            rows["text"][:], rows["label"][:]
        )
        for rows in (train, more)
    )
    unseen = ["wonderful", "terrible"]
    assert len(set(plain.decision_function(unseen))) == 1
    good, bad = augmented.decision_function(unseen)
    assert good < bad


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_a_fraction_is_between_0_and_1(alpha):
    with pytest.raises(ValidationError, match="alpha_swap"):
        Eda(alpha_swap=alpha)
    with pytest.raises(ValidationError, match="n_aug"):
        Eda(n_aug=-1)


def test_without_the_files_of_wordnet_one_line_says_what_to_install(monkeypatch, tmp_path):
    wordnet.cache_clear()
    for spec, found in ((None, "none"), (SimpleNamespace(origin=str(tmp_path / "__init__.py")), "another version")):
        monkeypatch.setattr(synonyms.importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(UserError, match=rf"found {found}.*pip install 'hf_smalldata\[text\]'"):
            Eda().rows(rows_of("one movie"), context())
