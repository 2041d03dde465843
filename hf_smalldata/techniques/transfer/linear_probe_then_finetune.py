"""LP-FT: linear probe, then fine-tune; the head is fitted on the frozen features first, then the whole network learns.

Helps when rows to come look unlike the training rows: a head that starts right sends small gradients down, so that good
features are hardly distorted on the way. Does little where adapters or frozen blocks protect the features already.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from hf_smalldata.data.made import Kin
from hf_smalldata.nn.features import Readout, Run, eased, readout
from hf_smalldata.nn.linear_heads import Head, ridge
from hf_smalldata.nn.logistic_heads import logistic
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.fitted import fit_head


class LinearProbeThenFinetune(Technique):
    """Fill the last layer with a logistic regression (ridge regression for values); everything learns from there.

    The paper trains the probe by gradient descent; its optimum is computed here, with a penalty chosen by leaving rows
    out. Layers between the pooled state and the last one start as a scaled identity and learn too. Not for tokens.
    """

    name = "linear_probe_then_finetune"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/2202.10054"

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head fitted."""

        def solve(z: Tensor, targets: Tensor, kin: Kin) -> Head:
            if ctx.problem_type == "regression":
                return ridge(z, targets, ctx.problem_type, kin=kin)
            return logistic(z, targets, ctx.problem_type, ctx.seed, kin=kin)

        return fit_head(model, ctx, self.name, solve, _read)


def _read(model: nn.Module, run: Run) -> Readout:
    return eased(readout(model, run))
