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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import EncodedRows, by_length, to_device
from hf_smalldata.training.cut import Cut, Enough, Fed, find_cut
from hf_smalldata.training.kept import Kept, digest, fingerprint

logger = logging.getLogger(__name__)

MEMORY_CAP_BYTES = 2 * 1024**3


@contextmanager
def prefix_cache(
    model: nn.Module,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    folder: Path,
    kept: Kept | None = None,
    cap_bytes: int = MEMORY_CAP_BYTES,
    batch_size: int = 32,
) -> Iterator[Fed | None]:
    """Within: the model takes cached states, and `rows` carry them. Afterwards both are as before.

    Args:
        model: after all model hooks, on its device.
        rows: every set of rows that the model will see.
        collate: of the rows' features with labels.
        folder: for a memory-mapped file.
        kept: where states of the same batches may lie already, from the training before.
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
            _fill(model, cut, rows, collate, device, _Store(rows, folder, cap_bytes), kept or Kept(0), batch_size)
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
    except Exception as error:  # whatever an architecture does with the parts of a block's output that are not there
        logger.debug("prefix cache: %s", error, exc_info=True)
        return False
    if found.dim() == 3:  # what a model says of padding has no meaning
        found, expected = (logits[batch["labels"].sum(-1) > 0] for logits in (found, expected))
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def _restore(cut: Cut, rows: Sequence[EncodedRows]) -> None:
    cut.restore()
    for part in rows:
        part.prefix, part.prefix_alone = None, False


def _fill(
    model: nn.Module,
    cut: Cut,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    device: torch.device,
    store: _Store,
    kept: Kept,
    batch_size: int,
) -> None:
    """Run every row through the frozen part and give `rows` its states."""
    seen: list[Tensor] = []
    handle = cut.capture(seen.append)
    model.eval()
    frozen = fingerprint(model).hex() if kept.cap_bytes else ""

    def compute(batch: Batch, lengths: Sequence[int]) -> tuple[list[Tensor], int | None]:
        with suppress(Enough):
            model(**batch)
        hidden = seen.pop()
        if len(hidden) != len(lengths):
            raise _NotByRow
        return store.keep(hidden, lengths), cut.more

    try:
        with torch.no_grad():
            for part in rows:
                states: list[Tensor] = [torch.empty(0)] * len(part)
                batches = by_length(part, batch_size)
                for indices in tqdm(batches, desc="computing frozen blocks", leave=False, delay=1, disable=None):
                    batch = _inputs(collate([part[index] for index in indices]), device)
                    make = partial(compute, batch, [part.lengths[index] for index in indices])
                    if store.file is None and kept.cap_bytes:
                        found, cut.more = kept.states(digest(batch, frozen, cut.place), make, _size)
                    else:
                        found, _ = make()
                    for index, state in zip(indices, found, strict=True):
                        states[index] = state
                part.prefix, part.prefix_alone = states, cut.alone
    finally:
        handle.remove()


def _size(made: tuple[list[Tensor], int | None]) -> int:
    return sum(state.numel() * state.element_size() for state in made[0])


class _NotByRow(Exception):
    """States that do not come one for each row and each of its tokens, such as XLNet's (T, B, d)."""


class _Store:
    """Hidden states in memory, or past the cap in one memory-mapped file."""

    def __init__(self, rows: Sequence[EncodedRows], folder: Path, cap_bytes: int) -> None:
        self.lengths = [length for part in rows for length in part.lengths]
        self.folder, self.cap_bytes = folder, cap_bytes
        self.file: np.memmap[Any, np.dtype[Any]] | None = None
        self.begun, self.used = False, 0

    def keep(self, hidden: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Copies of a batch's states (B, T, d), a row each without its padding, that outlive the batch."""
        ragged = hidden.dim() == 3 and len(set(self.lengths)) > 1  # (T, d) a row, T its own
        if ragged and hidden.shape[1] != max(lengths):  # such as a state for 320 samples of sound
            raise _NotByRow
        if not self.begun:
            self._begin(hidden, ragged)
        rows = [state[:length] if ragged else state for state, length in zip(hidden, lengths, strict=True)]
        return [self._copy(row) for row in rows]

    def _begin(self, hidden: Tensor, ragged: bool) -> None:
        self.begun = True
        count = sum(self.lengths) * hidden.shape[-1] if ragged else len(self.lengths) * hidden[0].numel()
        if count * hidden.element_size() > self.cap_bytes:
            path = self.folder / "prefix_cache.bin"
            logger.info("prefix cache: %.1f GB, kept in %s", count * hidden.element_size() / 1e9, path)
            dtype = torch.empty(0, dtype=hidden.dtype).float().numpy().dtype
            self.file = np.memmap(path, dtype=dtype, mode="w+", shape=(count,))

    def _copy(self, state: Tensor) -> Tensor:
        if self.file is None:
            return state.detach().cpu().clone()
        size = state.numel()
        place = self.file[self.used : self.used + size]
        place[:] = state.detach().cpu().float().numpy().ravel()
        self.used += size
        return torch.from_numpy(place).view(state.shape)


def _inputs(batch: Batch, device: torch.device) -> Batch:
    return to_device({name: tensor for name, tensor in batch.items() if name not in ("labels", "prefix")}, device)
