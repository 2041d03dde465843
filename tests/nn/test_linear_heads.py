"""Heads that are computed: leave-one-out equals refits, the setting follows the noise, the layer is what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from hf_smalldata.data.made import Kin
from hf_smalldata.nn import linear_heads
from hf_smalldata.nn.linear_heads import ABSENT, PENALTIES, fit_scale, judging, loo_loss, ridge
from hf_smalldata.nn.logistic_heads import folds, logistic
from hf_smalldata.nn.prototype_heads import SHRINKAGES, _candidates, prototypes

SINGLE, MULTI, VALUES = "single_label_classification", "multi_label_classification", "regression"


def made(per_class: int, classes: int = 3, d: int = 12, apart: float = 1.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (N, d) in Gaussian clouds, and their one-hot classes (N, C)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_class)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99)) * apart
    z = centres[labels] + torch.randn(len(labels), d, generator=rng) + 3
    return z.double(), one_hot(labels, classes).double()


def answers(head, z: Tensor) -> Tensor:
    return (z @ head.weight.T + head.bias).argmax(1)


def solved(z: Tensor, targets: Tensor, weights: Tensor | None = None):
    return linear_heads._Solved.of(z, targets, torch.ones(len(z)).double() if weights is None else weights)


@pytest.mark.parametrize("d", [5, 40])  # more rows than features, and fewer
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_of_ridge_equals_refits_without_each_row(d, penalty, weighted):
    z, targets = made(7, d=d)
    weights = torch.linspace(0.5, 2, len(z)).double() if weighted else torch.ones(len(z)).double()
    solution = solved(z, targets, weights)
    for row in range(len(z)):
        others = np.arange(len(z)) != row
        refit = Ridge(alpha=penalty * solution.unit).fit(z[others], targets[others], sample_weight=weights[others])
        np.testing.assert_allclose(solution.left_out(penalty)[row], refit.predict(z[[row]])[0], atol=1e-6)


@pytest.mark.parametrize("d", [5, 40])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_and_its_variants_are_left_out_of_ridge_together(d, weighted):
    z, targets = made(7, d=d)
    leader = np.arange(21)
    leader[[20, 13, 6]], leader[12] = 0, 1  # a group of four, one of two, and rows alone
    weights = torch.linspace(0.5, 2, 21).double() if weighted else torch.ones(21).double()
    solution = linear_heads._Solved.of(z, targets, weights, leader)
    for row in range(21):
        others = leader != leader[row]
        refit = Ridge(alpha=solution.unit).fit(z[others], targets[others], sample_weight=weights[others])
        np.testing.assert_allclose(solution.left_out(1.0)[row], refit.predict(z[[row]])[0], atol=1e-6)
        off = np.average(targets, axis=0, weights=weights) - np.average(
            targets[others], axis=0, weights=weights[others]
        )
        np.testing.assert_allclose(solution.tilt[row], off, atol=1e-12)


def varied(z: Tensor, targets: Tensor, times: int) -> tuple[Tensor, Tensor, Kin]:
    """Rows, behind them copies of each, and which are which."""
    places, count = np.tile(np.arange(len(z)), 1 + times), len(z)
    return z[places], targets[places], Kin(places, np.arange(len(places)) < count)


@pytest.mark.parametrize("fit", [lambda *given, **more: ridge(*given, SINGLE, **more),
                                 lambda *given, **more: logistic(*given, SINGLE, 0, **more)])  # fmt: skip
def test_copies_of_a_row_do_not_vouch_for_it(fit):
    """Of labels that say nothing a head must stay unsure, however often each row is there."""
    rng = torch.Generator().manual_seed(0)
    z, targets = torch.randn(24, 30, generator=rng).double(), torch.eye(2)[torch.arange(24) % 2].double()
    more, wanted, kin = varied(z, targets, 4)
    told = fit(more, wanted, kin=kin).facts
    untold = fit(more, wanted).facts
    said = "loo_accuracy" if "loo_accuracy" in told else "cv_accuracy"
    assert untold[said] > 0.9  # each row is learnt by heart from its copies
    assert told[said] < 0.75


def test_made_rows_judge_nothing_and_are_always_learnt_from():
    z, targets = made(6)
    wrong = targets.roll(1, 1)
    kin = Kin(np.arange(36), np.arange(36) < 18)  # the made rows have no parent
    for told in (ridge(torch.cat([z, z]), torch.cat([targets, wrong]), SINGLE, kin=kin).facts,
                 logistic(torch.cat([z, z]), torch.cat([targets, wrong]), SINGLE, 0, kin=kin).facts):  # fmt: skip
        assert told.get("loo_accuracy", told.get("cv_accuracy")) < 0.3


@pytest.mark.parametrize("d", [5, 40])
def test_the_layer_of_ridge_equals_scikit_learns(d):
    z, targets = made(7, d=d)
    solution = solved(z, targets)
    weight, bias = solution.layer(0.1)
    expected = Ridge(alpha=0.1 * solution.unit).fit(z, targets)
    np.testing.assert_allclose(weight, expected.coef_, atol=1e-8)
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-8)
    torch.testing.assert_close(solution.fitted(0.1), z @ weight.T + bias)


def test_a_row_that_is_left_out_does_not_change_what_share_its_class_has():
    z, targets = made(4)
    left = solved(z, targets).left_out(1e6) + solved(z, targets).tilt  # a penalty at which features say nothing
    torch.testing.assert_close(left, torch.full_like(left, 1 / 3), atol=1e-4, rtol=0)


def test_values_are_met_and_the_penalty_follows_their_noise():
    z, _ = made(20)
    exact = z @ torch.arange(12).double()[:, None] + 5
    noise = exact.std() * torch.randn(len(z), 1, generator=torch.Generator().manual_seed(1)).double()
    clean, noisy = (ridge(z, targets, VALUES) for targets in (exact, exact + 3 * noise))
    assert clean.facts["penalty"] == min(PENALTIES)
    assert noisy.facts["penalty"] >= 0.3
    torch.testing.assert_close(z @ clean.weight.T + clean.bias, exact, atol=0.1, rtol=0)


def test_answers_are_surer_where_classes_are_far_apart():
    sure = []
    for apart in (0.1, 2.0):
        head = ridge(*made(16, d=30, apart=apart), SINGLE)
        z, _ = made(16, d=30, apart=apart, seed=1)
        sure.append((z @ head.weight.T + head.bias).softmax(1).max(1).values.mean())
    assert sure[0] < 0.6
    assert sure[1] > 0.9


FITS = {
    "ridge": lambda z, targets: ridge(z, targets, SINGLE),
    "logistic": lambda z, targets: logistic(z, targets, SINGLE, seed=0),
    "cosine": lambda z, targets: prototypes(z, targets, "cosine"),
    "euclidean": lambda z, targets: prototypes(z, targets, "euclidean"),
    "mahalanobis": lambda z, targets: prototypes(z, targets, "mahalanobis"),
}
each_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


@each_fit
def test_new_rows_are_told_apart_and_probabilities_are_as_sure_as_right(fit):
    head = fit(*made(8, apart=0.7))
    z, targets = made(200, apart=0.7, seed=1)
    probabilities = (z @ head.weight.T + head.bias).softmax(1)
    right = (probabilities.argmax(1) == targets.argmax(1)).double().mean()
    assert right > 0.85
    assert abs(probabilities.max(1).values.mean() - right) < 0.13


@each_fit
def test_one_row_a_class_is_enough(fit):
    head = fit(*made(1, apart=3.0))
    z, targets = made(50, apart=3.0, seed=1)
    assert (answers(head, z) == targets.argmax(1)).double().mean() > 0.9
    assert not any("loss" in name for name in head.facts)
    assert 0.5 < (z @ head.weight.T + head.bias).softmax(1).max(1).values.mean() < 0.98


@each_fit
def test_rows_at_right_angles_make_no_one_row_class_sure(fit):
    head = fit(torch.eye(3), torch.eye(3))
    assert (torch.eye(3).double() @ head.weight.T + head.bias).softmax(1).max() < 0.95


@each_fit
def test_a_class_of_one_row_beside_others_is_learnt_and_not_judged_by(fit):
    z, targets = made(6, apart=3.0)
    head = fit(z[:13], targets[:13])
    assert answers(head, z)[12] == 2
    accuracy = head.facts.get("loo_accuracy", head.facts.get("cv_accuracy"))
    assert math.isclose(accuracy * 12, round(accuracy * 12), abs_tol=1e-9)


@each_fit
def test_a_class_without_rows_is_never_answered(fit):
    z, targets = made(6)
    head = fit(z, torch.cat([targets[:, :1], torch.zeros(18, 1), targets[:, 1:]], 1))
    assert head.weight.shape == (4, 12)
    assert not head.weight[1].any()
    assert head.bias[1] == ABSENT
    logits = 100 * torch.randn(500, 12).double() @ head.weight.T + head.bias
    assert (logits.argmax(1) != 1).all()
    without = fit(z, targets)
    torch.testing.assert_close(head.weight[[0, 2, 3]], without.weight)


@each_fit
@pytest.mark.parametrize("z", [torch.ones(8, 5), torch.zeros(8, 5), torch.full((8, 5), 0.1)], ids=["1", "0", "0.1"])
def test_equal_rows_of_two_classes_are_undecided_and_finite(fit, z):
    head = fit(z, one_hot(torch.tensor([0, 1] * 4), 2))
    assert head.weight.isfinite().all()
    assert head.bias.isfinite().all()
    torch.testing.assert_close((z.double() @ head.weight.T + head.bias).softmax(1), torch.full((8, 2), 0.5).double(),
                               atol=1e-3, rtol=0)  # fmt: skip


@each_fit
def test_labels_that_say_nothing_make_no_one_sure(fit):
    z = made(8)[0].repeat(2, 1)
    head = fit(z, one_hot(torch.arange(2).repeat_interleave(24), 2))  # each row once with each label
    assert (z @ head.weight.T + head.bias).softmax(1).max() < 0.75


@pytest.mark.parametrize("head", [ridge, lambda *args: logistic(*args, seed=0)], ids=["ridge", "logistic"])
def test_labels_that_do_not_exclude_each_other_have_a_probability_each(head):
    z, _ = made(30, d=6)
    targets = torch.stack([z[:, 0] > 3, z[:, 1] > 3, torch.zeros(len(z)), torch.ones(len(z))], 1).double()
    fitted = head(z, targets, MULTI)
    probabilities = (z @ fitted.weight.T + fitted.bias).sigmoid()
    assert ((probabilities > 0.5) == targets.bool()).double().mean() > 0.93
    assert (probabilities[:, 2] < 0.1).all()
    assert (probabilities[:, 3] > 0.9).all()


@pytest.mark.parametrize(
    "head", [ridge, lambda *args, **more: logistic(*args, seed=0, **more)], ids=["ridge", "logistic"]
)
def test_balanced_heads_give_rare_classes_more_room(head):
    z, targets = made(20, classes=2, apart=0.3)
    z, targets = z[:24], targets[:24]  # 20 rows of one class, 4 of the other
    new = made(200, classes=2, apart=0.3, seed=1)[0]
    plain, balanced = ((answers(head(z, targets, SINGLE, balanced=on), new) == 1).sum() for on in (False, True))
    assert balanced > plain


def test_the_scale_is_the_likeliest_and_finite_when_all_rows_are_right():
    _, targets = made(10)
    scores = targets - 0.5
    scale, loss = fit_scale(scores, targets, SINGLE)
    near = [fit_scale(scores * factor, targets, SINGLE) for factor in (0.1, 10.0)]
    assert scale == pytest.approx(
        math.log((30 + 2 / 3) / (2 / 3)), rel=1e-2
    )  # odds: 30 rows are right, 2 are undecided
    assert [each[1] for each in near] == pytest.approx([loss, loss], rel=1e-4)
    assert [each[0] for each in near] == pytest.approx([scale * 10, scale / 10], rel=1e-2)


def test_better_features_have_the_smaller_leave_one_out_loss():
    _, targets = made(8)
    all_rows = torch.ones(len(targets), dtype=torch.bool)
    near, far = (loo_loss(made(8, apart=apart)[0].float(), targets.float(), all_rows) for apart in (0.2, 2.0))
    assert far < near < 0.3


def test_a_row_that_judges_nothing_has_no_part_in_the_leave_one_out_loss():
    z, targets = made(4)
    z, targets = z[:9], targets[:9]  # of the last class one row
    errors = [(solved(z, targets).left_out(penalty) - targets)[:8].square().mean() for penalty in PENALTIES]
    assert loo_loss(z, targets, judging(targets)) == pytest.approx(float(min(errors)))


@pytest.mark.parametrize(("per_class", "count"), [(1, 0), (2, 2)])
def test_more_classes_than_half_the_rows_are_learnt_without_a_warning(per_class, count):
    z, targets = made(per_class, classes=24)
    assert logistic(z, targets, SINGLE, 0).facts["folds"] == count


def test_no_fold_holds_two_rows_of_a_small_class_nor_all_of_any():
    labels = torch.tensor([0] * 8 + [1] * 3 + [2] + [3] * 2)
    found = folds(one_hot(labels, 4), True, np.random.default_rng(0))
    assert found.max() == 7
    for label in (0, 1, 3):
        assert len(set(found[labels == label])) == int((labels == label).sum())
    assert found[labels == 2].tolist() == [-1]


def distances(z: Tensor, means: Tensor, inverse: Tensor) -> Tensor:
    difference = z[:, None] - means[None]
    return torch.einsum("ncd,de,nce->nc", difference, inverse, difference)


def scatter(z: Tensor, targets: Tensor, rows: int, shrinkage: float, whole: float) -> Tensor:
    """The shrunk covariance within classes, by its definition; `whole` is the trace that is shrunk towards."""
    residuals = z - targets @ (targets.T @ z / targets.sum(0)[:, None])
    d = z.shape[1]
    return (1 - shrinkage) * residuals.T @ residuals / rows + shrinkage * whole / d * torch.eye(d).double()


@pytest.mark.parametrize("d", [4, 40])
def test_the_answer_is_the_nearest_prototype_by_definition(d):
    z, targets = made(5, d=d, apart=0.5)
    z, targets = z[:13], targets[:13]  # 5, 5 and 3 rows
    new = made(100, d=d, apart=0.5, seed=1)[0]
    means = targets.T @ z / targets.sum(0)[:, None]
    assert torch.equal(answers(prototypes(z, targets, "euclidean"), new), torch.cdist(new, means).argmin(1))
    directions = normalize(targets.T @ normalize(z))
    assert torch.equal(answers(prototypes(z, targets, "cosine"), new), (normalize(new) @ directions.T).argmax(1))
    head = prototypes(z, targets, "mahalanobis")
    residuals = z - targets @ means
    inverse = scatter(z, targets, 13, head.facts["shrinkage"], float(residuals.square().sum()) / 13).inverse()
    assert torch.equal(answers(head, new), distances(new, means, inverse).argmin(1))


def test_logits_of_rows_of_one_length_are_proportional_to_their_cosines():
    z, targets = made(5)
    z = 3 * normalize(z)
    head = prototypes(z, targets, "cosine")
    cosines = z / 3 @ normalize(targets.T @ normalize(z)).T
    expected = head.facts["scale"] * (cosines - cosines.mean(1, keepdim=True))
    torch.testing.assert_close(z @ head.weight.T + head.bias, expected)


@pytest.mark.parametrize("shrinkage", [SHRINKAGES[0], SHRINKAGES[-1], None])
def test_leave_one_out_of_class_means_equals_means_and_scatter_without_each_row(shrinkage):
    z, targets = made(4, d=6, apart=0.5)
    metric = "euclidean" if shrinkage is None else "mahalanobis"
    (found,) = [each for each in _candidates(z, targets, metric) if each.chosen.get("shrinkage") == shrinkage]
    residuals = z - targets @ (targets.T @ z / targets.sum(0)[:, None])
    whole = float(residuals.square().sum()) / len(z)
    expected = []
    for row in range(len(z)):
        others = torch.arange(len(z)) != row
        means = targets[others].T @ z[others] / targets[others].sum(0)[:, None]
        inverse = torch.eye(6).double()
        if shrinkage is not None:
            inverse = scatter(z[others], targets[others], len(z), shrinkage, whole).inverse()
        expected.append(distances(z[[row]], means, inverse)[0])
    exact = torch.stack(expected)
    spread = exact[targets > 0].mean() * 3 / 4  # of a row around the mean of its class, where it was not in that mean
    exact[targets > 0] -= spread * (1 / 3 - 1 / 4)
    torch.testing.assert_close(-found.scores, exact)


def test_scatter_that_differs_by_direction_is_taken_into_account():
    stretch = torch.tensor([20.0, 1, 1, 1, 1, 1]).double()
    (z, targets), (new, wanted) = (made(30, d=6, apart=1.0, seed=seed) for seed in (0, 1))
    right = {
        metric: (answers(prototypes(z * stretch, targets, metric), new * stretch) == wanted.argmax(1)).double().mean()
        for metric in ("euclidean", "mahalanobis")
    }
    assert right["mahalanobis"] > right["euclidean"] + 0.05


def test_a_penalty_that_is_given_is_the_one_that_is_used():
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    targets = one_hot((z[:, 0] > 0).long(), 2)
    chosen = logistic(z, targets, "single_label_classification", 0)
    other = 3.0 if chosen.facts["penalty"] != 3.0 else 0.03
    given = logistic(z, targets, "single_label_classification", 0, penalties=(other,))
    assert given.facts["penalty"] == other
    assert not torch.allclose(given.weight, chosen.weight)
    same = logistic(z, targets, "single_label_classification", 0, penalties=(chosen.facts["penalty"],))
    torch.testing.assert_close(same.weight, chosen.weight)
