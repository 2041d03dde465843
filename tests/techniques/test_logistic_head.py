"""Logistic head: the last layer is the logistic regression of the network's own features."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.nn.logistic_heads import logistic
from hf_smalldata.techniques.fewshot.logistic_head import LogisticHead
from hf_smalldata.techniques.fewshot.rows import features_of


def test_the_network_answers_with_the_logistic_regression_of_its_features(text):
    context = text.context()
    model = LogisticHead().model(text.network(), context)
    z, _ = features_of(model, context)
    head = logistic(z, torch.eye(3)[text.rows["label"][:]], text.problem_type, seed=0)
    with torch.no_grad():
        given = model(**text.batch(12)).logits
    expected = z @ head.weight.float().T + head.bias.float()
    torch.testing.assert_close(given, expected, rtol=1e-2, atol=2e-2)
    assert set(context.facts["logistic_head"]) == {"penalty", "scale", "folds", "cv_loss", "cv_accuracy"}


def test_folds_come_from_the_seed_of_the_run(text):
    losses = []
    for seed in (0, 0, 1):
        context = text.context(seed)
        LogisticHead().model(text.network(), context)
        losses.append(context.facts["logistic_head"]["cv_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_values_are_refused_and_the_head_for_them_is_named(text):
    context = replace(text.context(), problem_type="regression")
    with pytest.raises(UserError, match="use ridge_head"):
        LogisticHead().model(text.network(), context)
