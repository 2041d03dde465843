"""Ridge head: the last layer is the ridge regression of the network's own features."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.nn.linear_heads import ridge
from hf_smalldata.techniques.fewshot.ridge_head import RidgeHead
from hf_smalldata.techniques.fewshot.rows import features_of


def relabelled(context, values, **more):
    rows = context.train.remove_columns("label").add_column("label", values)
    return replace(context, train=rows, **more)


def logits(model, kit):
    with torch.no_grad():
        return model(**kit.batch(12)).logits


@pytest.mark.parametrize("task", ["text-classification", "image-classification", "audio-classification"])
def test_the_network_answers_with_the_ridge_regression_of_its_features(task, kits):
    kit = kits[task]
    model = RidgeHead().model(kit.network(), kit.context())
    z, _ = features_of(model, kit.context())
    head = ridge(z, torch.eye(3)[kit.rows["label"][:]], kit.problem_type)
    expected = z @ head.weight.float().T + head.bias.float()
    torch.testing.assert_close(logits(model, kit), expected, rtol=1e-2, atol=2e-2)
    assert (expected.argmax(1) == torch.tensor(kit.rows["label"][:])).float().mean() > 0.6


def test_what_was_chosen_is_told_to_the_run(text):
    context = text.context()
    RidgeHead().model(text.network(), context)
    assert set(context.facts["ridge_head"]) == {"penalty", "scale", "loo_loss", "loo_accuracy"}


def test_values_are_answered_as_values(text):
    values = [20.0 + 10 * label for label in text.rows["label"][:]]
    context = relabelled(text.context(), values, labels=(), problem_type="regression")
    model = text.task.load_model(text.spec, (), "regression")
    model = RidgeHead().model(model, context)
    assert torch.corrcoef(torch.stack([logits(model, text)[:, 0], torch.tensor(values)]))[0, 1] > 0.8


def test_sets_of_labels_have_a_logit_each(text):
    sets = [[int(label == 0), int(label != 1)] for label in text.rows["label"][:]]
    context = relabelled(text.context(), sets, labels=("a", "b"), problem_type="multi_label_classification")
    model = RidgeHead().model(text.task.load_model(text.spec, ("a", "b"), context.problem_type), context)
    assert ((logits(model, text) > 0) == torch.tensor(sets).bool()).float().mean() > 0.7


def test_balancing_is_for_rows_of_one_class(text):
    context = replace(text.context(), problem_type="regression")
    with pytest.raises(UserError, match=r"ridge_head\.balanced: rows need one class each"):
        RidgeHead(balanced=True).model(text.network(), context)


def test_rows_of_one_class_are_refused_by_its_name(text):
    with pytest.raises(UserError, match=r"rows of at least two classes are needed, found only 'food'"):
        RidgeHead().model(text.network(), relabelled(text.context(), [1] * 12))


def test_a_single_row_is_refused(text):
    context = replace(text.context(), train=text.rows.select([0]))
    with pytest.raises(UserError, match="at least two rows are needed, found 1"):
        RidgeHead().model(text.network(), context)


@pytest.mark.parametrize(("rows", "said"), [
    ([0, 1, 3, 4, 2], "one row only of weather; rows left out are of the other classes"),
    ([0, 1, 2], "one row only of animals, food, weather; no row can be left out, so strength and scale are fixed"),
])  # fmt: skip
def test_classes_of_one_row_are_named(rows, said, text, caplog):
    context = replace(text.context(), train=text.rows.select(rows))
    with caplog.at_level(logging.WARNING):
        model = RidgeHead().model(text.network(), context)
    assert caplog.messages == [f"ridge_head: {said}"]
    assert logits(model, text).isfinite().all()
