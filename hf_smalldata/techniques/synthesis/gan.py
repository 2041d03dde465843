"""GAN: a conditional generator of images or sounds and a discriminator that sees them augmented, trained on the rows.

Helps with 50 to 500 small images of like framing, where it draws a row in one pass. Does little below that, where it
repeats what it saw; diffusion_scratch is steadier, and both are not for photos of scenes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.techniques.synthesis.diff_augment import augmented
from hf_smalldata.techniques.synthesis.gan_networks import Discriminator, Generator
from hf_smalldata.techniques.synthesis.generator import PixelGenerator, normal
from hf_smalldata.techniques.synthesis.learning import Facts, batches, train

logger = logging.getLogger(__name__)

NOISE = 64  # numbers that a row is drawn from
LOOKED_AT = 8  # made rows of each class, by which diversity is watched
PENALTY_STEPS = 16  # of which one has the gradient penalty, 16 times: Karras et al. 2020
COARSE = 8  # pixels a side: by what images differ for `diversity`


def hinge_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """Mean of max(0, 1 - real) + max(0, 1 + made), scores (B,): eq. 16 of Miyato et al. 2018."""
    return functional.relu(1 - real).mean() + functional.relu(1 + made).mean()


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """R1: half the mean squared norm of the gradients of scores (B,) by real images (B, ...).

    Eq. 9 of Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, without its weight.
    """
    (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradients.flatten(1).square().sum(1).mean() / 2


def hinge_generator(made: Tensor) -> Tensor:
    """Minus the mean score of made images (B,): eq. 17 of Miyato et al. 2018."""
    return -made.mean()


def diversity(pixels: Tensor, labels: Tensor) -> float:
    """Mean distance of two images of one class, seen at 8 x 8 pixels. pixels: (N, C, H, W), labels: (N,)."""
    coarse = functional.adaptive_avg_pool2d(pixels, COARSE).flatten(1)
    found = [torch.pdist(coarse[labels == label]) for label in torch.unique(labels)]
    return float(torch.cat(found).mean())


class Gan(PixelGenerator):
    """Hinge loss, R1, DiffAugment, and an average of the generator's weights.

    It stops where made rows become much more alike than real ones, with the generator from before.
    """

    name = "gan"
    tasks = frozenset({"image-classification", "audio-classification"})
    paper = "https://arxiv.org/abs/2006.10738"
    extra: ClassVar[str | None] = None

    steps: PositiveInt = 2000  # of training, each of both networks
    learning_rate: PositiveFloat = 5e-4
    channels: int = Field(default=24, ge=4, le=256)  # of the finest level; twice as many on each below
    augment: tuple[Literal["colour", "translation", "cutout"], ...] = ("colour", "translation")
    gradient_penalty: float = Field(default=0.1, ge=0)  # of the discriminator, on real rows
    least_diversity: float = Field(default=0.4, ge=0, lt=1)  # of made rows to that of real ones: less is a collapse

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """The generator."""
        return Generator(shape, classes + 1, self.channels, NOISE).to(memory_format=torch.channels_last)

    def fit(self, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> tuple[nn.Module, Facts]:
        """A step of the discriminator and one of the generator in turn."""
        device = next(network.parameters()).device
        pixels, labels = pixels.to(device), labels.to(device)
        channels, height, width = pixels.shape[1:]
        judge = Discriminator((channels, height, width), classes + 1, self.channels).to(device)
        judge.to(memory_format=torch.channels_last)
        optimisers = [torch.optim.Adam(each.parameters(), self.learning_rate, betas=(0.0, 0.99))
                      for each in (network, judge)]  # fmt: skip
        drawn = batches(len(pixels), self.batch_size)

        def step(at: int) -> Tensor:
            chosen = next(drawn).to(device)
            wanted = labels[chosen]
            made = network(torch.randn(len(chosen), NOISE, device=device), wanted)
            judge.requires_grad_(True)
            real = self._seen(pixels[chosen])
            penalised = self.gradient_penalty > 0 and at % PENALTY_STEPS == 0
            both = torch.cat([real.requires_grad_(penalised), self._seen(made.detach())])
            of_real, of_made = judge(both, wanted.repeat(2)).chunk(2)
            loss = hinge_discriminator(of_real, of_made)
            if penalised:
                loss = loss + PENALTY_STEPS * self.gradient_penalty * gradient_penalty(of_real, real)
            _descend(optimisers[1], loss)
            judge.requires_grad_(False)
            fooled = hinge_generator(judge(self._seen(made), wanted))
            _descend(optimisers[0], fooled)
            return (loss + fooled).detach()

        varied, seen = diversity(pixels, labels), [0.0]

        def watch(average: nn.Module) -> str | None:
            some = torch.arange(classes, device=device).repeat_interleave(LOOKED_AT)
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)
                found = diversity(average(torch.randn(len(some), NOISE, device=device), some), some) / varied
            seen.append(found)
            if max(seen) >= self.least_diversity > found:
                return f"collapsed: made rows differ by {found:.2f} of what real ones do"
            return None

        average, facts = train(self.name, network, step, self.steps, watch)
        return average, {**facts, "diversity": round(seen[-1], 3)}

    def _seen(self, pixels: Tensor) -> Tensor:
        """What the discriminator sees of rows (B, C, H, W); beside a spectrogram that is moved there is silence, -1."""
        silence = -1.0 if pixels.shape[1] == 1 else 0.0
        return augmented(pixels - silence, self.augment) + silence

    def draw(self, network: nn.Module, labels: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """One pass from noise (M, 64)."""
        found: Tensor = network(normal(rngs, (NOISE,), labels.device), labels)
        return found


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
