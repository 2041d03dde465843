"""Prototypes: the last layer answers with the nearest class mean; names of classes can be rows."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.fewshot.prototypes import Prototypes
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.fewshot.template import with_names


def answers(model, kit):
    with torch.no_grad():
        return model(**kit.batch(12)).logits.argmax(1)


@pytest.mark.parametrize("task", ["text-classification", "image-classification", "sequence-classification"])
def test_each_row_gets_the_class_of_the_nearest_mean(task, kits):
    kit = kits[task]
    model = Prototypes(metric="euclidean").model(kit.network(), kit.context())
    z, _ = features_of(model, kit.context())
    labels = torch.tensor(kit.rows["label"][:])
    means = torch.stack([z[labels == label].mean(0) for label in range(len(kit.labels))])
    assert torch.equal(answers(model, kit), torch.cdist(z, means).argmin(1))


def test_the_name_of_a_class_counts_as_one_more_row_of_it(text):
    context = text.context()
    model = Prototypes(metric="euclidean", class_names=True, template="the {}").model(text.network(), context)
    z, _ = features_of(model, context, with_names(text.rows, text.labels, "the {}"))
    labels = torch.tensor([*text.rows["label"][:], 0, 1, 2])
    means = torch.stack([z[labels == label].mean(0) for label in range(3)])
    assert torch.equal(answers(model, text), torch.cdist(z[:12], means).argmin(1))


def test_names_make_rows_of_classes_without_any(text, caplog):
    context = replace(text.context(), train=text.rows.select([0, 1, 3, 4]))  # none of the third class
    with caplog.at_level(logging.WARNING):
        Prototypes(class_names=True).model(text.network(), context)
    assert caplog.messages == ["prototypes: one row only of weather; rows left out are of the other classes"]


def test_rows_of_names_have_ids_of_their_own_and_an_empty_second_text(text):
    rows = text.rows.add_column("text_pair", ["more"] * 12)
    made = with_names(rows, ("a", "b_c"), "about {}").select(range(12, 14))
    assert made["text"][:] == ["about a", "about b c"]
    assert made["label"][:] == [0, 1]
    assert made["text_pair"][:] == ["", ""]
    assert not set(made["id"]) & set(rows["id"])


def test_what_was_chosen_is_told_to_the_run(text):
    context = text.context()
    Prototypes().model(text.network(), context)
    assert set(context.facts["prototypes"]) == {"scale", "shrinkage", "loo_loss", "loo_accuracy"}


def test_names_are_for_texts(image):
    with pytest.raises(UserError, match=r"prototypes\.class_names: names can only stand among texts, not images"):
        Prototypes(class_names=True).model(image.network(), image.context())


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_rows_need_one_class_each(problem_type, text):
    with pytest.raises(UserError, match=r"prototypes: rows need one class each.*use ridge_head"):
        Prototypes().model(text.network(), replace(text.context(), problem_type=problem_type))
