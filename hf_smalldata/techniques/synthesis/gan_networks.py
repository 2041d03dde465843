"""Generator and projection discriminator of residual blocks: Miyato and Koyama 2018, sized for few small images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

HALVINGS = 3  # from a canvas to what noise is spread over
TINY = 1e-8


class Generator(nn.Module):
    """Noise (B, d) and classes (B,) -> images (B, c, H, W) in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, noise: int) -> None:
        super().__init__()
        self.noise, self.size = noise, (shape[1] >> HALVINGS, shape[2] >> HALVINGS)
        widths = [width << at for at in range(HALVINGS, -1, -1)]  # 8 w, 4 w, 2 w, w
        self.classes = nn.Embedding(classes, noise)
        self.spread = nn.Linear(noise, widths[0] * self.size[0] * self.size[1])
        pairs = pairwise(widths)
        self.blocks = nn.ModuleList(Up(before, after, 2 * noise) for before, after in pairs)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.paint = nn.Conv2d(widths[-1], shape[0], 3, padding=1)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Images."""
        code = torch.cat([noise, self.classes(labels)], 1)
        found = self.spread(noise).view(len(noise), -1, *self.size)
        for block in self.blocks:
            found = block(found, code)
        images: Tensor = self.paint(functional.relu(self.norm(found))).tanh()
        return images


class Up(nn.Module):
    """Twice as large; the code (B, k) scales and shifts normalised channels."""

    def __init__(self, before: int, after: int, code: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in (before, after))
        self.scales = nn.ModuleList(nn.Linear(code, 2 * count) for count in (before, after))
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.around = nn.Conv2d(before, after, 1)

    def forward(self, states: Tensor, code: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, 2 h, 2 w)."""
        found = functional.interpolate(functional.relu(self._normed(0, states, code)), scale_factor=2, mode="bilinear")
        found = self.second(functional.relu(self._normed(1, self.first(found), code)))
        result: Tensor = found + functional.interpolate(self.around(states), scale_factor=2, mode="bilinear")
        return result

    def _normed(self, at: int, states: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.scales[at](code)[:, :, None, None].chunk(2, 1)
        normed: Tensor = self.norms[at](states) * (1 + scale) + shift
        return normed


class Discriminator(nn.Module):
    """Images (B, c, H, W) and classes (B,) -> how real they look for their class (B,)."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        widths = [width << at for at in range(1, HALVINGS + 1)]  # 2 w, 4 w, 8 w
        self.look = nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)  # of patches of 2 x 2: half the cost
        pairs = pairwise([*widths, widths[-1]])
        self.blocks = nn.Sequential(*(Down(before, after) for before, after in pairs))
        self.judge = nn.Linear(widths[-1] + 1, 1)
        self.classes = nn.Embedding(classes, widths[-1] + 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Scores."""
        states = self.blocks(self.look(functional.pixel_unshuffle(images, 2)))
        found = functional.relu(states).mean((2, 3))
        spread = (
            (found.var(0, correction=0) + TINY).sqrt().mean().expand(len(found), 1)
        )  # of the batch: what is too alike is told
        found = torch.cat([found, spread], 1)
        scores: Tensor = self.judge(found)[:, 0] + (self.classes(labels) * found).sum(1)
        return scores


class Down(nn.Module):
    """Half as large."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.around = nn.Conv2d(before, after, 1)

    def forward(self, states: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h / 2, w / 2)."""
        found = self.second(functional.relu(self.first(functional.relu(states))))
        around: Tensor = self.around(functional.avg_pool2d(states, 2))
        return around + functional.avg_pool2d(found, 2)
