"""Where a network can be cut: below it nothing learns and nothing is random, so its output is the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_outputs import ImageClassifierOutput

from hf_smalldata.nn.blocks import below, blocks
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.task import Batch


class Fed:
    """Where the network takes the cached states (B, T, d) of the batch at hand from: its input `prefix`.

    Args:
        on: what is skipped.
        off: why nothing is, if so.
    """

    hidden: Tensor

    def __init__(self, on: str = "", off: str = "") -> None:
        self.on, self.off = on, off

    def take(self, _model: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A pre-hook of the network that lets it have `prefix` among its inputs."""
        if "prefix" in inputs:
            self.hidden = inputs["prefix"]
        return args, {name: value for name, value in inputs.items() if name != "prefix"}

    def __str__(self) -> str:
        return f"off: {self.off}" if self.off else f"on: cut {self.on}"


class Blocks:
    """A cut above the bottom blocks: their last output is kept, the blocks are not run."""

    alone = False  # the part above the cut needs the other inputs too, such as the attention mask

    def __init__(self, bottom: Sequence[nn.Module]) -> None:
        self.bottom, self.place = bottom, f"above {len(bottom)} block" + "s" * (len(bottom) > 1)
        self.more: int | None = None  # further places in a block's output; None for a bare tensor

    def capture(self, put: Callable[[Tensor], None]) -> RemovableHandle:
        """`put` the states and end the forward pass."""

        def enough(_module: nn.Module, _args: Any, output: Any) -> None:
            self.more = len(output) - 1 if isinstance(output, tuple) else None
            put(output[0] if isinstance(output, tuple) else output)
            raise Enough

        return self.bottom[-1].register_forward_hook(enough)

    def skip(self, fed: Fed) -> None:
        """Pass the fed states on instead of running the blocks."""
        for block in self.bottom[:-1]:
            block.forward = lambda hidden, *_args, **_kwargs: self._output(hidden)
        self.bottom[-1].forward = lambda *_args, **_kwargs: self._output(fed.hidden)

    def restore(self) -> None:
        """Run the blocks again."""
        for block in self.bottom:
            vars(block).pop("forward", None)

    def _output(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        return hidden if self.more is None else (hidden, *[None] * self.more)


class Head:
    """A cut below the head, where nothing else learns: its input is kept, nothing else of the network is run."""

    alone = True
    place = "below the head"
    more: int | None = None

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        self.model, self.head = model, head

    def capture(self, put: Callable[[Tensor], None]) -> RemovableHandle:
        """`put` the head's input and end the forward pass."""

        def enough(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            put(args[0])
            raise Enough

        return self.head.register_forward_pre_hook(enough)

    def skip(self, fed: Fed) -> None:
        """Let the head alone answer."""
        self.model.forward = lambda **_: ImageClassifierOutput(logits=self.head(fed.hidden))

    def restore(self) -> None:
        """Run the whole network again."""
        vars(self.model).pop("forward", None)


Cut = Blocks | Head


class Enough(Exception):
    """Ends a forward pass once the cut is reached."""


def find_cut(model: nn.Module, batch: Batch) -> Cut | None:
    """The highest place below which the network gives the same for a row every time; None if there is none."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return None
    head = _only_head(model, batch)
    if head is not None:
        return Head(model, head)
    model.train()
    found, cut = [block.module for block in blocks(model)], 0
    while cut < len(found) and _constant(model, cut + 1, batch):
        cut += 1
    return Blocks(found[:cut]) if cut else None


def _only_head(model: nn.Module, batch: Batch) -> nn.Module | None:
    """The head, if it is one module, nothing else learns, and training gives it the same as evaluation does."""
    names = head_names(model)
    if len(names) != 1:
        return None
    head = model.get_submodule(names[0])
    learnt = {id(parameter) for parameter in head.parameters()}
    if any(parameter.requires_grad for parameter in model.parameters() if id(parameter) not in learnt):
        return None
    given: list[Tensor] = []
    handle = Head(model, head).capture(given.append)
    with torch.no_grad():
        for training in (True, False):
            model.train(training)
            with suppress(Enough):
                model(**batch)
    handle.remove()
    return head if len(given) == 2 and torch.equal(*given) else None


def _constant(model: nn.Module, cut: int, batch: Batch) -> bool:
    parameters, modules = below(model, cut, lambda network: network(**batch))
    return not any(p.requires_grad for p in parameters) and not any(module.training for module in modules)
