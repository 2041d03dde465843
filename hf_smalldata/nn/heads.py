"""The head of a classifier: the new layers above the pretrained body, which every technique must leave trainable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from hf_smalldata.nn.blocks import blocks, hold_in_eval

Layer = nn.Linear | nn.modules.conv._ConvNd
EXACT = 1e-4  # of the largest logit: far above rounding, far below what a wrong layer does

# Layers of the body that exist only to feed a head: pretrained for another aim, or new.
POOLERS = ("pooler",)


def head_names(model: nn.Module) -> list[str]:
    """Full names of the outermost modules that form the head, in order.

    A transformers model keeps its body under `base_model_prefix`; what hangs beside it is head, and so is a pooler
    inside it. One that names a body it lacks (Whisper's classifier is an encoder without the model around it) keeps it
    where its blocks are. A timm model says itself which module classifies.
    """
    if isinstance(model, PeftModel):  # which answers for the model inside it, but has no children of that
        return [f"base_model.model.{name}" for name in head_names(model.get_base_model())]
    if hasattr(model, "timm_model"):
        wrapped: Any = model.timm_model
        classifier = wrapped.get_classifier()
        return [f"timm_model.{name}" for name, module in wrapped.named_modules() if module is classifier]
    prefix = str(getattr(model, "base_model_prefix", ""))
    if prefix and not hasattr(model, prefix):
        block = blocks(model)[0].module
        prefix = next(name for name, child in model.named_children() if block in set(child.modules()))
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


def scale_logits(model: nn.Module, temperature: float, logits: Callable[[nn.Module], Tensor]) -> bool:
    """Divide the logits of a classifier by `temperature`, folded into the weights of the layers that make them.

    A stock pipeline then gives calibrated scores, and the config needs nothing new. Which layers make them is found by
    a forward pass and proven by another: of the linear layers with C outputs that ran, the last one, or all of them
    (heads that are averaged, a layer and its adapter), where halving them halves the logits.

    Args:
        model: put into evaluation mode.
        temperature: above 0.
        logits: runs `model` on one batch -> (B, C); called two to four times.

    Returns:
        Whether it could be done. If not (a squashed or normalised output), the weights are as they were.

    Raises:
        ValueError: temperature is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    model.eval()
    before, layers = _linear_layers(model, logits)
    for chosen in (layers[-1:], layers):
        _divide(chosen, 2.0)  # exact in floating point, so that nothing is lost if it has to be undone
        halves = _run(model, logits) * 2
        _divide(chosen, 0.5)
        if chosen and bool((halves - before).abs().max() <= EXACT * before.abs().max()):
            _divide(chosen, temperature)
            return True
    return False


def shift_logits(model: nn.Module, offset: Tensor, logits: Callable[[nn.Module], Tensor]) -> bool:
    """Add `offset` (C,) to the logits of a classifier, folded into the biases of the layers that make them.

    Layers are found and proven as in `scale_logits`: the last one that has a bias, or all of those (heads that are
    averaged).

    Args:
        model: put into evaluation mode.
        offset: one number a class.
        logits: runs `model` on one batch -> (B, C); called two to three times.

    Returns:
        Whether it could be done. If not (no bias, a squashed output), the weights are as they were.
    """
    model.eval()
    before, layers = _linear_layers(model, logits)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    wanted = before + offset.to(before)
    for chosen in (biases[-1:], biases) if biases else ():
        old = [bias.detach().clone() for bias in chosen]
        for bias in chosen:
            bias.data.add_(offset.to(bias))
        if bool((_run(model, logits) - wanted).abs().max() <= EXACT * wanted.abs().max()):
            return True
        for bias, was in zip(chosen, old, strict=True):
            bias.data.copy_(was)
    return False


def _linear_layers(model: nn.Module, logits: Callable[[nn.Module], Tensor]) -> tuple[Tensor, list[Layer]]:
    """The logits, and the layers with as many outputs as there are logits, in the order in which they ran."""
    ran: dict[Layer, None] = {}

    def note(module: Layer, _args: Any, _output: Any) -> None:
        ran[module] = None

    handles = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, Layer)]
    try:
        before = _run(model, logits)
    finally:
        for handle in handles:
            handle.remove()
    return before, [module for module in ran if module.weight.shape[0] == before.shape[-1]]


@torch.no_grad()
def _run(model: nn.Module, logits: Callable[[nn.Module], Tensor]) -> Tensor:
    return logits(model).detach().float()


@torch.no_grad()
def _divide(layers: Sequence[Layer], number: float) -> None:
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            parameter.div_(number)


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
