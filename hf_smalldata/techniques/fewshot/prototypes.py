"""Prototypes: each class is the mean of its rows' features, and a row belongs to the nearest mean; nothing is trained.

Helps with 1 to 4 rows a class, where a fitted head has too little to fit; names of classes can stand in for rows. Does
little beside `logistic_head` with 8 rows a class or more, and is not for sets of labels or values.
"""

from __future__ import annotations

import logging
from typing import ClassVar

from torch import nn

from hf_smalldata.errors import UserError, spoken
from hf_smalldata.nn.prototype_heads import Metric, prototypes
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.fewshot.targets import targets_of
from hf_smalldata.techniques.fewshot.template import with_names

logger = logging.getLogger(__name__)


class Prototypes(Technique):
    """Fill the last linear layer so that it answers with the nearest class mean.

    Not for tokens: most are of no class at all, and these have no common mean.
    """

    name = "prototypes"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/1703.05175"

    metric: Metric = "mahalanobis"  # on average the best where we measured; cosine suits features of a contrastive body
    class_names: bool = False  # each class name in the template is one more row of its class; for texts
    template: str = "This text is about {}"

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled."""
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"prototypes: rows need one class each, these are for {ctx.problem_type}; use ridge_head")
        if self.class_names and ctx.task.kind != "text":
            raise UserError(
                f"prototypes.class_names: names can only stand among texts, not {ctx.task.kind}s; leave it out"
            )
        rows = with_names(ctx.train, ctx.labels, self.template) if self.class_names else ctx.train
        targets = targets_of(rows, ctx, self.name)
        z, out = features_of(model, ctx, rows)
        head = prototypes(z, targets, self.metric)
        out.fill(head.weight, head.bias)
        ctx.facts[self.name] = head.facts
        logger.info("prototypes: %s", spoken(head.facts))
        return model
