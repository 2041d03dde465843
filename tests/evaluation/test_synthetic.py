"""Quality of made rows: known values, and what happens to each number when rows are copies, all alike, or elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity import metric_fid, metric_kid, metric_prc

from hf_smalldata.evaluation.synthetic import (
    accuracy_of,
    distinct,
    frechet_distance,
    kernel_distance,
    precision_and_recall,
    self_bleu,
)


def drawn(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5)) * scale + shift


def test_the_frechet_distance_is_that_of_the_formula_by_matrix_roots():
    x, y = drawn(40, 0), drawn(30, 1, shift=0.5, scale=2.0)
    a, b = np.cov(x.T), np.cov(y.T)
    gap = x.mean(0) - y.mean(0)
    assert frechet_distance(x, y) == pytest.approx(gap @ gap + np.trace(a + b - 2 * sqrtm(a @ b).real), rel=1e-6)


@pytest.mark.parametrize(("count", "width"), [(60, 8), (24, 40)])
def test_numbers_are_those_of_torch_fidelity(count, width):
    rng = np.random.default_rng(0)
    made, real = rng.standard_normal((count, width)) * 1.3 + 0.2, rng.standard_normal((count, width))
    x, y = torch.from_numpy(made), torch.from_numpy(real)
    moments = [metric_fid.fid_features_to_statistics(each) for each in (x, y)]
    assert frechet_distance(made, real) == pytest.approx(
        metric_fid.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"], rel=1e-3
    )
    kid = metric_kid.kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=count, verbose=False)
    assert kernel_distance(made, real) == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-6)
    both = metric_prc.prc_features_to_metric(x, y, verbose=False)
    assert precision_and_recall(real, made) == pytest.approx((both["precision"], both["recall"]))


def test_distances_of_equal_rows_are_none_and_grow_with_the_shift():
    x = drawn(60, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    fid, kid = ([measure(x, drawn(60, 1, shift)) for shift in (0, 1, 2)]
                for measure in (frechet_distance, kernel_distance))  # fmt: skip
    assert fid == sorted(fid)
    assert kid == sorted(kid)


def test_the_kernel_distance_has_no_bias():
    found = [kernel_distance(drawn(20, seed), drawn(15, 1000 + seed)) for seed in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)


def test_precision_falls_with_rows_elsewhere_and_recall_with_rows_all_alike():
    real = drawn(100, 0)
    good = precision_and_recall(real, drawn(100, 1))
    elsewhere = precision_and_recall(real, drawn(100, 1, shift=20))
    alike = precision_and_recall(real, real[:1] + 1e-3 * drawn(100, 1))
    assert min(good) > 0.8
    assert elsewhere == (0, 0)
    assert alike[0] == 1
    assert alike[1] < 0.1


def test_a_manifold_is_balls_of_the_third_neighbours_distance():
    real = np.array([[0.0], [1.0], [2.0], [3.0]])  # radii 3, 2, 2 and 3: together from -3 to 6
    assert precision_and_recall(real, np.array([[5.9], [6.1], [-2.9], [-3.1]]))[0] == 0.5


def test_rows_that_say_what_classes_are_teach_them():
    labels = np.arange(40) % 2
    test = drawn(200, 5) + 3 * (np.arange(200) % 2)[:, None]
    made = drawn(40, 6) + 3 * labels[:, None]
    assert accuracy_of(made, labels, test, np.arange(200) % 2) > 0.95
    assert accuracy_of(made, 1 - labels, test, np.arange(200) % 2) < 0.05
    assert accuracy_of(made, np.zeros(40, dtype=int), test, np.arange(200) % 2) == 0.5


def test_distinct_counts_different_ngrams():
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) == 0


def test_self_bleu_is_one_of_copies_and_small_of_texts_that_share_little():
    assert self_bleu(["we saw a cat in the rain"] * 2) == pytest.approx(1)
    assert self_bleu(["a b c d", "e f g h"]) == 0
    some = self_bleu(["we saw a cat today", "we saw a dog today", "soup is food"])
    assert 0 < some < 1
    assert self_bleu(["alone"]) == 0


def test_self_bleu_of_a_word_said_twice_counts_it_as_often_as_others_say_it():
    # 1 of 2 words; no two words, smoothed to 1 / 2; none of three and four, smoothed to 1 / 1
    assert self_bleu(["a a", "a b"]) == pytest.approx(np.exp(np.mean(np.log([1 / 2, 1 / 2, 1, 1]))))
