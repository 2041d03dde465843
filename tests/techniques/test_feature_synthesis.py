"""Features are drawn around real ones, real ones alone choose the penalty, and few rows are told apart better."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.nn import logistic_heads
from hf_smalldata.nn.logistic_heads import Rows, logistic
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.synthesis import feature_vae
from hf_smalldata.techniques.synthesis.feature_synthesis import FeatureSynthesis, synthesised

PROBLEM = "single_label_classification"


def clouds(
    per_class: int, seed: int, features: int = 20, classes: int = 2, world: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Classes around means of their own, of one spread: rows differ little in some features and a lot in others."""
    fixed, rng = np.random.default_rng(world), np.random.default_rng([world, seed])
    means, spread = fixed.standard_normal((classes, features)), np.resize([0.3, 3.0], features)
    labels = np.arange(classes * per_class) % classes
    return means[labels] + spread * rng.standard_normal((len(labels), features)), labels


def growing(seed: int, **settings):
    return partial(FeatureSynthesis(**settings).grown, seed=seed)


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_drawn_features_have_the_mean_of_their_class_and_the_spread_within_classes(kind):
    x, labels = clouds(200, 0, features=3)
    x /= x.std(0)  # shrinkage widens what varies much less than the rest
    made, of = synthesised(x, labels, kind, 20_000, 1.0, 5, seed=0)
    for label in (0, 1):
        own, drawn = x[labels == label], made[labels[of] == label]
        np.testing.assert_allclose(drawn.mean(0), own.mean(0), atol=0.08)
        within = np.concatenate([x[labels == each] - x[labels == each].mean(0) for each in (0, 1)]).std(0)
        wanted = within if kind == "gaussian" else np.hypot(own.std(0), within)
        np.testing.assert_allclose(drawn.std(0), wanted, rtol=0.12)


def test_smote_draws_between_a_row_and_its_neighbours():
    x = np.array([[0.0], [1.0], [10.0], [5.0]])
    made, of = synthesised(x, np.array([0, 0, 0, 1]), "smote", 500, 1.0, 1, seed=0)
    assert set(of.tolist()) == {0, 1, 2}  # a class of one row gets none
    near = made[np.isin(of, [0, 1]), 0]
    assert near.min() >= 0
    assert near.max() <= 1
    assert made[of == 2].min() >= 1


def test_drawn_features_weigh_what_they_are_given():
    x, labels = clouds(4, 0)
    rows = FeatureSynthesis(weight=0.25).grown(x, np.eye(2)[labels], seed=0)
    assert len(rows.x) == 8 + 2 * 50
    assert rows.weights.sum() == pytest.approx(8)
    assert rows.weights[:8].tolist() == [0.75] * 8
    np.testing.assert_array_equal(rows.targets[8:].sum(0), [50, 50])
    plain = FeatureSynthesis(weight=0).grown(x, np.eye(2)[labels], seed=0)
    assert plain.x is x


def test_folds_draw_from_rows_that_are_not_left_out_and_judge_by_real_rows(monkeypatch):
    x, labels = clouds(4, 0)
    seen, judged = [], []

    def grow(some, targets):
        seen.append(len(some))
        return FeatureSynthesis().grown(some, targets, seed=0)

    def fit_scale(scores, targets, problem_type):
        judged.append(len(scores))
        return 1.0, 1.0

    monkeypatch.setattr(logistic_heads, "fit_scale", fit_scale)
    logistic(torch.from_numpy(x), torch.eye(2)[labels], PROBLEM, 0, grow=grow)
    assert seen == [8, 6, 6, 6, 6]
    assert set(judged) == {8}


def test_a_weight_of_0_is_plain_logistic_regression():
    x, labels = clouds(4, 0)
    plain = logistic(torch.from_numpy(x), torch.eye(2)[labels], PROBLEM, 0)
    same = logistic(torch.from_numpy(x), torch.eye(2)[labels], PROBLEM, 0, grow=growing(0, weight=0))
    assert torch.equal(plain.weight, same.weight)


