"""Ridge head: the last layer by least squares on the features as they are, its penalty by exact leave-one-out.

Helps with 1 to 64 rows a class on good features, costs milliseconds beside computing them, and takes values and sets of
labels as well as classes. Does little where the body has to change, and is often a point or two behind `logistic_head`
where classes are several.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.linear_heads import ridge
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.fitted import fit_head


class RidgeHead(Technique):
    """Fill the last linear layer with a ridge regression; with `num_train_epochs: 0` that is all the training.

    Not for tokens: their labels are tied to each other within a sentence, so that leaving one out leaves its like.
    """

    name = "ridge_head"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://doi.org/10.1080/00401706.1974.10489157"

    balanced: bool = False  # the rows of each class together weigh the same

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled."""
        if self.balanced and ctx.problem_type != "single_label_classification":
            raise UserError(
                f"ridge_head.balanced: rows need one class each, these are for {ctx.problem_type}; leave it out"
            )
        return fit_head(
            model, ctx, self.name, lambda z, targets, kin: ridge(z, targets, ctx.problem_type, self.balanced, kin)
        )
