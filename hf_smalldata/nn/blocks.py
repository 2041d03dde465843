"""The ordered blocks of any backbone: what `freeze`, adapters and the prefix cache cut at.

A block is a repeated unit: a transformer layer, a stage of a convolutional network. No table of architectures: blocks
are the numbered siblings (`layer.0, layer.1, …`, `layer1, layer2, …` or `mixed5a, mixed5b, …`) that hold most of the
network's weight tensors. Tensors, not weights: VGG's two fully connected layers hold more weights than all its others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple

from torch import nn

from hf_smalldata.errors import UserError


class Block(NamedTuple):
    """One block and the place where it hangs."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        """The block itself."""
        return self.parent.get_submodule(self.name)


def blocks(model: nn.Module) -> list[Block]:
    """Blocks of the backbone from the input upwards; one alone where all layers share their weights (ALBERT).

    Raises:
        UserError: the network has no repeated part.
    """
    found = [series for parent in model.modules() for series in _series(parent)]
    if not found:
        raise UserError(f"{type(model).__name__} has no series of blocks (layer.0, layer.1, …) to cut at")
    return max(found, key=_size)


def _series(parent: nn.Module) -> list[list[Block]]:
    """Numbered children with weights, in order: a list for each name that they share."""
    series: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for name, child in parent.named_children():
        numbered = re.fullmatch(r"(\D*)(\d+)([a-z]?)", name)
        called = type(child) not in (nn.ModuleList, nn.ModuleDict)  # DenseNet's block is a dict that is called
        if numbered and called and any(True for _ in child.parameters()):
            series[numbered[1]].append((int(numbered[2]), numbered[3], name))
    return [[Block(parent, name) for *_, name in sorted(members)] for members in series.values()]


def _size(series: list[Block]) -> tuple[bool, int, int]:
    """A series goes before a lone block, then more tensors, then more weights."""
    sizes = [parameter.numel() for block in series for parameter in block.module.parameters()]
    return len(series) > 1, len(sizes), sum(sizes)


def below(model: nn.Module, cut: int, run: Callable[[nn.Module], Any]) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """Parameters that the input of block `cut` depends on, and modules that run before it.

    Autograd and forward hooks say it, so that position embeddings, shared relative biases and stems of any
    architecture are found without their names. The pass is one of evaluation: statistics of BatchNorm stay as they are.

    Args:
        model: the network.
        cut: 1 to the number of blocks, which stands for the output of the last block.
        run: runs `model` on one batch.

    Raises:
        UserError: no such block, or one that the network never calls.
    """
    found = blocks(model)
    if not 1 <= cut <= len(found):
        raise UserError(f"expected 1 to {len(found)} bottom blocks, got {cut}: {type(model).__name__} has {len(found)}")
    last = found[cut - 1].module
    started: list[nn.Module] = []
    reached: list[nn.Parameter] = []

    def note(module: nn.Module, _args: Any) -> None:
        if not reached:
            started.append(module)

    def stop(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        reached.extend(_leaves(hidden.grad_fn))

    requires = {parameter: parameter.requires_grad for parameter in model.parameters()}
    modes = {module: module.training for module in model.modules()}
    model.requires_grad_(True)
    model.eval()
    handles = [module.register_forward_pre_hook(note) for module in model.modules() if not any(module.children())]
    handles.append(last.register_forward_hook(stop))
    try:
        run(model)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in requires.items():
            parameter.requires_grad_(flag)
        for module, mode in modes.items():
            module.training = mode
    if not reached:
        raise UserError(
            f"{type(model).__name__} never calls its block {found[cut - 1].name}, so nothing can be cut there"
        )
    inside = [module for block in found[:cut] for module in block.module.modules()]
    return reached, list(dict.fromkeys([*started, *inside]))


def hold_in_eval(module: nn.Module) -> None:
    """Keep one module (not its children) in evaluation mode through later calls of `train()`.

    Dropout below is off, and the statistics of BatchNorm stay those of pre-training.
    """
    module.training = False
    module.train = MethodType(_stay, module)  # type: ignore[method-assign]


def let_go(module: nn.Module) -> None:
    """Undo `hold_in_eval`."""
    vars(module).pop("train")


def learns(module: nn.Module) -> bool:
    """Whether any parameter in it is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    for child in module.children():
        child.train(mode)
    return module


def _leaves(node: Any) -> list[nn.Parameter]:
    """Parameters at the ends of an autograd graph."""
    found: dict[int, nn.Parameter] = {}
    seen, todo = set(), [node]
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if hasattr(current, "variable"):
            found[id(current.variable)] = current.variable
        todo.extend(following for following, _ in current.next_functions)
    return list(found.values())
