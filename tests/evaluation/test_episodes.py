"""Episodes: what they draw, and the accuracy of the nearest prototype by its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.episodes import Episode, accuracies, draw_episodes, unit_rows

NAMES = [f"class {at}" for at in range(6)]
LABELS = np.repeat(np.arange(6), 12)


def drawn(**changed):
    given = {"ways": 4, "shots": 5, "queries": 3, "episodes": 40, "seed": 0, **changed}
    return draw_episodes(LABELS, NAMES, **given)


def blobs(apart: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (len(LABELS), 8)) + apart * rng.normal(0, 1, (6, 8))[LABELS]


def test_an_episode_asks_other_rows_than_it_learns_from_all_of_their_own_class():
    for episode in drawn():
        assert episode.support.shape == (4, 5)
        rows = [*episode.support.ravel(), *episode.query]
        assert len(set(rows)) == 4 * (5 + 3)
        of_class = LABELS[episode.support]
        assert (of_class == of_class[:, :1]).all()
        assert len(set(of_class[:, 0])) == 4
        np.testing.assert_array_equal(LABELS[episode.query], of_class[episode.target, 0])


def test_every_class_and_row_is_drawn_and_the_seed_decides():
    def rows(seed: int) -> list[int]:
        return [row for episode in drawn(seed=seed) for row in episode.support.ravel()]

    assert set(rows(0)) == set(range(len(LABELS)))
    assert rows(0) == rows(0)
    assert rows(0) != rows(1)


def test_the_shots_of_one_shot_lie_inside_those_of_five_and_the_queries_are_the_same():
    features, episodes = blobs(1.0), drawn()
    cut = [Episode(each.support[:, :1], each.query, each.target) for each in episodes]
    np.testing.assert_array_equal(
        accuracies(features, episodes, 1, "euclidean"), accuracies(features, cut, 1, "euclidean")
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("shots", [1, 3])
def test_the_nearest_prototype_is_found_as_by_hand(metric, shots):
    features, episodes = blobs(0.7) + 2.0, drawn()
    expected = []
    for support, query, target in episodes:
        rows = features / np.linalg.norm(features, axis=1, keepdims=True) if metric == "cosine" else features
        means = rows[support[:, :shots]].mean(axis=1)
        if metric == "cosine":
            means /= np.linalg.norm(means, axis=1, keepdims=True)
        apart = ((rows[query][:, None] - means[None]) ** 2).sum(-1)
        expected.append((apart.argmin(1) == target).mean())
    assert 0.3 < np.mean(expected) < 0.95
    np.testing.assert_allclose(accuracies(features, episodes, shots, metric), expected)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_sparse_features_are_judged_as_dense_ones(metric):
    features = np.where(blobs(1.0) > 1.0, blobs(1.0), 0.0)
    features[3] = 0  # a text of unknown words
    np.testing.assert_allclose(
        accuracies(csr_array(features), drawn(), 5, metric), accuracies(features, drawn(), 5, metric)
    )
    np.testing.assert_allclose(unit_rows(csr_array(features)).toarray(), unit_rows(features))


def test_classes_far_apart_are_all_told_apart_and_features_that_say_nothing_score_by_chance():
    episodes = drawn(episodes=400)
    assert accuracies(blobs(20.0), episodes, 5, "euclidean").min() == 1.0
    assert accuracies(np.ones((len(LABELS), 8)), episodes, 5, "euclidean").mean() == pytest.approx(0.25)
    assert accuracies(blobs(0.0), episodes, 5, "euclidean").mean() == pytest.approx(0.25, abs=0.03)


def test_more_shots_help_where_rows_scatter():
    one, five = (accuracies(blobs(0.8), drawn(episodes=200), shots, "euclidean").mean() for shots in (1, 5))
    assert five > one + 0.05


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ways": 7}, "only 6; use 6 or less"),
        ({"shots": 10}, "take 13 rows of a class, too few are in class 0: 12"),
        ({"queries": 8}, "lower --shots or --queries"),
    ],
)
def test_what_the_rows_cannot_give_is_one_clear_error(changed, said):
    with pytest.raises(UserError, match=said):
        drawn(**changed)
