"""A conditional variational autoencoder of feature vectors: small, of the CPU, and trained in a second.

Kingma and Welling 2014, https://arxiv.org/abs/1312.6114, with the class beside what encoder and decoder read. The
decoder's variance is the one that fits best (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, section 4.2), and
the weight of the divergence grows over the first half (Bowman et al. 2016, https://arxiv.org/abs/1511.06349, section
3.1): both keep the code from being left unused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from hf_smalldata.errors import UserError

Array = np.ndarray[Any, Any]

STEPS, HIDDEN, CODE = 400, 64, 8  # of training; units of the hidden layers; numbers of the code
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
LEAST_VARIANCE = 1e-6


class FeatureVae(nn.Module):
    """Features (B, K) and classes (B, C) one-hot -> features, by a code (B, L).

    Args:
        width: K.
        classes: C.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width + classes, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * CODE))
        self.decoder = nn.Sequential(nn.Linear(CODE + classes, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))

    def forward(self, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features again, and mean and log variance of the code, which `noise` (B, L) of N(0, 1) is drawn by."""
        mean, log_variance = self.encoder(torch.cat([x, y], 1)).chunk(2, 1)
        return self.decode(mean + (log_variance / 2).exp() * noise, y), mean, log_variance

    def decode(self, code: Tensor, y: Tensor) -> Tensor:
        """Features of codes."""
        made: Tensor = self.decoder(torch.cat([code, y], 1))
        return made


def loss_of(x: Tensor, again: Tensor, mean: Tensor, log_variance: Tensor, beta: float) -> Tensor:
    """Negative evidence lower bound a row: K/2 log(mean squared error) + β KL(N(mean, variance) || N(0, 1))."""
    error = (x - again).square().mean().clamp_min(LEAST_VARIANCE)
    return x.shape[1] / 2 * error.log() + beta * divergence(mean, log_variance).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each row (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def trained(x: Array, labels: Array, seed: int) -> tuple[FeatureVae, float]:
    """A VAE of features (N, K) and their classes (N,), and the decoder's standard deviation.

    Args:
        x: of length as they are; of like scale in all dimensions.
        labels: from 0 to C - 1.
        seed: of weights and noise; torch's own generator goes on as before.

    Raises:
        UserError: the loss is no number.
    """
    given, classes = torch.from_numpy(np.asarray(x, np.float32)), int(labels.max()) + 1
    y = one_hot(torch.from_numpy(labels).long(), classes).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FeatureVae(given.shape[1], classes)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for step in range(STEPS):
            again, mean, log_variance = network(given, y, torch.randn(len(given), CODE))
            loss = loss_of(given, again, mean, log_variance, beta=min(1.0, 2 * step / STEPS))
            if not torch.isfinite(loss):
                raise UserError(f"feature_synthesis: the VAE diverged at step {step}; take kind: smote")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            again, *_ = network(given, y, torch.randn(len(given), CODE))
            error = float((given - again).square().mean().clamp_min(LEAST_VARIANCE))
    return network.eval(), error**0.5


class Space(NamedTuple):
    """A VAE of features, and how these are scaled for it."""

    network: FeatureVae
    deviation: float  # of the decoder
    mean: Array  # (K,) of the features that it learnt from
    scale: float  # their standard deviation about it
    names: Array  # (C,) classes that occur, sorted

    @classmethod
    def of(cls, x: Array, labels: Array, seed: int) -> Space:
        """Learnt from features (N, K) of classes (N,)."""
        mean, names = x.mean(0), np.unique(labels)
        scale = max(float(np.sqrt(np.square(x - mean).mean())), 1e-12)
        with torch.enable_grad():
            network, deviation = trained((x - mean) / scale, np.searchsorted(names, labels), seed)
        return cls(network, deviation, mean, scale, names)

    @torch.no_grad()
    def features(self, codes: Tensor, labels: Array, noise: float | Tensor = 0.0) -> Array:
        """What lies at codes (M, L) of classes (M,): features (M, K), of the decoder's noise as much as is given."""
        y = one_hot(torch.from_numpy(np.searchsorted(self.names, labels)), len(self.names)).float()
        made: Array = (self.network.decode(codes, y) + self.deviation * noise).double().numpy()
        return made * self.scale + self.mean


def drawn(x: Array, labels: Array, per_class: int, seed: int) -> tuple[Array, Array]:
    """Features (M, K) that a VAE of the rows draws, `per_class` of each class that occurs, and their classes (M,).

    Args:
        x: features (N, K).
        labels: classes (N,).
        per_class: how many.
        seed: of all that is drawn.
    """
    space = Space.of(x, labels, seed)
    of = np.repeat(space.names, per_class)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        codes, noise = torch.randn(len(of), CODE), torch.randn(len(of), x.shape[1])
    return space.features(codes, of, noise), of
