"""LP-FT: the head starts as the probe of the features, everything learns from there, and features move less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.transfer.linear_probe_then_finetune import LinearProbeThenFinetune

KINDS = ["text-classification", "image-classification", "audio-classification"]


def loss(model, kit) -> float:
    model.eval()
    with torch.no_grad():
        return float(cross_entropy(model(**kit.batch(12)).logits, torch.tensor(kit.rows["label"][:])))


@pytest.mark.parametrize("modality", KINDS)
def test_training_starts_at_a_lower_loss_than_from_a_random_head(modality, kits):
    kit = kits[modality]
    model = LinearProbeThenFinetune().model(kit.network(), kit.context())
    assert loss(model, kit) < 0.9 * loss(kit.network(), kit)


@pytest.mark.parametrize("modality", KINDS)
def test_all_that_learnt_before_still_learns_and_its_weights_are_of_usual_size(modality, kits):
    kit = kits[modality]
    learning = {name for name, p in kit.network().named_parameters() if p.requires_grad}
    model = LinearProbeThenFinetune().model(kit.network(), kit.context())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learning
    assert float(model.classifier.weight.detach().abs().max()) < 30


def test_features_are_distorted_less_than_from_a_random_head(text, trainer):
    moved = []
    for network in (text.network(), LinearProbeThenFinetune().model(text.network(), text.context())):
        network.eval()
        with torch.no_grad():
            before = network.bert(**text.batch(12)).last_hidden_state[:, 0]
        trainer(text, network, [], learning_rate=1e-3, num_train_epochs=3, optim="sgd", max_grad_norm=0).train()
        network.eval()
        with torch.no_grad():
            moved.append(float((network.bert(**text.batch(12)).last_hidden_state[:, 0] - before).norm()))
    assert moved[1] < 0.8 * moved[0]


def test_values_get_a_ridge_regression(text):
    network = text.task.load_model(text.spec, (), "regression")
    values = [0.5 * len(words.split()) for words in text.rows["text"]]
    rows = Dataset.from_dict({**text.rows.to_dict(), "label": values})
    context = replace(text.context(), problem_type="regression", labels=(), train=rows)
    model = LinearProbeThenFinetune().model(network, context)
    with torch.no_grad():
        found = model(**text.batch(12)).logits[:, 0]
    assert float((found - torch.tensor(values)).square().mean()) < float(torch.tensor(values).var())
    assert "loo_loss" in context.facts["linear_probe_then_finetune"]


def test_rows_of_one_class_are_refused(text):
    context = replace(text.context(), train=text.rows.select([0, 3, 6]))
    with pytest.raises(UserError, match="linear_probe_then_finetune: rows of at least two classes are needed"):
        LinearProbeThenFinetune().model(text.network(), context)
