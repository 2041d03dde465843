from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_smalldata.data.images import open_image
from hf_smalldata.techniques.synthesis import gan, learning
from hf_smalldata.techniques.synthesis.diff_augment import KINDS, augmented, cutout, translation
from hf_smalldata.techniques.synthesis.gan import (
    Gan,
    diversity,
    gradient_penalty,
    hinge_discriminator,
    hinge_generator,
)
from hf_smalldata.techniques.synthesis.gan_networks import Discriminator, Generator
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.testing import COLOURS

ALL = Keep(agreement=0, max_similarity=1)


def test_the_hinge_losses_are_those_of_the_paper():
    real, made = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert float(hinge_discriminator(real, made)) == pytest.approx((0 + 0.5) / 2 + (0 + 1.25) / 2)
    assert float(hinge_generator(made)) == pytest.approx((3 - 0.25) / 2)


def test_diversity_is_the_mean_distance_within_classes():
    pixels = torch.zeros(4, 1, 8, 8)
    pixels[1] = 1.0
    assert diversity(pixels, torch.tensor([0, 0, 1, 1])) == pytest.approx((8 + 0) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_passes_gradients_on_and_differs_from_image_to_image(kind):
    torch.manual_seed(0)
    images = torch.rand(1, 3, 16, 16).repeat(8, 1, 1, 1).requires_grad_()
    found = augmented(images, [kind])
    assert found.shape == images.shape
    assert len(found.detach().flatten(1).unique(dim=0)) > 1
    found.sum().backward()
    assert images.grad.abs().sum() > 0


def test_translation_moves_by_an_eighth_at_most_and_fills_with_grey():
    torch.manual_seed(0)
    images = torch.arange(1.0, 257).view(1, 1, 16, 16).repeat(64, 1, 1, 1)
    shifts = set()
    for found in translation(images)[:, 0]:
        at = (found == images[0, 0, 8, 8]).nonzero()[0] - 8
        shifts.add(tuple(at.tolist()))
        moved = torch.roll(images[0, 0], tuple(at.tolist()), (0, 1))
        assert ((found == moved) | (found == 0)).all()
    assert {each for pair in shifts for each in pair} == {-2, -1, 0, 1, 2}


def test_cutout_hides_a_rectangle_of_half_the_sides():
    torch.manual_seed(0)
    hidden = (cutout(torch.ones(200, 3, 16, 16)) == 0).float()
    assert (hidden[:, 0] == hidden[:, 2]).all()
    assert hidden.mean((1, 2, 3)).max() == pytest.approx(0.25)
    assert hidden.mean((1, 2, 3)).min() >= 0.25 / 4


def test_the_gradient_penalty_of_a_plane_is_half_its_squared_slope():
    images = torch.randn(4, 3, 2, 2, requires_grad=True)
    slope = torch.randn(3, 2, 2)
    scores = (images * slope).sum((1, 2, 3)) + 5
    torch.testing.assert_close(gradient_penalty(scores, images), slope.square().sum() / 2)


def test_the_penalty_flattens_the_discriminator_even_where_a_batch_is_all_alike():
    torch.manual_seed(0)
    judge, steep = Discriminator((3, 16, 16), 3, 8), []
    optimiser = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(30):
        images = torch.ones(4, 3, 16, 16, requires_grad=True)
        loss = gradient_penalty(judge(images, torch.tensor([0, 1, 2, 0])), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steep.append(float(loss.detach()))
    assert np.isfinite(steep).all()
    assert steep[-1] < steep[0] / 2


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 32, 32), (1, 64, 48)])
def test_canvases_of_all_shapes_are_made_and_judged(shape):
    labels = torch.tensor([0, 2])
    images = Generator(shape, 3, 4, 8)(torch.randn(2, 8), labels)
    assert images.shape == (2, *shape)
    assert Discriminator(shape, 3, 4)(images, labels).shape == (2,)


@pytest.mark.parametrize(("channels", "empty"), [(1, -1.0), (3, 0.0)])
def test_beside_what_is_moved_a_spectrogram_is_silent_and_an_image_grey(channels, empty):
    torch.manual_seed(0)
    pixels = torch.full((16, channels, 16, 16), 0.5)
    seen = Gan(augment=["translation", "cutout"])._seen(pixels)
    assert set(torch.unique(seen).tolist()) == {empty, 0.5}


@pytest.mark.slow
def test_rows_that_it_makes_have_the_colour_of_their_class(image, assets, tmp_path):
    technique = Gan(side=16, steps=120, channels=8, batch_size=12, learning_rate=3e-3, augment=["translation"],
                    least_diversity=0, keep=ALL)  # fmt: skip
    rows = technique.rows(image.rows, replace(image.context(), work_dir=tmp_path))
    made = [row for row in rows if row["source"] == "gan"]
    colours = np.array([np.asarray(open_image(row["image"])).mean((0, 1)) for row in made])
    distances = np.linalg.norm(colours[:, None] - np.array(list(COLOURS.values()))[None], axis=2)
    assert (distances.argmin(1) == [row["label"] for row in made]).mean() >= 0.8


def test_a_collapse_ends_the_training_with_the_generator_from_before(image, monkeypatch, caplog):
    found = iter([10.0, 9.0, 8.0, 1.0])  # of real rows, and at three looks
    monkeypatch.setattr(gan, "diversity", lambda *_: next(found))
    monkeypatch.setattr(learning, "LOOK_STEPS", 3)
    technique = Gan(side=16, steps=30, channels=4, batch_size=4)
    pixels, labels = torch.rand(12, 3, 16, 16) * 2 - 1, torch.arange(12) % 3
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        _, facts = technique.fit(technique.build((3, 16, 16), 3), pixels, labels, 3)
    assert facts["steps"] == 6
    assert facts["stopped"] == "collapsed: made rows differ by 0.10 of what real ones do"
    assert "collapsed" in caplog.text


def test_what_is_alike_at_the_beginning_is_no_collapse(monkeypatch):
    found = iter([10.0, 1.0, 2.0, 5.0, 6.0])
    monkeypatch.setattr(gan, "diversity", lambda *_: next(found))
    monkeypatch.setattr(learning, "LOOK_STEPS", 3)
    technique = Gan(side=16, steps=12, channels=4, batch_size=4)
    pixels, labels = torch.rand(12, 3, 16, 16) * 2 - 1, torch.arange(12) % 3
    _, facts = technique.fit(technique.build((3, 16, 16), 3), pixels, labels, 3)
    assert "stopped" not in facts
    assert facts["diversity"] == pytest.approx(0.6)
