"""What heads fitted on embeddings are fitted to: the targets of a run's rows, looked at before."""

from __future__ import annotations

import logging

import torch
from datasets import Dataset
from torch import Tensor

from hf_smalldata.data.made import Kin
from hf_smalldata.errors import UserError, listed
from hf_smalldata.technique import Context

logger = logging.getLogger(__name__)


def targets_of(rows: Dataset, ctx: Context, technique: str) -> Tensor:
    """Targets (N, C) of rows.

    Args:
        rows: learnt from.
        ctx: of the run.
        technique: its name, for messages. Classes of one row are warned of: no row can be left out of them, so what is
            chosen by leaving rows out is chosen by the other classes, or is fixed where there are none.

    Raises:
        UserError: fewer than two rows, or rows of one class.
    """
    labels = rows["label"][:]
    if len(labels) < 2:
        raise UserError(f"{technique}: at least two rows are needed, found {len(labels)}")
    targets = ctx.task.targets(labels, max(len(ctx.labels), 1), ctx.problem_type)
    if ctx.problem_type != "single_label_classification":
        return targets
    counts, real = targets.sum(0), targets[torch.from_numpy(Kin.of(rows).real)].sum(0)
    if int((counts > 0).sum()) < 2:
        name = ctx.labels[int(counts.argmax())]
        raise UserError(
            f"{technique}: rows of at least two classes are needed, found only '{name}'; add rows of others"
        )
    single = [name for name, count in zip(ctx.labels, real.tolist(), strict=True) if count == 1]
    if single and int(real.max()) > 1:
        logger.warning("%s: one row only of %s; rows left out are of the other classes", technique, listed(single))
    elif single:
        logger.warning("%s: one row only of %s; no row can be left out, so strength and scale are fixed",
                       technique, listed(single))  # fmt: skip
    return targets