def test_few_rows_of_many_classes_are_told_apart_better_where_these_differ_in_what_varies_little():
    gains = []
    for world in range(6):
        (x, labels), (test, truth) = (clouds(count, count, 20, 10, world) for count in (8, 100))
        accuracy = []
        for grow in (Rows, growing(world, kind="mixture", weight=0.9)):
            head = logistic(torch.from_numpy(x), torch.eye(10)[labels], PROBLEM, world, grow=grow)
            said = (torch.from_numpy(test) @ head.weight.T + head.bias).argmax(1).numpy()
            accuracy.append((said == truth).mean())
        gains.append(accuracy[1] - accuracy[0])
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / 6**0.5


def test_the_head_of_the_network_is_filled_and_what_was_chosen_is_told(image):
    context = image.context()
    network = FeatureSynthesis().model(image.network(), context)
    z, out = features_of(network, context)
    assert set(context.facts["feature_synthesis"]) >= {"penalty", "folds", "cv_accuracy"}
    assert "features of each class, 50% of the weight" in context.facts["feature_synthesis"]["disclosed"]
    said = (z.double() @ out.layer.weight.double().T + out.layer.bias).argmax(1).tolist()
    assert said == image.rows["label"][:]


def test_rows_without_one_class_each_are_refused(text):
    context = replace(text.context(), problem_type="multi_label_classification")
    with pytest.raises(UserError, match=r"rows of one class each.*use ridge_head"):
        FeatureSynthesis().model(text.network(), context)


def test_the_loss_of_the_network_is_the_bound_with_the_variance_that_fits_best():
    torch.manual_seed(0)
    x, again, mean, log_variance = torch.randn(6, 3), torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 2)
    variance = (x - again).square().mean()
    code = torch.distributions.Normal(mean, (log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    expected = -torch.distributions.Normal(again, variance.sqrt()).log_prob(x).sum(1).mean() + 0.3 * kl
    constant = 3 / 2 * (1 + np.log(2 * np.pi))  # with the best variance the rest of the density is one
    torch.testing.assert_close(feature_vae.loss_of(x, again, mean, log_variance, 0.3), expected - constant)


def test_the_network_draws_each_class_where_it_lies_and_uses_its_code():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    along = rng.uniform(-1, 1, 80)  # what varies within a class
    x = np.stack([10.0 * labels, 3 * along, 5 + 2 * along], 1) + 0.05 * rng.standard_normal((80, 3))
    made, of = synthesised(x, labels, "vae", 200, 1.0, 5, seed=0)
    classes = labels[of]
    assert np.bincount(classes).tolist() == [200, 200]
    for label in (0, 1):
        np.testing.assert_allclose(made[classes == label].mean(0), x[labels == label].mean(0), atol=1.0)
        spread = made[classes == label].std(0)[1:] / x[labels == label].std(0)[1:]
        assert ((spread > 0.5) & (spread < 2.0)).all()  # an unused code would draw the mean
    assert np.corrcoef(made[:, 1], made[:, 2])[0, 1] > 0.8
    network, deviation = feature_vae.trained((x - x.mean(0)) / x.std(), labels, seed=0)
    given, y = torch.tensor((x - x.mean(0)) / x.std()).float(), torch.eye(2)[labels]
    _, mean, log_variance = network(given, y, torch.zeros(80, feature_vae.CODE))
    assert feature_vae.divergence(mean, log_variance).mean() > 0.3
    assert deviation < 0.3


def test_the_same_seed_draws_the_same_and_torchs_generator_goes_on():
    x, labels = clouds(6, 0)
    before = torch.random.get_rng_state()
    one, two, other = (synthesised(x, labels, "vae", 5, 1.0, 5, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_network_that_diverges_is_told_with_the_step(monkeypatch):
    x, labels = clouds(6, 0)
    monkeypatch.setattr(feature_vae, "LEARNING_RATE", 1e30)
    with pytest.raises(UserError, match=r"the VAE diverged at step \d+; take kind: smote"):
        synthesised(x, labels, "vae", 5, 1.0, 5, seed=0)
