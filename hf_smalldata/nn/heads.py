"""The head of a classifier: the new layers above the pretrained body, which every technique must leave trainable."""

from __future__ import annotations

from typing import Any

from torch import nn

from hf_smalldata.nn.blocks import hold_in_eval

# Layers of the body that exist only to feed a head: pretrained for another aim, or new.
POOLERS = ("pooler",)


def head_names(model: nn.Module) -> list[str]:
    """Full names of the outermost modules that form the head, in order.

    A transformers model keeps its body under `base_model_prefix`; what hangs beside it is head, and so is a pooler
    inside it. A timm model says itself which module classifies.
    """
    if hasattr(model, "timm_model"):
        wrapped: Any = model.timm_model
        classifier = wrapped.get_classifier()
        return [f"timm_model.{name}" for name, module in wrapped.named_modules() if module is classifier]
    prefix = str(getattr(model, "base_model_prefix", ""))
    body = getattr(model, prefix) if prefix else None
    beside = [name for name, module in model.named_children() if module is not body and _has_weights(module)]
    inside = [
        f"{prefix}.{name}"
        for name, module in (body.named_children() if body is not None else ())
        if name in POOLERS and module is not None and _has_weights(module)
    ]
    return inside + beside


def hold_statistics(model: nn.Module) -> None:
    """Keep the BatchNorm statistics of a frozen body as they are: training would move them without a gradient."""
    head = {module for name in head_names(model) for module in model.get_submodule(name).modules()}
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in head:
            hold_in_eval(module)


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
