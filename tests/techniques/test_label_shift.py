"""Label shift: offsets give the shares that were asked for, are Bayes' rule where that holds, and become biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.selftrain.label_shift import LabelShift
from hf_smalldata.techniques.shares import offsets


def test_the_mean_prediction_becomes_the_shares():
    rng = np.random.default_rng(0)
    said = softmax(2 * rng.normal(size=(4000, 4)) + [1, 0, 0, -1], axis=1)
    wanted = np.array([0.1, 0.2, 0.6, 0.1])
    found = offsets(said, wanted)
    np.testing.assert_allclose(softmax(np.log(said) + found, axis=1).mean(0), wanted, atol=2e-3)
    assert found.mean() == pytest.approx(0)
    np.testing.assert_allclose(offsets(said, said.mean(0)), 0, atol=1e-3)


def two_normals(rng, count: int, share: float):
    """Points of two unit normals at -1 and 1, and which of them each is of."""
    labels = rng.random(count) < share
    return rng.normal(size=count) + np.where(labels, 1, -1), labels


def test_where_probabilities_are_right_the_offsets_are_the_ratio_of_shares():
    """Bayes' rule, eq. 2.4 of Saerens et al. 2002 (https://doi.org/10.1162/089976602753284446)."""
    x, labels = two_normals(np.random.default_rng(0), 20_000, 0.9)
    right = expit(2 * x)  # of the second class, were both alike frequent
    found = offsets(np.stack([1 - right, right], 1), np.array([0.1, 0.9]))
    assert found[1] - found[0] == pytest.approx(np.log(0.9 / 0.1), abs=0.15)
    before, after = ((2 * x + move > 0) == labels for move in (0, found[1] - found[0]))
    assert after.mean() > before.mean() + 0.05


def test_few_labels_of_each_class_and_known_shares_are_better_than_few_labels():
    """What the technique claims: a boundary that few rows put in the wrong place, for other shares, moves back."""
    gains = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, _ = two_normals(rng, 2000, 0.8)
        middle = rng.normal(scale=0.6)  # a boundary learnt from few rows
        said = expit(2 * (x - middle))
        move = np.diff(offsets(np.stack([1 - said, said], 1), np.array([0.2, 0.8])))[0]
        unseen, truth = two_normals(rng, 4000, 0.8)
        right = [((2 * (unseen - middle) + by > 0) == truth).mean() for by in (0, move)]
        assert right[1] > 0.87  # 0.89 is the most that can be had
        gains.append(right[1] - right[0])
    assert min(gains) > -0.005  # where luck had put it in the right place
    assert np.mean(gains) > 0.05


def test_a_few_sure_rows_move_no_class_without_bound():
    said = np.tile([[1.0, 0.0, 0.0]], (5, 1))
    assert np.abs(offsets(said, np.array([0.01, 0.01, 0.98]))).max() < 50
    assert np.isfinite(offsets(said, np.array([1, 1, 1]) / 3)).all()


def unlabelled(kit):
    return kit.rows.remove_columns("label").add_column("domain", ["here"] * len(kit.rows))


def test_the_network_says_each_class_as_often_as_it_is_told(text, image, audio, sequence):
    for kit in (text, image, audio, sequence):
        network = kit.network()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        context = replace(kit.context(0), unlabelled=unlabelled(kit))
        given = {label: 10 * (at + 1) for at, label in enumerate(kit.labels)}  # any counts
        found = LabelShift(shares=given).trained(network, context)
        changed = [name for name, tensor in found.state_dict().items() if not torch.equal(tensor, before[name])]
        assert len(changed) == 1
        assert changed[0].endswith("bias")
        with torch.no_grad():
            said = found.eval()(**kit.batch(len(kit.rows))).logits.softmax(-1).mean(0).numpy()
        facts = context.facts["label_shift"]
        wanted = np.array(list(facts["shares"].values()))
        was = np.array(list(facts["shares_before"].values()))
        np.testing.assert_allclose(wanted, np.arange(1, len(wanted) + 1) / sum(range(1, len(wanted) + 1)), atol=1e-4)
        assert np.abs(said - wanted).max() < 0.35 * np.abs(was - wanted).max()  # of so few rows not wholly
        assert facts["unlabelled_rows"] == len(kit.rows)
        assert "says each class as often as it was told" in facts["disclosed"]


def test_without_shares_all_classes_are_alike_frequent_and_most_limits_the_rows(text):
    context = replace(text.context(0), unlabelled=unlabelled(text))
    LabelShift(most=5).trained(text.network(), context)
    facts = context.facts["label_shift"]
    assert set(facts["shares"].values()) == {round(1 / len(text.labels), 4)}
    assert facts["unlabelled_rows"] == 5
    assert "alike often" in facts["disclosed"]


def test_shares_are_of_the_classes_that_there_are(text):
    context, first = text.context(0), text.labels[0]
    LabelShift(shares=dict.fromkeys(text.labels, 1)).check(context.train, context)
    with pytest.raises(UserError, match=rf"a share above 0 for each of .*none for .*no class '{first}x'.*{first}"):
        LabelShift(shares={f"{first}x": 0.5}).check(context.train, context)
    several = replace(context, problem_type="multi_label_classification")
    with pytest.raises(UserError, match=r"label_shift: for rows of one class each.*leave it out"):
        LabelShift().check(context.train, several)
    assert LabelShift(shares={0: 1, 1: 3}).shares == {"0": 1.0, "1": 3.0}  # labels that YAML takes for numbers


WRONG = [{"a": 0}, {"a": -1}, {"a": float("inf")}, {"a": float("nan")}, {"a": True}, {"a:1": None}, {}, "equal", [1, 1]]


@pytest.mark.parametrize("shares", WRONG)
def test_shares_are_numbers_above_zero(shares):
    content = {"task": "text-classification", "data": {"train": "a.csv", "unlabelled": "rest"}, "model": {"name": "x"},
               "techniques": [{"label_shift": {"shares": shares}}]}  # fmt: skip
    with pytest.raises(Problems, match=r"label_shift\.shares: .*expected a number above 0 for each class, such as {"):
        Recipe.parse(content)


def test_a_network_that_diverged_is_left_to_what_judges_it(text):
    network, context = text.network(), replace(text.context(0), unlabelled=unlabelled(text))
    network.classifier.weight.data.fill_(float("nan"))
    assert LabelShift().trained(network, context) is network
    assert "label_shift" not in context.facts


def test_logits_without_a_bias_and_no_unlabelled_rows_are_refused(text):
    network, context = text.network(), replace(text.context(0), unlabelled=unlabelled(text))
    network.classifier = nn.Linear(network.classifier.in_features, len(text.labels), bias=False)
    with pytest.raises(UserError, match="label_shift: no bias moves the logits of Bert"):
        LabelShift().trained(network, context)
    with pytest.raises(UserError, match=r"there are no unlabelled rows; set data\.unlabelled"):
        LabelShift().trained(network, replace(context, unlabelled=None))
    content = {"task": "text-classification", "data": {"train": "a.csv"}, "model": {"name": "x"}}
    with pytest.raises(Problems, match=r"techniques\.label_shift: needs unlabelled rows; set data\.unlabelled"):
        Recipe.parse({**content, "techniques": ["label_shift"]})
