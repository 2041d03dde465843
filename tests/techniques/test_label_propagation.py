"""Label propagation: labels spread as the formula says, heads learn from them, and left-out rows say whether to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize

from hf_smalldata.data.made import Kin
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.selftrain.label_propagation import LabelPropagation, propagated


def test_labels_are_those_of_the_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    labels = np.full(60, -1)
    labels[:6] = [0, 1, 2, 0, 1, 2]
    near = kneighbors_graph(normalize(x), 4).toarray()
    graph = near + near.T
    degree = graph.sum(1) ** -0.5
    spread = degree[:, None] * graph * degree[None]
    targets = np.eye(3)[labels] * (labels >= 0)[:, None]
    expected = np.linalg.solve(np.eye(60) - 0.8 * spread, targets)  # eq. 4 of the paper, up to a factor
    decided = np.sort(expected, axis=1)
    sure = (decided[:, -1] > 1.05 * decided[:, -2]) & (labels < 0)
    assert sure.sum() > 30
    found = propagated(x, labels, 4, 0.8)
    assert found[sure].tolist() == expected.argmax(1)[sure].tolist()
    assert found[:6].tolist() == [0, 1, 2, 0, 1, 2]


def moons(seed: int, count: int = 300):
    """Two half moons on a cap of the sphere, where cosine distances are those of the plane."""
    points, labels = make_moons(count, noise=0.05, random_state=seed)
    return np.concatenate([points - points.mean(0), np.full((count, 1), 4.0)], 1), labels


def test_two_moons_are_told_apart_by_two_labels_each():
    """Figure 1 of the paper: what no head of the labelled rows alone can do."""
    for seed in range(20):
        x, truth = moons(seed)
        shown = np.concatenate([np.flatnonzero(truth == label)[:2] for label in (0, 1)])
        labels = np.full(len(x), -1)
        labels[shown] = truth[shown]
        assert (propagated(x, labels, 10, 0.99) == truth).mean() > 0.97
        assert (LogisticRegression().fit(x[shown], truth[shown]).predict(x) == truth).mean() < 0.97


def clumps(seed: int):
    """Three long clumps: 4 labelled points of each, 200 without a label and 300 to judge by, with their classes."""
    rng = np.random.default_rng(seed)
    centres, stretch = 4 * np.eye(3, 8), np.diag([1.0, 1, 1, 4, 4, 0.3, 0.3, 0.3])
    parts = []
    for count in (12, 200, 300):
        labels = np.arange(count) % 3
        parts += [torch.tensor(centres[labels] + rng.normal(size=(count, 8)) @ stretch), torch.tensor(labels)]
    return parts


def known(count: int) -> Kin:
    return Kin(np.arange(count), np.ones(count, dtype=bool))


def test_heads_learn_from_unlabelled_rows_too():
    gains = []
    for seed in range(5):
        x, y, beside, _, test, truth = clumps(seed)
        found = []
        for technique_beside in (beside, x[:0]):
            kwargs = (x, torch.eye(3)[y], technique_beside, known(12), seed)
            head = LabelPropagation().head(*kwargs)
            found.append(float(((test @ head.weight.T + head.bias).argmax(1) == truth).double().mean()))
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / 5**0.5 > 0


def test_where_features_mix_the_classes_the_labelled_rows_alone_decide(caplog):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = rng.normal(size=(40, 30))
    x[:, 0] = 0.6 * (2 * labels - 1)  # one weak direction among strong ones that say nothing
    beside = 3 * rng.normal(size=(400, 30)) + rng.normal(size=(1, 30))
    head = LabelPropagation().head(
        torch.tensor(x), torch.eye(2)[torch.tensor(labels)], torch.tensor(beside), known(40), 0
    )
    assert head.facts["used"] is False
    assert "label_propagation: had no effect, on labelled rows that are left out the others alone are" in caplog.text


def test_the_network_is_filled_from_both_kinds_of_rows(text):
    unlabelled = text.rows.remove_columns("label").add_column("domain", ["a"] * len(text.rows))
    context = replace(text.context(), unlabelled=unlabelled)
    model = LabelPropagation(neighbours=50).model(text.network(), context)  # more than there are
    with torch.no_grad():
        assert model(**text.batch(12)).logits.isfinite().all()
    facts = context.facts["label_propagation"]
    assert facts["unlabelled_rows"] == len(text.rows)
    assert isinstance(facts["used"], bool)


def test_no_more_rows_are_looked_at_than_are_asked_for(text):
    beside = text.rows.remove_columns("label").add_column("domain", ["here"] * len(text.rows))
    context = replace(text.context(), unlabelled=beside)
    LabelPropagation(most=5).model(text.network(), context)
    assert context.facts["label_propagation"]["unlabelled_rows"] == 5


def test_it_needs_unlabelled_rows_and_one_class_each(text):
    with pytest.raises(UserError, match=r"there are no unlabelled rows; set data\.unlabelled"):
        LabelPropagation().model(text.network(), replace(text.context(), unlabelled=None))
    with pytest.raises(UserError, match="for rows of one class each"):
        LabelPropagation().model(text.network(), replace(text.context(), problem_type="regression"))
