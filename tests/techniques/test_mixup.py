"""Mixup: blends of rows with targets of the same share."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.techniques.augment.mixup import Mixup, mixup

PARTNERS = torch.tensor([1, 0])


def batch(count: int = 8) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"pixel_values": torch.randn(count, 3, 4, 4), "labels": one_hot(torch.arange(count) % 3, 3).float()}


def test_inputs_and_targets_are_blended_in_the_same_share():
    given, weight = batch(2), torch.tensor([0.75, 1.0])
    made = mixup(given, PARTNERS, weight)
    pixels = given["pixel_values"]
    torch.testing.assert_close(made["pixel_values"][0], 0.75 * pixels[0] + 0.25 * pixels[1])
    torch.testing.assert_close(made["pixel_values"][1], pixels[1])
    torch.testing.assert_close(made["labels"], torch.tensor([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]))


def test_target_mass_stays_one_and_the_batch_is_copied():
    given = batch()
    before = given["pixel_values"].clone()
    made = Mixup(alpha=1.0).batch(given, nn.Identity())
    torch.testing.assert_close(made["labels"].sum(-1), torch.ones(8))
    assert torch.equal(given["pixel_values"], before)
    assert not torch.equal(made["pixel_values"], before)


def test_a_mask_covers_what_either_clip_covers():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    given = {"input_values": torch.ones(2, 4), "attention_mask": mask, "labels": torch.eye(2)}
    made = mixup(given, PARTNERS, torch.tensor([0.5, 0.5]))
    assert made["attention_mask"].tolist() == [[1, 1, 1, 0]] * 2
    assert made["attention_mask"].dtype == mask.dtype


def test_the_smaller_alpha_the_less_is_blended():
    torch.manual_seed(0)

    def doubt(alpha: float) -> float:
        return float((1 - Mixup(alpha=alpha).batch(batch(300), nn.Identity())["labels"].amax(-1)).mean())

    assert doubt(0.01) < doubt(0.2) < doubt(1.0)


def test_training_on_blends_leaves_a_network_less_sure_of_points_between_rows():
    """The paper's claim (figure 1): between the classes the output changes linearly, not at once."""

    def between(technique: Mixup | None) -> float:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        points = torch.cat([torch.randn(20, 2) * 0.2 - 1, torch.randn(20, 2) * 0.2 + 1])
        rows = {"pixel_values": points, "labels": one_hot(torch.arange(40) // 20, 2).float()}
        for _ in range(150):
            step = rows if technique is None else technique.batch(rows, model)
            loss = soft_cross_entropy(model(step["pixel_values"]), step["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        line = torch.linspace(-0.5, 0.5, 11)[:, None].expand(-1, 2)
        return float(model(line).softmax(-1).amax(-1).mean().detach())

    assert between(Mixup(alpha=1.0)) < between(None) - 0.1


@pytest.mark.parametrize("alpha", [0, -1])
def test_alpha_is_above_zero(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Mixup(alpha=alpha)
