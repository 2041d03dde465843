"""Prefix cache: the output of the frozen bottom of a network, computed once for each row and kept.

With frozen bottom blocks most of an epoch's work gives the same numbers every time. Here it is done once; training and
prediction start at the first block that learns. Exact, since it is used only where nothing below the cut is random:
every module there must be held in evaluation mode (`freeze` does that) and inputs must not change between epochs.
Before use it is compared with the whole network on two rows: some architectures pass more than states between blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from tqdm.auto import tqdm
from transformers.modeling_outputs import ImageClassifierOutput

from hf_smalldata.nn.blocks import below, blocks
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import EncodedRows, by_length, to_device

logger = logging.getLogger(__name__)

MEMORY_CAP_BYTES = 2 * 1024**3


class Fed:
    """Where the cached states (B, T, d) of the batch at hand are put; the network takes them from here."""

    hidden: Tensor


class _Blocks:
    """A cut above the bottom blocks: their last output is kept, the blocks are not run."""

    alone = False  # the part above the cut needs the other inputs too, such as the attention mask

    def __init__(self, bottom: Sequence[nn.Module]) -> None:
        self.bottom = bottom
        self.more: int | None = None  # further places in a block's output; None for a bare tensor

    def capture(self, put: Callable[[Tensor], None]) -> RemovableHandle:
        """`put` the states and end the forward pass."""

        def enough(_module: nn.Module, _args: Any, output: Any) -> None:
            self.more = len(output) - 1 if isinstance(output, tuple) else None
            put(output[0] if isinstance(output, tuple) else output)
            raise _Enough

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


class _Head:
    """A cut below the head, where nothing else learns: its input is kept, nothing else of the network is run."""

    alone = True

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        self.model, self.head = model, head

    def capture(self, put: Callable[[Tensor], None]) -> RemovableHandle:
        """`put` the head's input and end the forward pass."""

        def enough(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            put(args[0])
            raise _Enough

        return self.head.register_forward_pre_hook(enough)

    def skip(self, fed: Fed) -> None:
        """Let the head alone answer."""
        self.model.forward = lambda **_: ImageClassifierOutput(logits=self.head(fed.hidden))

    def restore(self) -> None:
        """Run the whole network again."""
        vars(self.model).pop("forward", None)


def find_cut(model: nn.Module, batch: Batch) -> _Blocks | _Head | None:
    """The highest place below which the network gives the same for a row every time; None if there is none."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return None
    head = _only_head(model, batch)
    if head is not None:
        return _Head(model, head)
    model.train()
    found, cut = [block.module for block in blocks(model)], 0
    while cut < len(found) and _constant(model, cut + 1, batch):
        cut += 1
    return _Blocks(found[:cut]) if cut else None


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
    handle = _Head(model, head).capture(given.append)
    with torch.no_grad():
        for training in (True, False):
            model.train(training)
            with suppress(_Enough):
                model(**batch)
    handle.remove()
    return head if len(given) == 2 and torch.equal(*given) else None


def _constant(model: nn.Module, cut: int, batch: Batch) -> bool:
    parameters, modules = below(model, cut, lambda network: network(**batch))
    return not any(p.requires_grad for p in parameters) and not any(module.training for module in modules)


@contextmanager
def prefix_cache(
    model: nn.Module,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    folder: Path,
    cap_bytes: int = MEMORY_CAP_BYTES,
    batch_size: int = 32,
) -> Iterator[Fed | None]:
    """Within: the model takes cached states, and `rows` carry them. Afterwards both are as before.

    Args:
        model: after all model hooks, on its device.
        rows: every set of rows that the model will see.
        collate: of the rows' features with labels.
        folder: for a memory-mapped file.
        cap_bytes: most memory that states may take; past it they go to the file.
        batch_size: rows a forward pass.

    Yields:
        What to feed with each batch's `prefix`, or None when nothing can be skipped.
    """
    device = next(model.parameters()).device
    cut = find_cut(model, _inputs(collate([rows[0][0]]), device)) if rows else None
    if cut is None:
        yield None
        return
    sample = _extremes(rows[0])
    expected = _logits(model, _inputs(collate([rows[0][index] for index in sample]), device))
    fed = Fed()
    same = False
    try:
        with suppress(_NotByRow):
            _fill(model, cut, rows, collate, device, folder, cap_bytes, batch_size)
            cut.skip(fed)
            same = _same(model, fed, collate([rows[0][index] for index in sample]), device, expected)
        if not same:
            logger.info("prefix cache: not used, %s passes more between blocks than one output", type(model).__name__)
            _restore(cut, rows)
        yield fed if same else None
    finally:
        _restore(cut, rows)


def _extremes(part: EncodedRows) -> list[int]:
    """The shortest and the longest row: together they need the most padding."""
    return [int(np.argmin(part.lengths)), int(np.argmax(part.lengths))]


def _logits(model: nn.Module, inputs: Batch) -> Tensor:
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(**inputs).logits
    return logits


def _same(model: nn.Module, fed: Fed, batch: Batch, device: torch.device, expected: Tensor) -> bool:
    """Whether cached states lead to the logits that the whole network gives."""
    fed.hidden = batch["prefix"].to(device)
    try:
        found = _logits(model, _inputs(batch, device))
    except Exception:  # whatever an architecture does with the parts of a block's output that are not there
        return False
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def _restore(cut: _Blocks | _Head, rows: Sequence[EncodedRows]) -> None:
    cut.restore()
    for part in rows:
        part.prefix, part.prefix_alone = None, False


def _fill(
    model: nn.Module,
    cut: _Blocks | _Head,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    device: torch.device,
    folder: Path,
    cap_bytes: int,
    batch_size: int,
) -> None:
    """Run every row through the frozen part and give `rows` its states."""
    seen: list[Tensor] = []
    handle = cut.capture(seen.append)
    model.eval()
    store: _Store | None = None
    try:
        with torch.no_grad():
            for part in rows:
                states: list[Tensor] = [torch.empty(0)] * len(part)
                batches = by_length(part, batch_size)
                for indices in tqdm(batches, desc="computing frozen blocks", leave=False, delay=1, disable=None):
                    batch = _inputs(collate([part[index] for index in indices]), device)
                    with suppress(_Enough):
                        model(**batch)
                    hidden = seen.pop()
                    if len(hidden) != len(indices):
                        raise _NotByRow
                    store = store or _Store(hidden, rows, folder, cap_bytes)
                    for index, state in zip(indices, hidden, strict=True):
                        states[index] = store.keep(state[: part.lengths[index]] if store.ragged else state)
                part.prefix, part.prefix_alone = states, cut.alone
    finally:
        handle.remove()


class _Enough(Exception):
    """Ends a forward pass once the cut is reached."""


class _NotByRow(Exception):
    """States that do not come a row each, such as XLNet's (T, B, d)."""


class _Store:
    """Hidden states in memory, or past the cap in one memory-mapped file."""

    def __init__(self, example: Tensor, rows: Sequence[EncodedRows], folder: Path, cap_bytes: int) -> None:
        lengths = [length for part in rows for length in part.lengths]
        self.ragged = example.dim() == 3 and max(lengths) > 1  # (T, d) a row, T its own
        per_row = example[0].numel()
        count = sum(lengths) * example.shape[-1] if self.ragged else len(lengths) * per_row
        self.file: np.memmap[Any, np.dtype[Any]] | None = None
        self.used = 0
        if count * example.element_size() > cap_bytes:
            path = folder / "prefix_cache.bin"
            logger.info("prefix cache: %.1f GB, kept in %s", count * example.element_size() / 1e9, path)
            dtype = torch.empty(0, dtype=example.dtype).float().numpy().dtype
            self.file = np.memmap(path, dtype=dtype, mode="w+", shape=(count,))

    def keep(self, state: Tensor) -> Tensor:
        """A copy of one row's states that outlives the batch."""
        if self.file is None:
            return state.detach().cpu().clone()
        size = state.numel()
        place = self.file[self.used : self.used + size]
        place[:] = state.detach().cpu().float().numpy().ravel()
        self.used += size
        return torch.from_numpy(place).view(state.shape)


def _inputs(batch: Batch, device: torch.device) -> Batch:
    return to_device({name: tensor for name, tensor in batch.items() if name not in ("labels", "prefix")}, device)
