"""R-Drop: two draws of dropout must lead to the same prediction.

Helps when a network with dropout is fine-tuned on few rows: each row is a lesson without its label too, and what is
evaluated without dropout is what was trained with it. Costs twice the time and memory of a batch. Hurts with a large
`alpha`, which two timid predictions please most, and does nothing for networks without dropout, and says so.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.norms import statistics_held
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.training.batching import to_device

logger = logging.getLogger(__name__)


def symmetric_divergence(one: Tensor, two: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between softmaxes of logits. (..., C), (..., C) -> (...)."""
    p, q = one.float().log_softmax(-1), two.float().log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2  # eq. 2


class RDrop(Technique):
    """Each row twice in a batch, and a penalty on the difference of its two predictions.

    Put it after techniques that change the batch, so that both rows are alike. The cross-entropy is the mean over both
    draws as in the authors' code, where the paper (eq. 3) has their sum: its α is twice this one.
    """

    name = "rdrop"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2106.14448"
    keeps_inputs: ClassVar[bool] = True

    alpha: PositiveFloat = 1.0  # of the divergence, beside the cross-entropy

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is; says where there is nothing to agree about."""
        if ctx.problem_type not in ("single_label_classification", "token_classification"):
            raise UserError(f"rdrop: for single-label rows, and these are {ctx.problem_type}; leave it out")
        if not draws(model, ctx):
            logger.warning("rdrop: had no effect, %s has no dropout; set some before it, such as "
                           "`dropout: {hidden: 0.1}`", type(model).__name__)  # fmt: skip
        return model

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """B rows -> 2B rows, the same in the same order twice."""
        return {name: value if name == "unlabelled" else torch.cat([value, value]) for name, value in batch.items()}

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """α times the divergence, the mean over rows (tokens, where these are labelled)."""
        (one, two), (labels, others) = outputs.logits.chunk(2), batch["labels"].chunk(2)
        if len(one) != len(two) or not torch.equal(labels, others):
            raise UserError("rdrop: both draws of a row must have one target; put it after the techniques that mix "
                            "rows of a batch")  # fmt: skip
        counts = labels.sum(-1) > 0
        return self.alpha * symmetric_divergence(one, two)[counts].mean()


def draws(model: nn.Module, ctx: Context) -> bool:
    """Whether two passes in training mode differ; neither the model nor torch's generators remember them."""
    rows = ctx.train.select(range(min(2, len(ctx.train))))
    device = next(model.parameters()).device
    batch = to_device(ctx.task.collate(ctx.task.encode(rows, ctx.processor), ctx.processor), device)
    model.train()
    with torch.no_grad(), statistics_held(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
        one, two = (model(**batch).logits for _ in range(2))
    model.eval()
    return not torch.equal(one, two)
