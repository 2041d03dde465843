"""Comparisons against numbers worked by hand, the t-tests they reduce to, and studies of which the truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from hf_smalldata.evaluation.comparison import (
    Needed,
    corrected_difference,
    corrected_interval,
    crossed_difference,
    holm,
    needed,
    resolution,
    verdict,
)

NAN = math.nan


def study(rng, seeds, rows, by_row=1.0, by_seed=0.2, residual=0.5, mean=0.0):
    """Differences (S, N) of the two-way random-effects model; arguments are standard deviations."""
    between_rows, between_seeds = rng.normal(size=(1, rows)) * by_row, rng.normal(size=(seeds, 1)) * by_seed
    return mean + between_rows + between_seeds + rng.normal(size=(seeds, rows)) * residual


def against_nothing(differences, **options):
    return crossed_difference(differences, np.zeros_like(differences), **options)


def test_crossed_difference_is_the_sum_worked_by_hand():
    a = np.array([[3.0, 1, 2, 6], [1, 2, 2, 3], [5, 3, 8, 12]])
    found = crossed_difference(a, np.ones((3, 4)))
    # Seeds' means 2, 1, 6 have variance 7, rows' means 2, 1, 3, 6 have 14 / 3; squares of 20 are left, over 2 * 3.
    assert found.difference.value == 3
    assert (found.by_row, found.by_seed, found.residual) == pytest.approx((14 / 3 - 10 / 9, 7 - 10 / 12, 10 / 3))
    variance = 14 / 12 + 7 / 3 - 10 / 36  # 29 / 9
    share = 7 / 3 / variance  # 21 / 29
    critical = share * stats.t.ppf(0.975, 2) + (1 - share) * stats.t.ppf(0.975, 3)
    half = critical * math.sqrt(variance)
    assert found.difference[1:] == pytest.approx((3 - half, 3 + half))


def test_p_is_one_minus_the_level_of_the_interval_that_just_touches_zero():
    rng = np.random.default_rng(0)
    for seeds, mean in ((2, 0.1), (3, 0.6), (10, -0.9)):
        scores = study(rng, seeds, 40, mean=mean)
        found = against_nothing(scores)
        touching = against_nothing(scores, level=1 - found.p).difference
        assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-9)
    assert against_nothing(np.tile([1.0, -1.0], (3, 20))).p == pytest.approx(1)


@pytest.mark.parametrize("agreeing", ["seeds", "rows"])
def test_where_all_seeds_or_all_rows_agree_it_is_the_paired_t_test_over_the_other(agreeing):
    a, b = np.random.default_rng(1).normal(size=(2, 20))
    found = crossed_difference(*(np.tile(each, (3, 1)) if agreeing == "seeds" else np.tile(each[:, None], 30)
                                 for each in (a, b)))  # fmt: skip
    expected = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference[1:] == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_the_other_way_round_changes_the_sign_only():
    a, b = np.random.default_rng(3).normal(size=(2, 4, 30))
    there, back = crossed_difference(a, b), crossed_difference(b, a)
    assert there.difference == pytest.approx((-back.difference.value, -back.difference.high, -back.difference.low))
    assert there.p == pytest.approx(back.p)


def test_what_rows_and_seeds_do_to_both_is_paired_away():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, (2, 3, 50)).astype(float)
    both = 5 * rng.normal(size=(1, 50)) + 5 * rng.normal(size=(3, 1))
    assert crossed_difference(a + both, b + both).p == pytest.approx(crossed_difference(a, b).p)


def test_components_below_zero_take_nothing_from_the_variance():
    checkerboard = np.tile([[1.0, -1], [-1, 1]], (2, 10))
    found = against_nothing(checkerboard + np.linspace(0, 0.1, 20))
    assert found.by_row < 0
    assert found.by_seed < 0
    variance = found.residual / 80
    share = (found.by_seed / 4 + variance) / variance
    critical = share * stats.t.ppf(0.975, 3) + (1 - share) * stats.t.ppf(0.975, 19)
    assert found.difference.high - found.difference.value == pytest.approx(critical * math.sqrt(variance))


def test_one_seed_has_an_interval_over_rows_and_no_p():
    a, b = np.random.default_rng(5).normal([[3], [0]], size=(2, 80))
    found = crossed_difference(a, b)
    assert found.difference[1:] == pytest.approx(tuple(stats.ttest_rel(a, b).confidence_interval(0.95)))
    assert math.isnan(found.p)
    assert verdict(found, holm([found.p])[0]) == "not resolved"
    assert needed(found) == Needed(None, None)


def test_predictors_that_never_differ_have_no_interval_and_p_one():
    same = np.random.default_rng(6).integers(0, 2, (3, 40))
    found = crossed_difference(same, same)
    assert found.difference.value == 0
    assert math.isnan(found.difference.low)
    assert found.p == 1
    assert verdict(found, found.p) == "not resolved"
    assert needed(found) == Needed(None, None)


@pytest.mark.parametrize(
    "scores", [[[0.1 + 0.2, 0.3], [0.3, 0.3]], np.zeros((1, 40)), [[0.1], [0.3]], [[NAN, 1], [1, 1]]]
)
def test_too_little_to_tell_has_a_value_only(scores):
    found = against_nothing(np.asarray(scores))
    assert found.difference.value == pytest.approx(np.mean(scores), nan_ok=True)
    assert math.isnan(found.difference.low)
    assert math.isnan(found.p)


@pytest.mark.parametrize("shapes", [((2, 5), (2, 6)), ((0, 5), (0, 5)), ((2, 2, 2), (2, 2, 2))])
def test_scores_of_other_rows_are_refused(shapes):
    with pytest.raises(ValueError, match="same rows"):
        crossed_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_a_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"0\.95"):
        against_nothing(study(np.random.default_rng(7), 3, 20), level=95)


def test_a_difference_beyond_all_doubt_still_has_a_p_above_zero():
    assert 0 < against_nothing(study(np.random.default_rng(8), 50, 400, mean=1e6, by_seed=0)).p < 1e-100


def test_corrected_difference_is_nadeau_and_bengios():
    differences = [0.02, 0.05, -0.01, 0.04, 0.06]
    found = corrected_difference(differences, 0.25)
    error = np.std(differences, ddof=1) * math.sqrt(1 / 5 + 1 / 4)
    assert found.difference.value == pytest.approx(0.032)
    assert found.p == pytest.approx(2 * stats.t.sf(0.032 / error, 4))
    half = stats.t.ppf(0.975, 4) * error
    assert found.difference[1:] == pytest.approx((0.032 - half, 0.032 + half))


def test_folds_that_share_no_training_rows_leave_the_plain_t_test():
    differences = np.random.default_rng(9).normal(size=15)
    found = corrected_difference(differences, 1e-12)
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_the_interval_of_a_mean_score_is_the_one_of_a_difference_from_zero():
    scores = np.random.default_rng(10).normal(size=(3, 5))
    assert corrected_interval(scores, 0.25) == pytest.approx(corrected_difference(scores.ravel(), 0.25).difference)


@pytest.mark.parametrize(("differences", "p"), [([0.0] * 5, 1), ([0.1] * 5, NAN), ([0.1], NAN), ([0.0], NAN)])
def test_folds_that_do_not_vary_have_no_interval(differences, p):
    found = corrected_difference(differences, 0.25)
    assert found.difference.value == pytest.approx(differences[0])
    assert math.isnan(found.difference.low)
    assert found.p == pytest.approx(p, nan_ok=True)


def test_holm_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_does_not_count_what_has_no_p():
    assert holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)
    assert holm([]) == []


def test_adjusted_p_keep_the_order_and_stay_probabilities():
    p = np.random.default_rng(11).random(20)
    adjusted = np.array(holm(p.tolist()))
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (adjusted >= p).all()
    assert adjusted.max() <= 1


def test_verdict_reads_the_corrected_p_and_the_sign():
    rng = np.random.default_rng(12)
    better, worse = (against_nothing(study(rng, 5, 100, mean=mean)) for mean in (1, -1))
    assert verdict(better, 0.04) == "helped"
    assert verdict(worse, 0.05) == "hurt"
    assert verdict(better, 0.06) == "not resolved"
    assert verdict(better, 0.06, alpha=0.1) == "helped"
    assert verdict(better, NAN) == "not resolved"


def test_seeds_needed_are_the_fewest_that_exclude_zero():
    rng = np.random.default_rng(13)
    pilot = study(rng, 4, 2000, by_seed=1, mean=0.7)
    found = against_nothing(pilot)
    enough = needed(found).seeds
    assert found.difference.low < 0
    assert enough > 4
    # Where the seeds alone count, an interval over S seeds is Student's.
    error = pilot.mean(1).std(ddof=1)
    halves = [stats.t.ppf(0.975, s - 1) * error / math.sqrt(s) for s in (enough - 1, enough)]
    assert halves[1] < found.difference.value < halves[0]


def test_more_seeds_cannot_make_up_for_few_rows():
    found = against_nothing(study(np.random.default_rng(14), 5, 40, by_seed=0, residual=0, mean=0.1))
    more = needed(found)
    assert more.seeds is None
    assert 300 < more.rows < 3000  # 2 * 1 / sqrt(rows) < 0.1, with the mean and spread of 40 rows


def test_more_rows_cannot_make_up_for_few_seeds():
    found = against_nothing(study(np.random.default_rng(15), 3, 40, by_row=0.1, by_seed=1, mean=0.5))
    assert needed(found).rows is None


def test_what_is_resolved_needs_no_more():
    found = against_nothing(study(np.random.default_rng(16), 5, 100, mean=1))
    assert found.difference.low > 0
    assert needed(found) == Needed(5, 100)


def test_a_family_needs_more_than_one_comparison():
    found = against_nothing(study(np.random.default_rng(17), 4, 300, by_seed=0.5, mean=-0.2))
    assert needed(found, level=1 - 0.05 / 4).seeds > needed(found).seeds > 4


def test_repeats_take_away_little_of_the_doubt_under_cross_validation():
    rng = np.random.default_rng(18)
    folds = rng.permutation(np.linspace(-1, 1, 5)) * 0.1 + 0.06
    hopeless, near = corrected_difference(folds, 0.25, rows=50), corrected_difference(folds + 0.04, 0.25, rows=50)
    assert needed(hopeless).seeds is None  # 2 s sqrt(1 / 4) = 0.079 with repeats without end
    repeats = needed(near).seeds
    halves = [
        stats.t.ppf(0.975, 5 * r - 1) * folds.std(ddof=1) * math.sqrt(0.25 + 0.2 / r) for r in (repeats - 1, repeats)
    ]
    assert halves[1] < near.difference.value < halves[0]
    half = hopeless.difference.high - hopeless.difference.value
    assert needed(hopeless).rows == math.ceil(50 * (half / hopeless.difference.value) ** 2)


def test_repeats_are_told_from_folds():
    assert corrected_difference(np.random.default_rng(19).normal(size=30), 1 / 9).seeds == 3
    assert corrected_difference(np.random.default_rng(19).normal(size=30), 1 / 4).seeds == 6


def test_without_a_number_of_rows_none_are_asked_for():
    assert needed(corrected_difference([0.1, 0.2, 0.0, -0.1, 0.2], 0.25)).rows is None


def test_forty_rows_cannot_resolve_ten_points():
    assert resolution(40, 0.1) == pytest.approx(0.098, abs=1e-3)
    assert resolution(160, 0.1) == pytest.approx(resolution(40, 0.1) / 2)
    assert resolution(40, 0.0) == 0
    with pytest.raises(ValueError, match="disagreement"):
        resolution(0, 0.1)


def test_resolution_is_the_half_width_of_rows_that_disagree_both_ways():
    a = np.array([1] * 30 + [0] * 30 + [1] * 540, dtype=float)
    b = np.array([0] * 30 + [1] * 30 + [1] * 540, dtype=float)
    assert crossed_difference(a, b).difference.high == pytest.approx(resolution(600, 0.1), rel=0.01)


@pytest.mark.parametrize(("seeds", "by_row", "by_seed"), [(3, 1, 0.2), (3, 0, 1), (3, 1, 0.1), (5, 1, 0.2), (10, 1, 0)])
def test_crossed_intervals_hold_the_truth(seeds, by_row, by_seed):
    rng = np.random.default_rng(20)
    found = [against_nothing(study(rng, seeds, 50, by_row, by_seed, mean=0.3)).difference for _ in range(400)]
    held = sum(one.low <= 0.3 <= one.high for one in found)
    assert held >= stats.binom.ppf(0.001, 400, 0.95)


def test_a_family_without_effects_is_called_helped_or_hurt_in_one_of_twenty():
    rng = np.random.default_rng(21)
    false = 0
    for _ in range(400):
        plain, *techniques = study(rng, 3, 50, 0, 0, 0), *(study(rng, 3, 50, 0.7, 0.2) for _ in range(4))
        compared = [crossed_difference(one, plain) for one in techniques]
        adjusted = holm([one.p for one in compared])
        false += any(verdict(one, p) != "not resolved" for one, p in zip(compared, adjusted, strict=True))
    assert false <= stats.binom.ppf(0.999, 400, 0.05)


def test_cross_validated_intervals_hold_the_truth():
    """Nearest class mean on either of two feature blocks that are alike, so that the true difference is 0."""
    rng = np.random.default_rng(22)
    held = 0
    for _ in range(400):
        labels = np.tile([-1.0, 1.0], 30)
        x = rng.normal(size=(2, 60, 4)) + 0.5 * labels[:, None]
        fold = rng.permuted(np.tile(np.arange(5), (2, 6)), axis=1).T.ravel()  # each class in each fold
        differences = []
        for k in range(5):
            train, test = fold != k, fold == k
            direction = (x[:, train] * labels[train, None]).mean(1)  # classes are as large and symmetric about 0
            right = np.einsum("pnd,pd->pn", x[:, test], direction) * labels[test] > 0
            differences.append(right[0].mean() - right[1].mean())
        found = corrected_difference(differences, 0.25)
        held += found.p == 1 or found.difference.low <= 0 <= found.difference.high
    assert stats.binom.ppf(0.001, 400, 0.95) <= held < 400
