"""Logistic head: the last layer by logistic regression on the features as they are, its penalty by leaving rows out.

Helps with 4 to 64 rows a class on good features: of the heads that need no training loop the most accurate on average,
and seconds of work. Does little where the body has to change, and is not for values.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.logistic_heads import logistic
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.fitted import fit_head


class LogisticHead(Technique):
    """Fill the last linear layer with a logistic regression; with `num_train_epochs: 0` that is all the training.

    Not for tokens: their labels are tied to each other within a sentence, so that leaving one out leaves its like.
    """

    name = "logistic_head"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/2003.11539"

    balanced: bool = False  # the rows of each class together weigh the same

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled."""
        if ctx.problem_type == "regression":
            raise UserError("logistic_head: for classes, and these rows have values; use ridge_head")
        return fit_head(
            model, ctx, self.name,
            lambda z, targets, kin: logistic(z, targets, ctx.problem_type, ctx.seed, self.balanced, kin=kin),
        )  # fmt: skip
