"""Nearest neighbours: votes by distance, of embeddings that nothing has trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn.functional import layer_norm

from hf_smalldata.techniques.fewshot.knn import Knn, embeddings_of, votes
from hf_smalldata.testing import image_of

AXES, CLASSES = np.eye(3), np.eye(2)[[0, 1, 1]]


def test_votes_are_weighted_by_one_over_the_cosine_distance():
    row = np.array([[2.0, 1.0, 0.0]])
    weights = 1 / (1 - row[0, :2] / np.sqrt(5))
    np.testing.assert_allclose(votes(AXES, CLASSES, row, 2), [weights / weights.sum()])


def test_the_length_of_an_embedding_does_not_matter():
    rows = np.random.default_rng(0).random((5, 3))
    np.testing.assert_allclose(votes(AXES, CLASSES, rows, 3), votes(10 * AXES, CLASSES, 0.1 * rows, 3))


def test_a_row_that_was_learnt_has_its_own_label_alone():
    np.testing.assert_allclose(votes(AXES, CLASSES, AXES, 3), CLASSES)


def test_of_more_neighbours_than_there_are_rows_all_have_a_vote():
    row = np.ones((1, 3))
    np.testing.assert_allclose(votes(AXES, CLASSES, row, 99), [[1 / 3, 2 / 3]])


def test_values_of_neighbours_are_averaged():
    np.testing.assert_allclose(votes(AXES, np.array([[1.0], [3.0], [8.0]]), np.ones((1, 3)), 3), [[4.0]])


def test_the_embedding_of_a_text_is_the_mean_of_its_token_states(text):
    rows, network = text.rows.remove_columns("label"), text.network().eval()
    inputs = text.batch(12)
    with torch.no_grad():
        states = network(**inputs, output_hidden_states=True).hidden_states[-1]
    weights = inputs["attention_mask"].unsqueeze(-1)
    mean = (states * weights).sum(1) / weights.sum(1)
    expected = layer_norm(mean, mean.shape[-1:]).numpy()
    np.testing.assert_allclose(embeddings_of(rows, text.context()), expected, atol=0.05)


@pytest.mark.parametrize("kit", ["text", "image", "audio", "sequence"])
def test_test_rows_have_probabilities_and_those_that_were_learnt_their_own_label(kit, request):
    kit = request.getfixturevalue(kit)
    found = Knn(k=3).baseline(kit.rows.remove_columns("label"), kit.context())
    assert found.shape == (12, len(kit.labels))
    np.testing.assert_allclose(found.sum(1), 1)
    assert found.argmax(1).tolist() == kit.rows["label"][:]


def test_new_images_get_the_label_of_images_alike(image):
    rng = np.random.default_rng(5)
    others = Dataset.from_list([{"id": f"new {at}", "image": image_of(at % 3, rng)} for at in range(30)])
    found = Knn().baseline(others, image.context())
    assert (found.argmax(1) == np.arange(30) % 3).mean() > 0.8


def test_the_row_says_how_many_neighbours(text):
    assert [Knn(k=k).baseline_name(text.context()) for k in (1, 5)] == ["nearest neighbour", "5 nearest neighbours"]
