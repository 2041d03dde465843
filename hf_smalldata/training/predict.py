"""Logits of rows in full precision, each row scored once whatever the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn
from tqdm.auto import tqdm

from hf_smalldata.evaluation.arrays import stacked
from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import EncodedRows, by_length, to_device

CPU_TOKENS = 1024  # of a batch: more gain nothing but padding (scripts/bench/steps.py --predict)


def predict_logits(
    model: nn.Module,
    rows: EncodedRows,
    collate: Callable[[Sequence[Any]], Batch],
    batch_size: int,
) -> np.ndarray[Any, Any]:
    """Logits (N, C), for tokens (N,) of (words, C), in the order of `rows`, on every process.

    Batches are dealt out in turn; a process that has one fewer repeats its last, so that all make the same number of
    forward passes (sharded models need that).

    Args:
        model: put into evaluation mode.
        rows: any.
        collate: of the rows' features with labels.
        batch_size: most rows of a batch; on a CPU they are fewer where rows are long.
    """
    state = PartialState()
    device = next(model.parameters()).device
    batches, first = by_length(rows, batch_size, CPU_TOKENS if device.type == "cpu" else None), state.is_main_process
    turns = -(-len(batches) // state.num_processes)
    model.eval()
    mine: list[tuple[int, np.ndarray[Any, Any]]] = []
    with torch.no_grad():
        for turn in tqdm(range(turns), desc="predicting", leave=False, delay=1, disable=None if first else True):
            indices = batches[min(turn * state.num_processes + state.process_index, len(batches) - 1)]
            batch = to_device(collate([rows[index] for index in indices]), device)
            inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
            logits = model(**inputs).logits.float().cpu().numpy()
            mine += [(at, rows.task.select(one, rows.features[at])) for at, one in zip(indices, logits, strict=True)]
    found = dict(gather_object(mine) if state.num_processes > 1 else mine)
    return stacked([found[at] for at in range(len(rows))])
