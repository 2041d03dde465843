"""Test-time adaptation: the norms of a trained network follow the rows that it is asked about, which have no labels.

Another scanner, camera or room moves all features alike, and norms are where a network takes that out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.errors import UserError
from hf_smalldata.nn.norms import follow_statistics, has_statistics, statistics_held
from hf_smalldata.tasks.task import Batch, Features
from hf_smalldata.training.batching import to_device

Adaptation = Literal["statistics", "tent"]

BATCH_SIZE = 64
FEWEST, MOST = 16, 2048  # rows: fewer say nothing of where they come from, more nothing new
TRAINED_ON = 16  # rows that the statistics of the training count as; of 8 to 128 as in the paper the middle
LEARNING_RATE = 1e-3
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def adapt(
    model: nn.Module,
    rows: Sequence[Features],
    collate: Callable[[Sequence[Features]], Batch],
    kind: Adaptation,
    seed: int = 0,
) -> None:
    """Adapt the network in place, in one pass over rows in random order; it is left in evaluation mode.

    statistics: means and variances of BatchNorm become (16 training + n given) / (16 + n) for n rows given (Schneider
    et al. 2020, eq. 3, https://arxiv.org/abs/2006.16971). tent: before that the scales and shifts of all norms descend
    the entropy of the predictions, in which BatchNorm takes the statistics of each batch (Wang et al. 2021,
    https://arxiv.org/abs/2006.10726).

    Args:
        model: of one class a row for `tent`.
        rows: those that it is to predict, encoded; more than `MOST` say nothing new.
        collate: rows -> the model's inputs.
        kind: see above.
        seed: of the order.

    Raises:
        UserError: fewer than 16 rows, or a network whose norms have no statistics and `kind` wants them.
    """
    if len(rows) < FEWEST:
        raise UserError(f"adapt: expected {FEWEST} inputs or more, got {len(rows)}: so few do not say where they come "
                        "from; predict them together with others of their kind, or without adapt")  # fmt: skip
    counted = has_statistics(model)
    model.eval()
    if kind == "statistics" and not counted:
        raise UserError(f"adapt: {type(model).__name__} has no BatchNorm, so it keeps no statistics; choose tent")
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = np.array_split(order, -(-len(order) // BATCH_SIZE))  # of like size: none has a row or two
    device = next(model.parameters()).device

    def batches(what: str) -> Iterator[dict[str, Tensor]]:
        for part in tqdm(parts, desc=what, leave=False, delay=1, disable=None):
            yield to_device(collate([rows[int(at)] for at in part]), device)

    if kind == "tent":
        with _norms_alone(model) as learnt, statistics_held(model):
            optimizer = torch.optim.Adam(learnt, LEARNING_RATE)
            for inputs in batches("adapting"):
                logs = model(**inputs).logits.float().log_softmax(-1)
                entropy = -(logs.exp() * logs).sum(-1).mean()
                entropy.backward()
                optimizer.step()
                optimizer.zero_grad()
    if counted:
        follow_statistics(model, batches("statistics"), len(order) / (len(order) + TRAINED_ON))


@contextmanager
def _norms_alone(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Within: only scales and shifts of norms learn, BatchNorm reads its batch, and there is no dropout."""
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    learnt = {id(p): p for norm in norms for p in norm.parameters(recurse=False)}
    before = [(p, p.requires_grad) for p in model.parameters()]
    for p, _ in before:
        p.requires_grad_(id(p) in learnt)
    for norm in norms:
        norm.train()
    try:
        yield list(learnt.values())
    finally:
        model.eval()
        for p, learns in before:
            p.requires_grad_(learns)
