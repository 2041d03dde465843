"""The statistics of BatchNorm: held during passes that are no training, and renewed for weights never trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def statistics_held(model: nn.Module) -> Iterator[None]:
    """Within: passes in training mode leave the running statistics as they are."""
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def has_statistics(model: nn.Module) -> bool:
    """Whether a pass in training mode moves any statistics; it does not those that are held in evaluation mode."""
    model.train()
    return any(norm.training for norm in _norms(model))


@torch.no_grad()
def renew_statistics(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> None:
    """Take the statistics of norms in training mode anew: means over `batches`, without dropout.

    Args:
        model: left in evaluation mode.
        batches: inputs of the model, on its device.
    """
    model.train()
    norms = [norm for norm in _norms(model) if norm.training]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    for batch in batches:
        model(**batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def follow_statistics(model: nn.Module, batches: Iterable[dict[str, Tensor]], weight: float) -> None:
    """Move the statistics of BatchNorm by `weight` in [0, 1] of the way to their means over `batches`.

    Args:
        model: left in evaluation mode.
        batches: inputs of the model, on its device.
        weight: 0 leaves them, 1 is `renew_statistics`.
    """
    found = [buffer for norm in _norms(model) for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
    before = [buffer.clone() for buffer in found]
    renew_statistics(model, batches)
    for buffer, old in zip(found, before, strict=True):
        buffer.lerp_(old, 1 - weight)


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
