"""Weights drawn anew, as the network's own architecture draws them."""

from __future__ import annotations

from typing import Any

from torch import nn


def reinitialise(model: Any, part: nn.Module) -> None:
    """Draw the weights of a part anew by `model._init_weights`, from torch's global generator.

    What that leaves alone (LayerScale of timm networks) stays as it was.

    Args:
        model: of transformers.
        part: a module in it.
    """
    tensors: list[Any] = [*part.parameters(), *part.buffers()]
    for tensor in tensors:
        tensor._is_hf_initialized = False  # else transformers takes it for loaded, and keeps it
    part.apply(model._init_weights)  # inner modules first: outer ones may set them otherwise
