from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hf_smalldata.data.audio import open_audio
from hf_smalldata.data.images import open_image
from hf_smalldata.techniques.synthesis import mels
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.techniques.synthesis.vae import Autoencoder, Vae, calibrated, divergence, share_of_beta
from hf_smalldata.testing import COLOURS

ALL = Keep(agreement=0, max_similarity=1)


def test_the_divergence_is_that_of_normal_distributions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_the_calibrated_likelihood_is_the_best_of_all_variances():
    torch.manual_seed(0)
    found, target = torch.randn(4, 2, 3), torch.randn(4, 2, 3)

    def likelihood(scale: float) -> float:
        return float(-Normal(found, scale).log_prob(target).flatten(1).sum(1).mean())

    best = min(likelihood(scale) for scale in torch.linspace(0.5, 3, 400).tolist())
    constant = 6 / 2 * (1 + math.log(2 * math.pi))
    assert float(calibrated(found, target)) + constant == pytest.approx(best, abs=1e-3)


def test_beta_grows_to_its_value_in_the_first_part_of_training():
    shares = [share_of_beta(step, 100, 0.5) for step in (0, 25, 50, 100)]
    assert shares == [0, 0.5, 1, 1]
    assert share_of_beta(0, 100, 0) == 0
    assert share_of_beta(1, 100, 0) == 1


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 32, 32), (3, 64, 64), (1, 64, 80)])
def test_canvases_of_all_shapes_are_coded_and_decoded(shape):
    network = Autoencoder(shape, 3, width=8, code=4)
    mean, log_variance = network.encode(torch.zeros(2, *shape), torch.tensor([0, 2]))
    assert mean.shape == log_variance.shape == (2, 4)
    assert network.decode(mean, torch.tensor([0, 2])).shape == (2, *shape)


def test_codes_are_drawn_like_those_of_the_rows_of_a_class():
    network = Autoencoder((3, 16, 16), 2, width=8, code=3)
    torch.manual_seed(0)
    spread = torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]])
    codes = torch.randn(4000, 3) @ spread.T + torch.tensor([5.0, 0, -5])
    network.encode = lambda pixels, labels: (codes[: len(pixels)], torch.full((len(pixels), 3), -20.0))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "split", lambda whole, _: (whole,))
        network.remember(torch.zeros(4000, 3, 16, 16), torch.zeros(4000, dtype=torch.long))
    torch.testing.assert_close(network.means[0], torch.tensor([5.0, 0, -5]), atol=0.15, rtol=0)
    torch.testing.assert_close(network.roots[0] @ network.roots[0].T, spread @ spread.T, atol=0.3, rtol=0)
    torch.testing.assert_close(network.roots[1], torch.eye(3))


def test_rows_that_it_makes_have_the_colour_of_their_class_and_codes_tell_them_apart(image, assets, tmp_path):
    technique = Vae(side=16, steps=100, channels=8, code=4, batch_size=6, learning_rate=3e-3, keep=ALL)
    context = replace(image.context(), work_dir=tmp_path)
    rows = technique.rows(image.rows, context)
    made = [row for row in rows if row["source"] == "vae"]
    colours = np.array([np.asarray(open_image(row["image"])).mean((0, 1)) for row in made])
    distances = np.linalg.norm(colours[:, None] - np.array(list(COLOURS.values()))[None], axis=2)
    assert (distances.argmin(1) == [row["label"] for row in made]).mean() >= 0.9
    assert context.facts["vae"]["active_codes"] >= 1


@pytest.mark.slow
def test_sounds_that_it_makes_move_in_pitch_as_their_class_does(audio, assets, tmp_path, monkeypatch):
    monkeypatch.setattr(mels, "PHASE_STEPS", 4)  # pitch is heard before phases fit
    technique = Vae(steps=60, channels=8, code=4, batch_size=6, learning_rate=3e-3, keep=ALL)
    rows = technique.rows(audio.rows, replace(audio.context(), work_dir=tmp_path))
    made = [row for row in rows if row["source"] == "vae"]
    slopes = [slope(open_audio(row["audio"], 16000), 16000) for row in made]
    means = [np.mean([each for each, row in zip(slopes, made, strict=True) if row["label"] == at]) for at in range(3)]
    falling, rising, steady = means
    assert falling < steady < rising


def slope(samples: np.ndarray, rate: int) -> float:
    """Octaves between the loudest pitches of the halves of a sound."""
    halves = np.array_split(samples, 2)
    loudest = [np.abs(np.fft.rfft(half, 8192)).argmax() * rate / 8192 for half in halves]
    return float(np.log2(max(loudest[1], 50) / max(loudest[0], 50)))
