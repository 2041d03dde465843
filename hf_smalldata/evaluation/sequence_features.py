"""Plain features of sequences for the baselines: which short words of letters they hold."""

from __future__ import annotations

from datasets import Dataset
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from hf_smalldata.data.sequences import guess_alphabet

NUCLEOTIDE_WORDS = (3, 7)  # letters
PROTEIN_WORDS = (1, 3)  # 20 letters: longer words hardly come twice


def sequence_features(train: Dataset, test: Dataset) -> tuple[csr_array, csr_array]:
    """TF-IDF of k-mers, sublinear counts, rows of length 1; vocabulary of the training rows alone.

    Where a letter stands is left out: one-hot positions help sets that are aligned at a site, and cost others a few
    points.
    """
    words = PROTEIN_WORDS if guess_alphabet(list(train["sequence"])) == "protein" else NUCLEOTIDE_WORDS
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=words, sublinear_tf=True)
    vectorizer.fit(train["sequence"])
    return csr_array(vectorizer.transform(train["sequence"])), csr_array(vectorizer.transform(test["sequence"]))
