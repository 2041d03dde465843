"""CutMix: rectangles of other images, targets by area."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_smalldata.techniques.augment.cutmix import CutMix, box, cutmix

PARTNERS = torch.tensor([1, 0])


def black_and_white(height: int = 8, width: int = 10) -> torch.Tensor:
    return torch.stack([torch.zeros(3, height, width), torch.ones(3, height, width)])


def test_a_box_inside_has_the_area_asked_for():
    rows, columns = box(8, 12, 0.25, 0.5, 0.5)
    assert (rows, columns) == (slice(2, 6), slice(3, 9))


@pytest.mark.parametrize(("y", "x"), [(0, 0), (1, 1), (0.02, 0.9)])
def test_a_box_at_the_edge_is_cut_off(y, x):
    rows, columns = box(8, 12, 0.25, y, x)
    assert 0 <= rows.start <= rows.stop <= 8
    assert 0 <= columns.start <= columns.stop <= 12
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 24


@pytest.mark.parametrize("area", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.9])
def test_the_weight_of_a_target_equals_its_share_of_area(area, at):
    images, targets = cutmix(black_and_white(), torch.eye(2), PARTNERS, box(8, 10, area, at, at))
    torch.testing.assert_close(images[0].mean(), targets[0, 1])
    torch.testing.assert_close(images[1].mean(), targets[1, 1])
    torch.testing.assert_close(targets.sum(-1), torch.ones(2))


def test_outside_the_box_the_image_stays_and_the_batch_is_copied():
    given = black_and_white()
    images, _ = cutmix(given, torch.eye(2), PARTNERS, (slice(2, 4), slice(0, 5)))
    assert images[0, :, 2:4, :5].eq(1).all()
    assert images[0].sum() == 3 * 2 * 5
    assert given[0].eq(0).all()


def test_draws_are_those_of_torchs_seed():
    batch = {"pixel_values": torch.randn(6, 3, 8, 8), "labels": torch.eye(6)}

    def made(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return CutMix().batch(batch, nn.Identity())["pixel_values"]

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


def test_a_network_trained_on_patched_images_answers_from_a_part_of_the_thing():
    """The paper's claim: it does not hang on the one most telling part.

    Both halves tell the class, the left one in larger numbers; asked with the right half alone, who learnt from patched
    images knows better.
    """

    def right_half_alone(technique: CutMix | None) -> float:
        torch.manual_seed(1)
        labels = torch.arange(64) % 2
        sign = (2 * labels - 1).float()[:, None, None, None]
        images = torch.randn(64, 3, 8, 8)
        images[..., :4] += 3 * sign
        images[..., 4:] += 0.3 * sign
        rows = {"pixel_values": images, "labels": torch.eye(2)[labels]}
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        optimizer = torch.optim.SGD(model.parameters(), 0.02)
        for _ in range(100):
            step = rows if technique is None else technique.batch(rows, model)
            loss = nn.functional.cross_entropy(model(step["pixel_values"]), step["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        new = torch.randn(400, 3, 8, 8)
        truth = torch.arange(400) % 2
        new[..., 4:] += 0.3 * (2 * truth - 1).float()[:, None, None, None]
        new[..., :4] = 0
        return float((model(new).argmax(-1) == truth).float().mean())

    assert right_half_alone(CutMix()) > right_half_alone(None) + 0.05


@pytest.mark.parametrize("alpha", [0, -0.5])
def test_alpha_is_above_zero(alpha):
    with pytest.raises(ValueError, match="alpha"):
        CutMix(alpha=alpha)
