"""A head fitted on embeddings of the training rows: what techniques that compute one instead of training it share."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor, nn

from hf_smalldata.data.made import Kin
from hf_smalldata.errors import spoken
from hf_smalldata.nn.features import Readout, Run, readout
from hf_smalldata.nn.linear_heads import Head
from hf_smalldata.technique import Context
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.fewshot.targets import targets_of

logger = logging.getLogger(__name__)


def fit_head(
    model: nn.Module,
    ctx: Context,
    technique: str,
    solve: Callable[[Tensor, Tensor, Kin], Head],
    read: Callable[[nn.Module, Run], Readout] = readout,
) -> nn.Module:
    """The network with its last layer filled; what was chosen for it is written to the Run.

    Args:
        model: put into evaluation mode.
        ctx: of the run.
        technique: its name.
        solve: embeddings (N, d), targets (N, C) and which rows are variants of which -> a head.
        read: finds the last layer.
    """
    targets = targets_of(ctx.train, ctx, technique)
    z, out = features_of(model, ctx, read=read)
    head = solve(z, targets, Kin.of(ctx.train))
    out.fill(head.weight, head.bias)
    ctx.facts[technique] = head.facts
    logger.info("%s: %s", technique, spoken(head.facts))
    return model
