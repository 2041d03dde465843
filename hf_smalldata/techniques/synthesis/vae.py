"""VAE: a conditional variational autoencoder of images or sounds, trained on the rows, makes rows between those it saw.

Helps where rows of a class differ smoothly (spoken words, cells, drawn characters): it is the quickest to train
of the generators, and does not collapse. Does little for images whose detail matters, since
what it makes is blurred; of sounds the phase is guessed by Griffin-Lim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.techniques.synthesis.generator import PixelGenerator, normal
from hf_smalldata.techniques.synthesis.learning import Facts, batches, train

SMALLEST = 4  # pixels of the shorter side, from which the code is read
FEATURES = 8  # of each of those pixels
ACTIVE = 0.01  # variance over rows of a code's mean, from which it tells something: Burda et al. 2016
LEAST_ERROR = 1e-6


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, variance) from N(0, 1), (B, d) -> (B,): appendix B of Kingma and Welling 2014."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def calibrated(found: Tensor, target: Tensor) -> Tensor:
    """Minus the log-likelihood a row, up to a constant, under the best of all variances: eq. 6 of Rybkin et al. 2021.

    found, target: (B, ...) of D numbers each -> D / 2 log(mean squared error), ().
    """
    error = functional.mse_loss(found, target).clamp_min(LEAST_ERROR)
    return target[0].numel() / 2 * error.log()


def share_of_beta(step: int, steps: int, warm_up: float) -> float:
    """From 0 to 1 in the first `warm_up` of training, then 1: Bowman et al. 2016. It keeps codes from being ignored."""
    return min(step / max(warm_up * steps, 1), 1.0)


class Vae(PixelGenerator):
    """Blocks of diffusers' AutoencoderKL around one code a row; the weight of the divergence grows from 0.

    Codes are drawn from a normal distribution fitted to those of the class's rows (Ghosh et al. 2020), or the prior.
    """

    name = "vae"
    tasks = frozenset({"image-classification", "audio-classification"})
    paper = "https://arxiv.org/abs/1312.6114"
    drawing: ClassVar[frozenset[str]] = PixelGenerator.drawing | {"codes", "temperature"}

    channels: int = Field(default=32, ge=8, multiple_of=8)  # of the finest level; twice as many on those below
    code: PositiveInt = 32  # numbers that a row is drawn from
    beta: PositiveFloat = 1.0  # of the divergence; more makes rows more alike
    warm_up: float = Field(default=0.5, ge=0, le=1)  # share of training in which beta grows to its value
    codes: Literal["rows", "prior"] = "rows"  # what codes are drawn from
    temperature: PositiveFloat = 1.0  # of codes: less makes rows more alike

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Encoder, decoder and the codes of the rows."""
        return Autoencoder(shape, classes + 1, self.channels, self.code)

    def fit(self, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> tuple[nn.Module, Facts]:
        """Calibrated likelihood and divergence."""
        assert isinstance(network, Autoencoder)
        device = next(network.parameters()).device
        pixels, labels = pixels.to(device), labels.to(device)
        optimiser = torch.optim.AdamW(network.parameters(), self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        drawn = batches(len(pixels), self.batch_size)

        def step(at: int) -> Tensor:
            chosen = next(drawn).to(device)
            mean, log_variance = network.encode(pixels[chosen], labels[chosen])
            noisy = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            found = network.decode(noisy, labels[chosen])
            weight = self.beta * share_of_beta(at, self.steps, self.warm_up)
            loss = calibrated(found, pixels[chosen]) + weight * divergence(mean, log_variance).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 100.0)
            optimiser.step()
            return loss.detach() / pixels[0].numel()

        average, facts = train(self.name, network, step, self.steps)
        assert isinstance(average, Autoencoder)
        with torch.no_grad():
            means = average.remember(pixels, labels)
        return average, {**facts, "active_codes": int((means.var(0) > ACTIVE).sum())}

    def draw(self, network: nn.Module, labels: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Codes (M, d), decoded."""
        assert isinstance(network, Autoencoder)
        codes = self.temperature * normal(rngs, (self.code,), labels.device)
        if self.codes == "rows":
            codes = network.means[labels] + torch.einsum("mij,mj->mi", network.roots[labels], codes)
        return network.decode(codes, labels)


class Autoencoder(nn.Module):
    """Canvases (B, c, H, W) <-> codes (B, d), both given the class."""

    means: Tensor  # (classes, d): of the codes of each class's rows
    roots: Tensor  # (classes, d, d): their covariance is root @ root.T

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, code: int) -> None:
        from diffusers.models.autoencoders.vae import Decoder, Encoder

        super().__init__()
        self.patch = 2 if min(shape[1:]) > 32 else 1
        side = min(shape[1:]) // self.patch
        levels = (side // SMALLEST).bit_length()
        scale = self.patch << (levels - 1)
        self.size = (FEATURES, shape[1] // scale, shape[2] // scale)
        count, depth = int(np.prod(self.size)), shape[0] * self.patch**2
        sizes: dict[str, Any] = {
            "block_out_channels": (width, *[2 * width] * (levels - 1)), "layers_per_block": 1, "norm_num_groups": 8,
        }  # fmt: skip
        self.encoder = Encoder(depth, FEATURES, ("DownEncoderBlock2D",) * levels, double_z=False, **sizes)
        self.decoder = Decoder(FEATURES, depth, ("UpDecoderBlock2D",) * levels, **sizes)
        self.classes = nn.Embedding(classes, code)
        self.read, self.write = nn.Linear(count + code, 2 * code), nn.Linear(2 * code, count)
        self.register_buffer("means", torch.zeros(classes, code))
        self.register_buffer("roots", torch.eye(code).repeat(classes, 1, 1))

    def encode(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of codes, both (B, d)."""
        states = self.encoder(functional.pixel_unshuffle(pixels, self.patch)).flatten(1)
        mean, log_variance = self.read(torch.cat([states, self.classes(labels)], 1)).chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Canvases."""
        states = self.write(torch.cat([codes, self.classes(labels)], 1)).view(-1, *self.size)
        return functional.pixel_shuffle(self.decoder(states), self.patch).tanh()

    def remember(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Keep the distribution of each class's codes; returns the means (N, d)."""
        codes = [
            self.encode(some, of) for some, of in zip(torch.split(pixels, 64), torch.split(labels, 64), strict=True)
        ]
        means, variances = torch.cat([mean for mean, _ in codes]), torch.cat([log.exp() for _, log in codes])
        for label in torch.unique(labels).tolist():
            own = means[labels == label]
            spread = own.T.cov(correction=0).view(2 * (own.shape[1],)) + torch.diag(variances[labels == label].mean(0))
            self.means[label] = own.mean(0)
            self.roots[label] = torch.linalg.cholesky(spread)
        return means
