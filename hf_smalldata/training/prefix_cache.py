"""Prefix cache: the output of the frozen bottom of a network, computed once for each row and kept.

With frozen bottom blocks most of an epoch's work gives the same numbers every time. Here it is done once; training and
prediction start at the first block that learns. Exact, since it is used only where nothing below the cut is random:
every module there must be held in evaluation mode (`freeze` does that) and inputs must not change between epochs.
Before use it is compared with the whole network on two rows: some architectures pass more than states between blocks,
and in some a row's states depend on the padding beside it.
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

from hf_smalldata.kept import Kept, digest, fingerprint
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Technique, using
from hf_smalldata.training.batching import BESIDE_INPUTS, EncodedRows, by_length, to_device
from hf_smalldata.training.cut import Cut, Enough, Fed, find_cut
from hf_smalldata.training.predict import CPU_TOKENS
from hf_smalldata.training.store import FullError, Store

logger = logging.getLogger(__name__)

MEMORY_CAP_BYTES = 2 * 1024**3
NOTHING_FROZEN = "nothing is frozen"


@contextmanager
def prefix_cache(
    model: nn.Module,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    folder: Path,
    kept: Kept | None = None,
    cap_bytes: int = MEMORY_CAP_BYTES,
    batch_size: int = 32,
    off: str = "",
) -> Iterator[Fed]:
    """Within: the model takes cached states as its input `prefix`, and `rows` carry them. Afterwards all is as before.

    Args:
        model: after all model hooks, on its device.
        rows: every set of rows that the model will see.
        collate: of the rows' features with labels.
        folder: for a memory-mapped file, which is gone afterwards.
        kept: where states of the same batches may lie already, from the training before.
        cap_bytes: of memory; states past it go to the file.
        batch_size: most rows of a forward pass.
        off: why it must not be used, as `inputs_change` says; empty lets it be.

    Yields:
        What is fed; where it is not on, batches have no `prefix`, and it says why.
    """
    if all(parameter.requires_grad for parameter in model.parameters()):
        off = NOTHING_FROZEN
    off = off or ("" if rows else "there are no rows")
    cut = None if off else find_cut(model, _inputs(collate([rows[0][0]]), _device(model)))
    if cut is None:
        yield Fed(off=off or "the lowest block learns, or draws anew each time")
        return
    store = Store(folder, cap_bytes)
    try:
        fed = _begin(model, cut, rows, collate, store, kept or Kept(0), batch_size)
        handle = model.register_forward_pre_hook(fed.take, with_kwargs=True)
        try:
            yield fed
        finally:
            handle.remove()
    finally:
        _restore(cut, rows)
        store.close()


def inputs_change(techniques: Sequence[Technique]) -> str:
    """Why cached states would not stay true from one epoch to the next; empty where they do."""
    whys = {"example": "draws inputs anew each epoch", "batch": "changes inputs in the batch",
            "penalty": "may run the model on other inputs"}  # fmt: skip
    for hook, why in whys.items():
        for technique in using(techniques, hook):
            if hook == "example" or not technique.keeps_inputs:
                return f"{technique.name} {why}"
    return ""


def _begin(
    model: nn.Module,
    cut: Cut,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    store: Store,
    kept: Kept,
    batch_size: int,
) -> Fed:
    """Fill the cache, and let the network use it if its answers stay the same; all as it was if they do not."""
    name = type(model).__name__
    pair = [int(np.argmin(rows[0].lengths)), int(np.argmax(rows[0].lengths))]  # together they need the most padding
    expected = _answers(model, collate([rows[0][at] for at in pair]))
    alone = torch.cat([_answers(model, collate([rows[0][at]])) for at in pair])
    if not _close(alone, expected):
        return Fed(off=f"padding changes what {name} makes of a row")
    try:
        _fill(model, cut, rows, collate, store, kept, batch_size)
    except _NotByRowError:
        return Fed(off=f"{name} has no state for each row and token")
    except FullError as error:
        return Fed(off=str(error))
    fed = Fed(on=cut.place)
    cut.skip(fed)
    if not _same(model, fed, collate([rows[0][at] for at in pair]), expected):
        _restore(cut, rows)
        return Fed(off=f"{name} passes more between blocks than one output")
    return fed


def _answers(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, C) of a batch; (N, C) for tokens, without those of padding, which mean nothing."""
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(**_inputs(batch, _device(model))).logits
    return logits[batch["labels"].sum(-1).to(logits.device) > 0] if logits.dim() == 3 else logits


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def _same(model: nn.Module, fed: Fed, batch: Batch, expected: Tensor) -> bool:
    """Whether cached states lead to the answers that the whole network gives."""
    fed.hidden = batch["prefix"].to(_device(model))
    try:
        return _close(_answers(model, batch), expected)
    except Exception as error:  # whatever an architecture does with the parts of a block's output that are not there
        logger.debug("prefix cache: %s", error, exc_info=True)
        return False


def _restore(cut: Cut, rows: Sequence[EncodedRows]) -> None:
    cut.restore()
    for part in rows:
        part.prefix, part.prefix_alone = None, False


def _fill(
    model: nn.Module,
    cut: Cut,
    rows: Sequence[EncodedRows],
    collate: Callable[[Sequence[Any]], Batch],
    store: Store,
    kept: Kept,
    batch_size: int,
) -> None:
    """Run every row through the frozen part and give `rows` its states."""
    seen: list[Tensor] = []
    handle = cut.capture(seen.append)
    model.eval()
    frozen = fingerprint(model).hex() if kept.cap_bytes else ""
    found: list[list[Tensor]] = []

    def compute(batch: Batch, lengths: Sequence[int]) -> tuple[list[Tensor], int | None]:
        with suppress(Enough):
            model(**batch)
        return store.keep(_by_row(seen.pop(), lengths)), cut.more

    try:
        with torch.no_grad():
            for part in rows:
                states: list[Tensor] = [torch.empty(0)] * len(part)
                batches = by_length(part, batch_size, CPU_TOKENS if _device(model).type == "cpu" else None)
                for indices in tqdm(batches, desc="computing frozen blocks", leave=False, delay=1, disable=None):
                    batch = _inputs(collate([part[index] for index in indices]), _device(model))
                    make = partial(compute, batch, [part.lengths[index] for index in indices])
                    if store.full or not kept.cap_bytes:
                        made, _ = make()
                    else:
                        made, cut.more = kept.states(digest(batch, frozen, cut.place), make, _size)
                    for index, state in zip(indices, made, strict=True):
                        states[index] = state
                found.append(states)
    finally:
        handle.remove()
    for part, states in zip(rows, found, strict=True):
        part.prefix, part.prefix_alone = states, cut.alone


def _by_row(hidden: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """States (B, ...) of a batch, those of each row without its padding.

    A state may stand for many units of length, such as 320 samples of sound: then only rows of one length can be told
    from their padding.
    """
    if len(hidden) != len(lengths):
        raise _NotByRowError
    if hidden.dim() != 3 or len(set(lengths)) == 1:
        return list(hidden)
    if hidden.shape[1] != max(lengths):
        raise _NotByRowError
    return [states[:length] for states, length in zip(hidden, lengths, strict=True)]


def _size(made: tuple[list[Tensor], int | None]) -> int:
    return sum(state.numel() * state.element_size() for state in made[0])


class _NotByRowError(Exception):
    """States that do not come one for each row and each of its tokens, such as XLNet's (T, B, d)."""


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _inputs(batch: Batch, device: torch.device) -> Batch:
    own = {name: tensor for name, tensor in batch.items() if name not in ("prefix", *BESIDE_INPUTS)}
    return to_device(own, device)
