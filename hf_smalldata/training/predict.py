"""Logits of rows in full precision, each row scored once whatever the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.evaluation.arrays import stacked
from hf_smalldata.kept import Kept, digest, fingerprint_below
from hf_smalldata.nn.features import captured, linear_layers
from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import EncodedRows, by_length, to_device

CPU_TOKENS = 1024  # of a batch: more gain nothing but padding (scripts/bench/steps.py --predict)


def predict_logits(
    model: nn.Module,
    rows: EncodedRows,
    collate: Callable[[Sequence[Any]], Batch],
    batch_size: int,
    run: Callable[[Batch], Tensor] | None = None,
) -> np.ndarray[Any, Any]:
    """Logits (N, C), for tokens (N,) of (words, C), in the order of `rows`, on every process.

    Batches are dealt out in turn; a process that has one fewer repeats its last, so that all make the same number of
    forward passes (sharded models need that).

    Args:
        model: put into evaluation mode.
        rows: any.
        collate: of the rows' features with labels.
        batch_size: most rows of a batch; on a CPU they are fewer where rows are long.
        run: inputs -> logits of a batch; default: the model. See `embedded_once`.
    """
    run, state = run or partial(_whole, model), PartialState()
    device = next(model.parameters()).device
    batches, first = by_length(rows, batch_size, CPU_TOKENS if device.type == "cpu" else None), state.is_main_process
    turns = -(-len(batches) // state.num_processes)
    model.eval()
    mine: list[tuple[int, np.ndarray[Any, Any]]] = []
    with torch.no_grad():
        for turn in tqdm(range(turns), desc="predicting", leave=False, delay=1, disable=None if first else True):
            indices = batches[min(turn * state.num_processes + state.process_index, len(batches) - 1)]
            logits = run(_inputs(collate([rows[index] for index in indices]), model)).float().cpu().numpy()
            mine += [(at, rows.task.select(one, rows.features[at])) for at, one in zip(indices, logits, strict=True)]
    found = dict(gather_object(mine) if state.num_processes > 1 else mine)
    return stacked([found[at] for at in range(len(rows))])


def embedded_once(
    model: nn.Module, rows: EncodedRows, collate: Callable[[Sequence[Any]], Batch], kept: Kept
) -> Callable[[Batch], Tensor] | None:
    """How to run a model whose last layer alone differs from one that ran before: what that layer reads is kept.

    Found by content (all weights below the layer, and the inputs), so that logits are those of the whole model.

    Returns:
        inputs -> logits of a batch; None where logits are not what a linear layer makes of one state a row.
    """
    few = _inputs(collate([rows[int(np.argmin(rows.lengths))]]), model)
    with torch.no_grad():
        heads = linear_layers(model, lambda network: network(**few))
        with captured(*heads[-1:]) as seen:
            logits = model(**few).logits
        if not heads or (read := seen[heads[-1]]).dim() != 2 or not torch.equal(heads[-1](read), logits):
            return None
    layer, below = heads[-1], fingerprint_below(heads[-1], model)

    def run(inputs: Batch) -> Tensor:
        def embed() -> Tensor:
            with captured(layer) as seen:
                model(**inputs)
            return seen[layer].cpu().clone()  # of a view of all states this alone

        own = {name: tensor for name, tensor in inputs.items() if name != "prefix"}
        read: Tensor = kept.states(digest(own, below), embed, lambda made: made.nbytes)
        logits: Tensor = layer(read.to(layer.weight.device))
        return logits

    return run


def _whole(model: nn.Module, inputs: Batch) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits


def _inputs(batch: Batch, model: nn.Module) -> Batch:
    moved = to_device(batch, next(model.parameters()).device)
    return {name: tensor for name, tensor in moved.items() if name != "labels"}
