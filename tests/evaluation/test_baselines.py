"""Baselines: proper probabilities from very few rows, and better than the prior where there is something to learn."""

import sys

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.baselines import baselines, colour_and_hog, text_features
from hf_smalldata.evaluation.metrics import score

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
WORDS = ("river boat water swim", "oven bread salt cook", "goal team ball match")


def texts(rows, seed=0, classes=(0, 1, 2)):
    rng = np.random.default_rng(seed)
    labels = [classes[i % len(classes)] for i in range(rows)]
    text = [" ".join(rng.choice([*WORDS[c].split(), "the", "a", "of"], 6)) for c in labels]
    return Dataset.from_dict({"id": [f"{seed}-{i}" for i in range(rows)], "text": text, "label": labels})


def images(rows, seed=0):
    """Class 0 red, 1 blue, 2 grey with stripes; noise on all."""
    rng = np.random.default_rng(seed)
    made, labels = [], [i % 3 for i in range(rows)]
    for label in labels:
        pixels = rng.integers(0, 60, (40, 50, 3))
        if label < 2:
            pixels[..., 2 * label] += 150
        else:
            pixels[:, ::8] += 150
        made.append(Image.fromarray(pixels.astype(np.uint8)))
    return Dataset.from_dict({"id": list(map(str, range(rows))), "image": made, "label": labels})


def is_probabilities(predictions, rows, classes):
    return predictions.shape == (rows, classes) and (predictions > 0).all() and np.allclose(predictions.sum(axis=1), 1)


def test_the_majority_class_is_the_smoothed_share_of_training_rows():
    train = Dataset.from_dict({"label": [0, 0, 1], "text": ["a", "b", "c"]})
    predictions = baselines(train, train, 4, SINGLE)
    assert predictions["majority class"] == pytest.approx(np.tile([3 / 7, 2 / 7, 1 / 7, 1 / 7], (3, 1)))


def test_the_words_of_a_text_are_learnt():
    test = texts(60, seed=1)
    result = baselines(texts(12), test, 3, SINGLE)
    assert list(result) == ["majority class", "TF-IDF + logistic regression"]
    assert all(is_probabilities(predictions, 60, 3) for predictions in result.values())
    accuracy = {name: score(predictions, test["label"], SINGLE)["accuracy"] for name, predictions in result.items()}
    assert accuracy["majority class"] == pytest.approx(1 / 3)
    assert accuracy["TF-IDF + logistic regression"] > 0.9


def test_colour_and_shape_of_an_image_are_learnt():
    test = images(30, seed=1)
    result = baselines(images(9), test, 3, SINGLE)
    predictions = result["colour + HOG + logistic regression"]
    assert is_probabilities(predictions, 30, 3)
    assert score(predictions, test["label"], SINGLE)["accuracy"] > 0.9


@pytest.mark.parametrize("make", [texts, images])
def test_one_row_a_class_is_enough(make):
    assert all(is_probabilities(p, 9, 3) for p in baselines(make(3), make(9, seed=1), 3, SINGLE).values())


def test_a_class_without_training_rows_keeps_its_smoothed_prior():
    predictions = baselines(texts(8, classes=(0, 2)), texts(9, seed=1), 3, SINGLE)["TF-IDF + logistic regression"]
    assert is_probabilities(predictions, 9, 3)
    assert predictions[:, 1] == pytest.approx(np.full(9, 1 / 11))
    assert set(predictions.argmax(axis=1)) == {0, 2}


def test_training_rows_of_one_class_give_the_prior():
    result = baselines(texts(4, classes=(1,)), texts(5), 3, SINGLE)
    assert result["TF-IDF + logistic regression"] == pytest.approx(result["majority class"])


def test_each_label_of_several_is_learnt_and_constant_ones_keep_their_prior():
    single = texts(30)
    labels = [[float(c == 0), float(c != 2), 1.0, 0.0] for c in single["label"]]
    train = single.remove_columns("label").add_column("label", labels)
    result = baselines(train, train, 4, MULTI)
    learnt = result["TF-IDF + logistic regression"]
    assert learnt.shape == (30, 4)
    assert ((learnt > 0.5) == np.asarray(labels)).all()
    assert learnt[:, 2] == pytest.approx(np.full(30, 31 / 32))
    assert result["majority class"][0] == pytest.approx([11 / 32, 21 / 32, 31 / 32, 1 / 32])


def test_a_number_is_regressed_on_the_words():
    train, test = texts(30), texts(30, seed=1)
    train, test = (rows.map(lambda row: {"label": float(row["label"]) * 2.5}) for rows in (train, test))
    result = baselines(train, test, 1, REGRESSION)
    assert list(result) == ["training mean", "TF-IDF + ridge regression"]
    assert result["training mean"] == pytest.approx(np.full(30, 2.5))
    rmse = {name: score(p, test["label"], REGRESSION)["rmse"] for name, p in result.items()}
    assert rmse["TF-IDF + ridge regression"] < 0.5 * rmse["training mean"]


def test_likeness_of_a_pair_is_learnt():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)]
    pairs = [(" ".join(rng.choice(words, 8)), i % 2) for i in range(200)]
    other = [first if same else " ".join(rng.choice(words, 8)) for first, same in pairs]
    rows = Dataset.from_dict(
        {"text": [first for first, _ in pairs], "text_pair": other, "label": [same for _, same in pairs]}
    )
    predictions = baselines(rows.select(range(80)), rows.select(range(80, 200)), 2, SINGLE)
    accuracy = score(predictions["TF-IDF + logistic regression"], rows["label"][80:], SINGLE)["accuracy"]
    assert accuracy > 0.9


def test_text_features_know_no_word_of_the_test_rows():
    train, test = (Dataset.from_dict({"text": [text]}) for text in ("good film :)", "good zebra"))
    of_train, of_test = text_features(train, test)
    assert of_train.shape[1] == of_test.shape[1] == 7  # good, film, ':', ')', and the three pairs
    assert of_test.nnz == 1


def test_image_features_have_two_blocks_of_length_one_at_any_size():
    features = colour_and_hog(next(iter(images(1)["image"])))
    assert features.shape == (30 + 1764,)
    assert np.linalg.norm(features[:30]) == pytest.approx(1)
    assert np.linalg.norm(features[30:]) == pytest.approx(1)
    assert np.isfinite(colour_and_hog(Image.new("RGB", (1, 1)))).all()


def test_the_same_rows_give_the_same_predictions():
    first, second = (baselines(texts(9), texts(9, seed=1), 3, SINGLE) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_a_missing_scikit_image_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UserError, match=r"hf_smalldata\[image\]"):
        colour_and_hog(Image.new("RGB", (8, 8)))
