"""R-Drop: two draws of a row, the divergence of their predictions, and predictions that agree more."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_smalldata.errors import UserError
from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.techniques.regularise.rdrop import RDrop, symmetric_divergence


def test_the_divergence_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    one, two = torch.randn(5, 3), torch.randn(5, 3)
    p, q = one.log_softmax(-1), two.log_softmax(-1)
    both = [functional.kl_div(a, b, reduction="none", log_target=True).sum(-1) for a, b in ((p, q), (q, p))]
    torch.testing.assert_close(symmetric_divergence(one, two), sum(both) / 2)


def test_equal_predictions_have_no_divergence_whatever_their_scale():
    logits = torch.tensor([[3.0, -1.0, 0.0]])
    assert symmetric_divergence(logits, logits + 7).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_becomes_its_rows_twice_and_unlabelled_rows_stay():
    batch = {
        "input_ids": torch.arange(6).view(2, 3),
        "labels": torch.eye(2),
        "unlabelled": {"input_ids": torch.ones(1)},
    }
    made = RDrop().batch(batch, nn.Identity())
    assert made["input_ids"].tolist() == [[0, 1, 2], [3, 4, 5]] * 2
    assert torch.equal(made["labels"], torch.eye(2).repeat(2, 1))
    assert made["unlabelled"] is batch["unlabelled"]


def test_the_penalty_is_alpha_times_the_mean_over_rows():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), functional.one_hot(torch.tensor([0, 2, 0, 2]), 3).float()
    expected = 2.5 * symmetric_divergence(logits[:2], logits[2:]).mean()
    found = RDrop(alpha=2.5).penalty(nn.Identity(), {"labels": labels}, SimpleNamespace(logits=logits))
    torch.testing.assert_close(found, expected)


def test_tokens_without_a_word_need_not_agree():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 3), torch.zeros(2, 4, 3)
    labels[:, :3, 1] = 1
    found = RDrop().penalty(nn.Identity(), {"labels": labels}, SimpleNamespace(logits=logits))
    torch.testing.assert_close(found, symmetric_divergence(logits[:1, :3], logits[1:, :3]).mean())


def test_it_says_that_inputs_stay_so_that_cached_states_can_be_kept():
    assert RDrop.keeps_inputs


def disagreement(alpha: float | None) -> float:
    """Mean divergence of two draws after training with and without the penalty."""
    torch.manual_seed(0)
    rows, labels = torch.randn(24, 6), functional.one_hot(torch.arange(24) % 3, 3).float()
    network = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        batch = RDrop().batch({"rows": rows, "labels": labels}, network)
        logits = network(batch["rows"])
        loss = soft_cross_entropy(logits, batch["labels"])
        if alpha is not None:
            loss = loss + RDrop(alpha=alpha).penalty(network, batch, SimpleNamespace(logits=logits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(torch.stack([symmetric_divergence(network(rows), network(rows)) for _ in range(20)]).mean())


def test_two_draws_of_dropout_agree_more_the_larger_alpha_is():
    without, little, much = (disagreement(alpha) for alpha in (None, 1.0, 5.0))
    assert much < little < 0.7 * without


def test_it_says_where_there_is_no_dropout(text, image, caplog):
    RDrop().model(text.network(), text.context())
    assert caplog.text == ""
    RDrop().model(image.network(), image.context())
    assert "rdrop: had no effect, ViTForImageClassification has no dropout" in caplog.text


def test_looking_for_dropout_moves_neither_draws_nor_statistics(timm, image):
    network = timm("resnet10t")
    before = {name: buffer.clone() for name, buffer in network.named_buffers() if "num_batches" not in name}
    torch.manual_seed(3)
    RDrop().model(network, image.context())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(buffer, dict(network.named_buffers())[name]) for name, buffer in before.items())


def test_rows_mixed_after_it_are_refused():
    labels = torch.tensor([[1.0, 0.0], [0.6, 0.4]])
    with pytest.raises(UserError, match="put it after the techniques that mix"):
        RDrop().penalty(nn.Identity(), {"labels": labels}, SimpleNamespace(logits=torch.randn(2, 2)))


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_rows_without_one_class_are_refused(problem_type, text):
    with pytest.raises(UserError, match="rdrop: for single-label rows"):
        RDrop().model(text.network(), replace(text.context(), problem_type=problem_type))


@pytest.mark.parametrize("alpha", [0, -1])
def test_alpha_is_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        RDrop(alpha=alpha)
