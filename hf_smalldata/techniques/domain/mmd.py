"""MMD: make the distributions of labelled and unlabelled features alike, as kernels of several widths see them.

Helps as CORAL does, and where domains differ in more than spread: means and shapes count too. Costs nothing to speak
of. Hurts where classes are balanced differently in the two domains, for it then moves rows of one class to another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_smalldata.techniques.domain.pooled import Alignment

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, times the mean squared distance of a batch


def discrepancy(source: Tensor, target: Tensor, widths: tuple[float, ...] = WIDTHS) -> Tensor:
    """Squared maximum mean discrepancy, mean k(s, s') + mean k(t, t') - 2 mean k(s, t), at least 0.

    k is the mean of Gaussian kernels exp(-|x - y|² / (w σ²)), σ² the mean of |x - y|² over pairs of unlike rows, whose
    gradient does not count: the multi-kernel of DAN with equal shares. All pairs count, a row with itself too.

    Args:
        source: (N, d).
        target: (M, d).
        widths: w.
    """
    both = torch.cat([source, target])
    norms = both.square().sum(-1)
    squared = (norms[:, None] + norms[None] - 2 * both @ both.T).clamp(min=0)
    sigma = squared.detach().sum() / max(len(both) * (len(both) - 1), 1)
    kernel = torch.stack([torch.exp(-squared / (width * sigma).clamp(min=1e-12)) for width in widths]).mean(0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()  # eq. 3


class Mmd(Alignment):
    """The gap is the discrepancy under kernels of several widths."""

    name = "mmd"
    paper = "https://arxiv.org/abs/1502.02791"

    def gap(self, source: Tensor, target: Tensor) -> Tensor:
        """Of a batch."""
        return discrepancy(source, target)
