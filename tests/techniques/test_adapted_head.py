"""Adapted head: labels by class centres, domains about their own means, and a head that reads rows of the other one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hf_smalldata.data.made import Kin
from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.domain.adapted_head import AdaptedHead, about_their_means, by_centres
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.fewshot.targets import targets_of

LABELS = ("a", "b", "c")


def domain(seed: int, counts: tuple[int, ...], moved: float):
    """Rows of three classes in 20 dimensions, clumps that a domain moves: all to the third, and each by itself too."""
    rng = np.random.default_rng(seed)
    classes, drift = np.random.default_rng(7).normal(size=(2, 3, 20))
    labels = np.repeat(np.arange(3), counts)
    x = classes[labels] + moved * (2 * classes[2] + 0.5 * drift[labels]) + rng.normal(size=(len(labels), 20))
    return torch.from_numpy(x).float(), labels


def solo(count: int) -> Kin:
    return Kin(np.arange(count), np.ones(count, dtype=bool))


def adapted(text, technique, source, target):
    """A head for the target with its facts, and the mean about which that reads features."""
    (z, labels), (beside, _) = source, target
    targets = torch.eye(3)[torch.from_numpy(labels)]
    own = torch.zeros(len(z), dtype=torch.bool)
    context = replace(text.context(0), labels=LABELS)
    mean = beside.mean(0)
    return *technique.head(z - z.mean(0), targets, own, beside - mean, solo(len(z)), context), mean


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_one_domain_and_rows_of_another_make_a_head_for_that(seed, text):
    source, target = domain(seed, (30, 30, 30), 0), domain(100 + seed, (60, 60, 60), 1)
    unseen, truth = domain(200 + seed, (300, 300, 300), 1)
    plain = LogisticRegression(max_iter=1000).fit(*source).score(unseen, truth)
    head, facts, mean = adapted(text, AdaptedHead(), source, target)
    right = float((((unseen - mean).double() @ head.weight.T.double() + head.bias).argmax(1).numpy() == truth).mean())
    assert plain < 0.7
    assert right > 0.9
    assert facts["unlabelled_rows"] == 180


def test_shares_of_the_other_domain_are_believed(text):
    source, target = domain(0, (30, 30, 30), 0), domain(1, (20, 40, 240), 1)
    unseen, truth = domain(2, (40, 80, 480), 1)
    right = []
    for technique in (AdaptedHead(), AdaptedHead(shares={"a": 1, "b": 2, "c": 12})):
        head, facts, mean = adapted(text, technique, source, target)
        scores = (unseen - mean).double() @ head.weight.T.double() + head.bias
        right.append(float((scores.argmax(1).numpy() == truth).mean()))
    assert right[1] > right[0] + 0.05
    assert facts["shares"] == {"a": 0.0667, "b": 0.1333, "c": 0.8}


def test_labels_are_of_the_nearest_centre_and_each_class_has_its_share():
    angles = np.array([0.0, 0.1, 0.2, 1.4, 1.5, 1.6])
    x = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([[1], [9], [1], [1], [1], [5]])  # lengths say nothing
    said = np.array([[0.9, 0.1]] * 2 + [[0.4, 0.6]] * 2 + [[0.1, 0.9]] * 2)
    nobody, even = (np.zeros((0, 2)), np.zeros((0, 2))), np.array([0.5, 0.5])
    assert by_centres(x, said, *nobody, even).tolist() == [0, 0, 0, 1, 1, 1]
    all_one = np.array([[0.99, 0.01]] * 6) + np.linspace(0, 0.005, 6)[:, None] * [[-1, 1]]
    assert by_centres(x, all_one, *nobody, even).tolist() == [0, 0, 0, 1, 1, 1]


def test_labelled_rows_of_the_domain_are_among_its_centres():
    x = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    nothing, even = np.full((4, 2), 0.5), np.array([0.5, 0.5])
    own, targets = np.array([[3.0, 0.0], [-3.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    assert by_centres(x, nothing, own, targets, even).tolist() == [1, 1, 0, 0]


def test_each_domain_lies_about_its_mean():
    z = torch.tensor([[1.0, 2.0], [3.0, 6.0], [10.0, 10.0]])
    found = about_their_means(z, ["here", "here", "there"])
    assert found.tolist() == [[-1, -2], [1, 2], [0, 0]]
    assert z[0].tolist() == [1, 2]


def of_domain(rows, name: str, labelled: bool = False):
    told = rows if labelled else rows.remove_columns("label")
    return told.add_column("domain", [name] * len(rows))


def test_the_network_answers_as_the_head_does(text, image, audio, sequence):
    for kit in (text, image, audio, sequence):
        context = replace(kit.context(0), unlabelled=of_domain(kit.rows, "there"))
        z, _ = features_of(kit.network(), context)
        targets = targets_of(kit.rows, context, "adapted_head")
        about = z - z.mean(0)  # of both sides, which are the same rows here
        head, _ = AdaptedHead().head(
            about, targets, torch.zeros(len(z), dtype=torch.bool), about, solo(len(z)), context
        )
        network = AdaptedHead().trained(kit.network(), context)
        with torch.no_grad():
            said = network.eval()(**kit.batch(len(kit.rows))).logits
        torch.testing.assert_close(said, (about.double() @ head.weight.T + head.bias).float(), atol=1e-3, rtol=1e-3)
        assert context.facts["adapted_head"]["unlabelled_rows"] == len(kit.rows)


def test_labelled_rows_of_the_domain_beside_those_of_another(text):
    context = replace(text.context(0), unlabelled=of_domain(text.rows, "there"),
                      source=of_domain(text.rows, "here", labelled=True))  # fmt: skip
    network = AdaptedHead(most=5).trained(text.network(), context)
    assert context.facts["adapted_head"]["unlabelled_rows"] == 5
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    again = AdaptedHead(most=5).trained(text.network(), replace(context, facts={}))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_a_network_that_diverged_is_left_to_what_judges_it(text):
    network, context = text.network(), replace(text.context(0), unlabelled=of_domain(text.rows, "there"))
    for parameter in network.bert.parameters():
        parameter.data.fill_(float("nan"))
    assert AdaptedHead().trained(network, context) is network
    assert "adapted_head" not in context.facts


def test_unlabelled_rows_and_one_class_each_are_needed(text):
    context = text.context(0)
    with pytest.raises(UserError, match=r"adapted_head: there are no unlabelled rows; set data\.unlabelled"):
        AdaptedHead().trained(text.network(), replace(context, unlabelled=None))
    with pytest.raises(UserError, match="adapted_head: for rows of one class each"):
        AdaptedHead().check(context.train, replace(context, problem_type="multi_label_classification"))
    with pytest.raises(UserError, match=r"adapted_head\.shares: .*no class 'z'"):
        AdaptedHead(shares={"z": 1}).check(context.train, context)
    with pytest.raises(UserError, match=r"adapted_head: .*data\.source_labels says .*map them"):
        AdaptedHead().check(context.train, replace(context, source_labels=("x", "y")))
    content = {"task": "text-classification", "data": {"train": "a.csv"}, "model": {"name": "x"}}
    with pytest.raises(Problems, match=r"techniques\.adapted_head: needs unlabelled rows; set data\.unlabelled"):
        Recipe.parse({**content, "techniques": ["adapted_head"]})
