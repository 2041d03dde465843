"""Prefix cache: the output of the frozen bottom of a network, computed once for each row and kept.

With frozen bottom blocks most of an epoch's work gives the same numbers every time. Here it is done once; training and
prediction start at the first block that learns. Exact, since it is used only where nothing below the cut is random:
every module there must be held in evaluation mode (`freeze` does that) and inputs must not change between epochs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_smalldata.nn.blocks import below, blocks
from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import EncodedRows, by_length, to_device

logger = logging.getLogger(__name__)

MEMORY_CAP_BYTES = 2 * 1024**3


class Fed(nn.Module):
    """Stands in for the topmost frozen block: returns the hidden states it was fed instead of computing them."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple, self.hidden = as_tuple, torch.empty(0)

    def forward(self, *_args: Any, **_kwargs: Any) -> Tensor | tuple[Tensor]:
        """Whatever comes in, the fed states (B, T, d) go out."""
        return (self.hidden,) if self.as_tuple else self.hidden


class Skipped(nn.Module):
    """Stands in for a frozen block whose output nobody needs."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor | tuple[Tensor]:
        """The input, unchanged."""
        return (hidden,) if self.as_tuple else hidden


def frozen_blocks(model: nn.Module, batch: Batch) -> int:
    """How many bottom blocks give the same output every time: nothing in or below them learns or is random."""
    model.train()
    found, cut = blocks(model), 0
    for candidate in range(len(found), 0, -1):
        parameters, modules = below(model, candidate, lambda network: network(**batch))
        if not any(p.requires_grad for p in parameters) and not any(module.training for module in modules):
            cut = candidate
            break
    return cut


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
        What to feed with each batch's `prefix`, or None when no block can be skipped.
    """
    device = next(model.parameters()).device
    first = _inputs(collate([rows[0][0]]), device)
    cut = frozen_blocks(model, first)
    if cut == 0:
        yield None
        return
    bottom = blocks(model)[:cut]
    originals = [block.module for block in bottom]
    as_tuple = _fill(model, originals[-1], rows, collate, device, folder, cap_bytes, batch_size)
    fed = Fed(as_tuple)
    for block in bottom[:-1]:
        block.replace(Skipped(as_tuple))
    bottom[-1].replace(fed)
    try:
        yield fed
    finally:
        for block, original in zip(bottom, originals, strict=True):
            block.replace(original)
        for part in rows:
            part.prefix = None


def _fill(
    model: nn.Module,
    last: nn.Module,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    device: torch.device,
    folder: Path,
    cap_bytes: int,
    batch_size: int,
) -> bool:
    """Run every row through the frozen bottom, give `rows` its states; whether blocks return tuples."""
    seen: list[Any] = []

    def capture(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output)
        raise _Enough

    handle = last.register_forward_hook(capture)
    model.eval()
    store: _Store | None = None
    try:
        with torch.no_grad():
            for part in rows:
                states: list[Tensor] = [torch.empty(0)] * len(part)
                for indices in by_length(part, batch_size):
                    batch = _inputs(collate([part[index] for index in indices]), device)
                    try:
                        model(**batch)
                    except _Enough:
                        output = seen.pop()
                    hidden = output[0] if isinstance(output, tuple) else output
                    store = store or _Store(hidden, rows, folder, cap_bytes)
                    for index, state in zip(indices, hidden, strict=True):
                        states[index] = store.keep(state[: part.lengths[index]] if store.ragged else state)
                part.prefix = states
    finally:
        handle.remove()
    return isinstance(output, tuple)


class _Enough(Exception):
    """Ends a forward pass once the cut is reached."""


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
