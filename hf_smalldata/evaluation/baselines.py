"""Baselines without a pretrained model: what the labels alone, and a linear model on plain features, already reach.

With few labels a fine-tuned network is often no better than TF-IDF and logistic regression; only beside these numbers
does its own mean something. They take seconds, see the same training rows and are scored on the same test rows. They
are not a contest: one fixed setting each, nothing tuned on test rows, no data beyond the training rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from hf_smalldata.data.modalities.image import Images
from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import require
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.evaluation.audio_features import audio_features
from hf_smalldata.evaluation.entities import lexicon
from hf_smalldata.evaluation.intervals import Array
from hf_smalldata.evaluation.sequence_features import sequence_features

# Rows have length 1 (per feature block), so a weak penalty is needed before a handful of rows can be told apart: at the
# default of 1 all probabilities stay near the prior. 10 is the usual setting for TF-IDF rows of length 1, and the same
# for every data set: choosing it by cross-validation on 8 rows a class would mostly choose noise.
INVERSE_PENALTY = 10.0
RIDGE_PENALTY = 1.0  # the squared loss needs less freedom than the logistic one, which never reaches its optimum

IMAGE_SIDE = 64  # pixels
COLOUR_BINS = 8  # a channel

FeatureMaker = Callable[[Dataset, Dataset], tuple[Any, Any]]  # train, test -> (N, d), (M, d)


def baselines(
    train: Dataset, test: Dataset, num_labels: int, problem_type: ProblemType, seed: int = 0
) -> dict[str, Array]:
    """Predictions of every baseline that fits the rows, by name, on the test rows in order.

    Args:
        train: labelled rows, of any modality. One row a class is enough, and a class without rows keeps its smoothed
            prior.
        test: rows with the same columns; their labels are not read.
        num_labels: C; 1 for regression.
        problem_type: as in a transformers config.
        seed: handed to the learners. The solvers used are deterministic, so today it changes nothing.

    Returns:
        Probabilities (M, C), or values (M,) for regression; for tokens (M,) of probabilities (words, C).
    """
    if problem_type == "token_classification":
        return _of_tokens(train, test, num_labels)
    labels = np.asarray(list(train["label"]), dtype=np.float64)
    constant = _constant(labels, num_labels, problem_type)
    regression = problem_type == "regression"
    result = {"training mean" if regression else "majority class": np.repeat(constant, len(test), axis=0)}
    features, make = FEATURES[modality_of(train).kind]
    inputs = make(train, test)
    learner = "ridge regression" if regression else "logistic regression"
    result[f"{features} + {learner}"] = _linear(*inputs, labels, constant, problem_type, seed)
    return result


def _of_tokens(train: Dataset, test: Dataset, num_labels: int) -> dict[str, Array]:
    """No entity anywhere, and the entities that training names, found by heart."""
    known = lexicon(train["tokens"][:], train["label"][:], test["tokens"][:])
    nothing = [np.zeros(len(words), dtype=np.int64) for words in test["tokens"][:]]
    sure = np.eye(num_labels)
    return {"no entity": ragged([sure[tags] for tags in nothing]), "lexicon": ragged([sure[tags] for tags in known])}


def text_features(train: Dataset, test: Dataset) -> tuple[csr_array, csr_array]:
    """TF-IDF of words and word pairs, sublinear counts, rows of length 1; vocabulary of the training rows alone.

    Single signs count as words, for an emoji or '!' may be all a short text has. A second text has its own columns, and
    one more column holds the cosine of both, without which a linear model cannot see that two texts are alike.
    """
    columns = ["text", "text_pair"] if "text_pair" in train.column_names else ["text"]
    pattern = r"(?u)\w+|[^\w\s]"
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
    vectorizer.fit([text for column in columns for text in train[column]])

    def features(rows: Dataset) -> csr_array:
        blocks = [csr_array(vectorizer.transform(list(rows[column]))) for column in columns]
        if len(blocks) == 2:
            cosine = np.asarray((blocks[0] * blocks[1]).sum(axis=1)).reshape(-1, 1)
            blocks.append(csr_array(cosine))
        return csr_array(hstack(blocks))

    return features(train), features(test)


def image_features(train: Dataset, test: Dataset) -> tuple[Array, Array]:
    """Colour and shape (N, d) of images: see `colour_and_hog`."""

    def features(rows: Dataset) -> Array:
        return np.stack([colour_and_hog(Images().shown(row)) for row in rows])

    return features(train), features(test)


def colour_and_hog(image: Image.Image) -> Array:
    """Colour (mean, deviation and histogram a channel) and gradient directions of an image at 64 x 64.

    Each of the two blocks has length 1, so that neither rules by its number of columns (30 against 1,764).
    Source of HOG: Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177, here with 8 x 8 cells, 2 x 2 blocks.

    Raises:
        UserError: scikit-image is not installed.
    """
    hog = require("skimage", extra="image").feature.hog
    small = image.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float64) / 255  # (64, 64, 3)
    channels = pixels.reshape(-1, 3).T
    histograms = [np.histogram(c, bins=COLOUR_BINS, range=(0, 1))[0] / c.size for c in channels]
    colour = np.concatenate([channels.mean(axis=1), channels.std(axis=1), *histograms])
    shape = hog(np.asarray(small.convert("L")), orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    return np.concatenate([_unit(colour), _unit(shape)])


FEATURES: dict[str, tuple[str, FeatureMaker]] = {
    "text": ("TF-IDF", text_features),
    "image": ("colour + HOG", image_features),
    "audio": ("log-mel statistics", audio_features),
    "sequence": ("k-mers", sequence_features),
}


def _constant(labels: Array, num_labels: int, problem_type: ProblemType) -> Array:
    """The best prediction without looking, (1, C) or (1,): the mean, or shares with one row added to each side.

    The added rows (Laplace's rule) keep every probability above 0, hence the log loss finite, and change no order.
    """
    if problem_type == "regression":
        return np.asarray(labels.reshape(-1).mean(keepdims=True))
    if problem_type == "multi_label_classification":
        return np.asarray((labels.sum(axis=0, keepdims=True) + 1) / (len(labels) + 2))
    counts = np.bincount(labels.astype(np.int64), minlength=num_labels)
    return np.asarray((counts + 1) / (len(labels) + num_labels))[None, :]


def _linear(train: Any, test: Any, labels: Array, constant: Array, problem_type: ProblemType, seed: int) -> Array:
    """Predictions of a linear model fitted on features (N, d) and asked on (M, d)."""
    if problem_type == "regression":
        model = Ridge(alpha=RIDGE_PENALTY, random_state=seed).fit(train, labels.reshape(-1))
        return np.asarray(model.predict(test), dtype=np.float64)
    if problem_type == "single_label_classification":
        return _classify(train, test, labels.astype(np.int64), constant[0], seed)
    columns = [  # one-vs-rest: each label against its absence
        _classify(train, test, labels[:, c].astype(np.int64), np.array([1 - share, share]), seed)[:, 1]
        for c, share in enumerate(constant[0])
    ]
    return np.stack(columns, axis=1)


def _classify(train: Any, test: Any, classes: Any, prior: Array, seed: int) -> Array:
    """Probabilities (M, C) of logistic regression; classes without training rows keep their prior (C,)."""
    seen = np.unique(classes)
    result = np.repeat(prior[None, :], test.shape[0], axis=0)
    if len(seen) > 1:
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000, random_state=seed).fit(train, classes)
        result[:, seen] = model.predict_proba(test) * prior[seen].sum()  # the seen classes share what the others leave
    return result


def _unit(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 0 else vector, dtype=np.float64)  # a plain image has no gradients
