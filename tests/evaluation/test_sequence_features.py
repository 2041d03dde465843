"""Plain features of sequences: words of letters of the training rows, and a baseline that learns a motif."""

import numpy as np
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from hf_smalldata.evaluation.sequence_features import sequence_features
from hf_smalldata.testing import sequence_rows


def rows(*sequences):
    return Dataset.from_dict({"sequence": list(sequences)})


def test_the_vocabulary_is_that_of_the_training_rows_with_words_of_three_to_seven_letters():
    train, test = sequence_features(rows("ACGTAC"), rows("ACG", "TTTT"))
    assert train.shape == (1, 4 + 3 + 2 + 1)
    assert test.shape == (2, 10)
    assert test.toarray()[0].max() == 1  # only ACG
    assert test.toarray()[1].sum() == 0  # nothing that was seen


def test_rows_have_length_one():
    train, _ = sequence_features(rows("ACGTACGGT", "TTTACC"), rows("ACG"))
    assert np.allclose(np.linalg.norm(train.toarray(), axis=1), 1)


def test_proteins_have_shorter_words():
    train, _ = sequence_features(rows("MKLE"), rows("MK"))
    assert train.shape == (1, 4 + 3 + 2)


def test_a_motif_is_learnt():
    train, test = sequence_rows(40), sequence_rows(60, seed=1)
    model = LogisticRegression(C=10).fit((inputs := sequence_features(train, test))[0], train["label"])
    assert model.score(inputs[1], test["label"]) > 0.85
