"""Prototypical networks: what episodes hold, their loss by its formula, and that new classes come apart."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.episodes import accuracies, draw_episodes
from hf_smalldata.techniques.fewshot.prototypical import Prototypical, drawn, episode_nearness, turned
from hf_smalldata.techniques.fewshot.rows import features_of

LABELS = np.repeat(np.arange(5), 6)


def some(count: int = 50, labels: np.ndarray = LABELS, turns: int = 1, **sizes):
    draws = drawn(labels, turns, Prototypical(**sizes), np.random.default_rng(0))
    return list(itertools.islice(draws, count))


def test_an_episode_asks_other_rows_of_its_classes_than_those_that_make_their_means():
    for places, classes, asked in some(ways=3, shots=2, queries=3):
        assert len(set(places)) == len(places) == 3 * (2 + 3)
        assert sorted(classes.tolist()) == [0] * 5 + [1] * 5 + [2] * 5
        assert [int(asked[classes == at].sum()) for at in range(3)] == [3, 3, 3]
        for at in range(3):
            assert len(set(LABELS[np.array(places)[(classes == at).numpy()]])) == 1


def test_sizes_are_clipped_to_what_each_class_has():
    labels = np.array([0] * 2 + [1] * 3 + [2] * 40)
    for _, classes, asked in some(labels=labels, ways=9, shots=4, queries=5):
        sizes = {(int((~asked[classes == at]).sum()), int(asked[classes == at].sum())) for at in range(3)}
        assert sizes == {(1, 1), (2, 1), (4, 5)}


def test_all_rows_and_classes_are_drawn():
    assert {place for places, _, _ in some(ways=2, shots=1, queries=1) for place in places} == set(range(30))


def test_a_turned_image_is_of_another_class():
    for places, classes, _ in some(turns=4, ways=20, shots=1, queries=1):
        known = {(LABELS[place // 4], place % 4, int(at)) for place, at in zip(places, classes, strict=True)}
        assert len(known) == 20


def test_images_are_turned_each_by_its_own_angle():
    pixels = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    once = turned({"pixel_values": pixels}, [0, 1])["pixel_values"]
    torch.testing.assert_close(once[0], pixels[0])
    torch.testing.assert_close(once[1, :, 0, 0], pixels[1, :, 0, 3])
    torch.testing.assert_close(turned({"pixel_values": once}, [0, 3])["pixel_values"], pixels)
    with pytest.raises(UserError, match="square"):
        turned({"pixel_values": torch.zeros(1, 3, 4, 5)}, [1])


def test_nearness_is_minus_the_squared_distance_from_the_mean_of_the_shots():
    z, classes = torch.randn(9, 4), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    asked = torch.tensor([False, False, True] * 3)
    near, targets = episode_nearness(z, classes, asked)
    means = torch.stack([z[0:2].mean(0), z[3:5].mean(0), z[6:8].mean(0)])
    expected = -(z[[2, 5, 8]][:, None] - means[None]).square().sum(-1)
    torch.testing.assert_close(near, expected)
    assert targets.tolist() == [0, 1, 2]


def test_new_classes_come_apart_and_the_head_asks_for_the_nearest_mean(image):
    """Colours it never saw, told apart by a network that was trained on other colours."""
    learns, new = colours(0, 6, 8), colours(1, 6, 8)
    context = dataclasses.replace(image.context(), train=learns, labels=tuple("abcdef"), facts={})
    torch.manual_seed(0)
    network = image.task.load_model(image.spec, context.labels, image.problem_type)
    episodes = draw_episodes(new["label"][:], list("ghijkl"), 5, 1, 5, 100)

    def judged() -> float:
        features = features_of(network, context, new)[0].numpy()
        return float(accuracies(features, episodes, 1, "euclidean").mean())

    before = judged()
    technique = Prototypical(ways=6, shots=1, queries=3, episodes=40, learning_rate=1e-3)
    network = technique.model(network, context)
    assert judged() > before + 0.1
    assert context.facts["prototypical"]["episodes"] == 40
    z, out = features_of(network, context)
    means = torch.stack([z[np.array(learns["label"]) == at].mean(0) for at in range(6)])
    logits = z @ out.layer.weight.T + out.layer.bias
    assert (logits.argmax(1) == torch.cdist(z, means).argmin(1)).float().mean() > 0.95


def colours(seed: int, classes: int, per_class: int) -> Dataset:
    from hf_smalldata.data.modalities.image import Images

    rng = np.random.default_rng(seed)
    tints = rng.integers(110, 146, (classes, 3))
    labels = np.repeat(np.arange(classes), per_class)
    images = [(tints[at] + rng.normal(0, 40, (32, 32, 3))).clip(0, 255).astype(np.uint8) for at in labels]
    return Dataset.from_dict({
        "id": [f"{seed}:{at}" for at in range(len(labels))],
        "image": [Images().encoded(each) for each in images],
        "label": labels.tolist(),
    })  # fmt: skip


def test_tables_of_token_vectors_stay_and_learn_again_afterwards(text):
    network = text.network()
    table = network.get_input_embeddings().weight
    before = table.detach().clone()
    Prototypical(episodes=3, shots=1, queries=2).model(network, text.context())
    torch.testing.assert_close(table, before, rtol=0, atol=0)
    assert table.requires_grad


def test_a_class_of_one_row_is_refused_by_name(text):
    rows = text.rows.select([0, 1, 2, 3, 5])  # one of the second class
    with pytest.raises(UserError, match=r"each class needs two; one has food"):
        Prototypical().model(text.network(), dataclasses.replace(text.context(), train=rows))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rotations": True}, "only images can be turned"),
        ({}, "nothing in the body may learn"),
    ],
)
def test_what_cannot_be_learnt_is_refused(text, changed, said):
    network = text.network()
    network.requires_grad_(False)
    with pytest.raises(UserError, match=said):
        Prototypical(**changed).model(network, text.context())


def test_rows_of_one_class_are_refused(text):
    one = text.rows.filter(lambda row: row["label"] == 0)
    with pytest.raises(UserError, match="at least two classes"):
        Prototypical().model(text.network(), dataclasses.replace(text.context(), train=one))
