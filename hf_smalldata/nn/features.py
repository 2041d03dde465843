"""The embedding of a row: what the last linear layer of a classifier reads, whatever the backbone.

With few labels a closed-form head on good features is often as far as one gets. That head is the network's own last
layer, so the features have to be the input of that very layer. BERT-like classifiers put a new dense layer and a
squashing function in between; `linearise` turns them into a scaled identity, so that it reads the pooled state itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names

Run = Callable[[nn.Module], Any]  # runs the network on one batch

# What a dense layer is set to (weight, bias), so that what follows it hands the input on: nothing follows; tanh, linear
# near 0; ReLU or GELU, linear far above 0. No state behind a LayerNorm of d features is above sqrt(d), 32 for 1024.
SETTINGS = ((1.0, 0.0), (1e-3, 0.0), (1.0, 40.0))
EASED = {(1.0, 0.0): (1.0, 0.0), (1e-3, 0.0): (0.25, 0.0), (1.0, 40.0): (1.0, 3.0)}  # that learn well, nearly linear
EXACT = 1e-3  # of the largest value: what the bend of tanh may cost


@dataclass(frozen=True)
class Readout:
    """The last linear layer, and how its input is made of the embedding z: input = scale * z + shift."""

    layer: nn.Linear
    scale: float = 1.0
    shift: float = 0.0
    dense: nn.Linear | None = None  # that was made linear, and frozen

    @torch.no_grad()
    def fill(self, weight: Tensor, bias: Tensor) -> None:
        """Make the layer answer weight @ z + bias. weight: (C, d), bias: (C,)."""
        weight = weight.to(self.layer.weight.device, torch.float64)
        bias = bias.to(weight) - self.shift / self.scale * weight.sum(1)
        self.layer.weight.copy_(weight / self.scale)
        self.layer.bias.copy_(bias)


def readout(model: nn.Module, run: Run) -> Readout:
    """The last linear layer of a classifier, with the layers between it and the pooled state made linear.

    Args:
        model: a network whose head may be rewritten: dense layers that stand before the last are set to a scaled
            identity and frozen.
        run: runs the network on one batch.

    Raises:
        UserError: the network does not end in a linear layer.
    """
    ran = linear_layers(model, run)
    if not ran or ran[-1].bias is None:
        raise UserError(f"{type(model).__name__} does not end in a linear layer with a bias, so no head fits in")
    *before, last = ran
    found = Readout(last)
    for layer in before:
        if layer.in_features == layer.out_features == last.in_features and layer.bias is not None:
            found = linearise(model, layer, last, run)
    return found


def linearise(model: nn.Module, dense: nn.Linear, last: nn.Linear, run: Run) -> Readout:
    """Set `dense` to a scaled identity and freeze it, if what lies between it and `last` lets that be linear.

    Which of `SETTINGS` does so is found by running the network: no table of heads and their activations. Where none
    does (a normalisation in between, a pretrained projection), the layer stays as it was and is part of the features.
    """
    weight, bias = dense.weight.detach().clone(), dense.bias.detach().clone()
    for scale, shift in SETTINGS:
        _set(dense, scale * torch.eye(dense.in_features), torch.full_like(bias, shift))
        with captured(dense, last) as seen, torch.no_grad():
            run(model.eval())
        z, read = seen[dense], seen[last]
        z = z.mean(1) if z.dim() == 3 and read.dim() == 2 else z  # a projection of frames, then their mean
        if z.shape == read.shape and (read - shift - scale * z).abs().max() <= EXACT * scale * z.abs().max():
            dense.requires_grad_(False)
            return Readout(last, scale, shift, dense)
    _set(dense, weight, bias)
    return Readout(last)


def eased(out: Readout) -> Readout:
    """Let a layer that was made linear learn, for heads that are trained further; the embedding is what it then makes.

    Beside weights of 1e-3 the last layer's would be in the thousands, and no step would move them. At an eased setting
    both are near 1, and what follows bends the state a little.
    """
    if out.dense is None:
        return out
    scale, shift = EASED[out.scale, out.shift]
    _set(out.dense, scale * torch.eye(out.dense.in_features), torch.full_like(out.dense.bias, shift))
    out.dense.requires_grad_(True)
    return Readout(out.layer)


def embedded(model: nn.Module, inputs: dict[str, Tensor], out: Readout) -> Tensor:
    """Embeddings z (B, d) of a batch, in float32 and with their gradient."""
    with captured(out.layer) as seen:
        model(**inputs)
    return (seen[out.layer].float() - out.shift) / out.scale


@torch.no_grad()
def embeddings(model: nn.Module, batches: Iterable[dict[str, Tensor]], out: Readout) -> Tensor:
    """Embeddings (N, d) of batches in their order; the network is put into evaluation mode."""
    model.eval()
    return torch.cat([embedded(model, inputs, out) for inputs in batches])


@contextmanager
def captured(*layers: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """Within: what the last call of each layer was given, filled in as the network runs."""
    seen: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[module] = args[0]

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def linear_layers(model: nn.Module, run: Run) -> list[nn.Linear]:
    """Linear layers of the head in the order in which they ran."""
    inside = {id(part) for name in head_names(model) for part in model.get_submodule(name).modules()}
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and id(module) in inside]
    with captured(*layers) as seen, torch.no_grad():
        run(model.eval())
    return [layer for layer in seen if isinstance(layer, nn.Linear)]


@torch.no_grad()
def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
