"""Label propagation: unlabelled rows take the labels of the rows most like them, and the head learns from all of them.

Helps where classes are clumps in the features: photos, cells and sounds read by a pretrained network, with a few rows
labelled and hundreds beside them that are not. Costs one pass over these and no training. Does nothing where the
pretrained features mix the classes, as those of sentences often do; the labelled rows that are left out tell. After
`contrastive`, which brings these close together whatever they are, they tell less: let a study decide.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from scipy.sparse import spmatrix
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor, nn

from hf_smalldata.data.domains import at_most, with_labels
from hf_smalldata.data.made import Kin
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.nn.linear_heads import Head
from hf_smalldata.nn.logistic_heads import Rows, logistic
from hf_smalldata.technique import Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, one_class_each
from hf_smalldata.techniques.fewshot.fitted import fit_head
from hf_smalldata.techniques.fewshot.rows import features_of

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

MOST_STEPS = 1000
CLEARLY = 0.02  # of log-loss, by which the labelled rows alone must be ahead to be believed: few rows judge


class LabelPropagation(Technique):
    """Fills the last layer from labelled and unlabelled rows; with `num_train_epochs: 0` that is all the training.

    Labels spread over a graph of nearest neighbours among the features as they are, and a logistic regression learns
    from all rows with the labels that they then have. Penalty and scale are judged by labelled rows that are left out,
    each time with the labels spread from the others alone; where a head of the labelled rows only is clearly ahead
    there, that one is taken and the Run says so.
    """

    name = "label_propagation"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    fills_head: ClassVar[bool] = True
    paper = "https://proceedings.neurips.cc/paper/2003/hash/87682805257e619d49b8e0dfdc14affa-Abstract.html"

    neighbours: PositiveInt = 10  # of each row
    alpha: float = Field(default=0.9, gt=0, lt=1)  # of a label, how much comes from the neighbours
    most: PositiveInt = 10_000  # unlabelled rows looked at, drawn where there are more

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled.

        Raises:
            UserError: rows without one class each, or no unlabelled ones.
        """
        one_class_each(self.name, ctx.problem_type)
        if ctx.unlabelled is None:
            raise UserError("label_propagation: there are no unlabelled rows; set data.unlabelled")
        looked_at = with_labels(at_most(ctx.unlabelled, self.most, ctx.seed), ctx.labels, ctx.problem_type)
        beside, _ = features_of(model, ctx, looked_at)
        return fit_head(model, ctx, self.name, lambda z, targets, kin: self.head(z, targets, beside, kin, ctx.seed))

    def head(self, z: Tensor, targets: Tensor, beside: Tensor, kin: Kin, seed: int) -> Head:
        """A head of features (N, d), with targets (N, C), and of features without (U, d); or of the first alone."""
        problem: ProblemType = "single_label_classification"
        known = len(z)
        alone = logistic(z, targets, problem, seed, kin=kin)
        both, nothing = torch.cat([z, beside]), targets.new_zeros(len(beside), targets.shape[1])
        together = Kin(
            np.concatenate([kin.leader, np.arange(known, known + len(beside))]),
            np.concatenate([kin.real, np.zeros(len(beside), dtype=bool)]),  # of classes not known: they judge nothing
        )
        spread = logistic(both, torch.cat([targets, nothing]), problem, seed, grow=self.grown, kin=together)
        facts: dict[str, float] = {"unlabelled_rows": len(beside)}
        if "cv_loss" not in alone.facts:  # no row can be left out
            return Head(spread.weight, spread.bias, {**spread.facts, **facts, "used": True})
        left_out, lone = spread.facts["cv_loss"], alone.facts["cv_loss"]
        used = left_out < lone + CLEARLY
        if not used:
            logger.warning("label_propagation: had no effect, on labelled rows that are left out the others alone are "
                           "better (log-loss %.3f, with labels spread %.3f)", lone, left_out)  # fmt: skip
        head = spread if used else alone
        facts |= {"used": used, "cv_loss_spread": left_out, "cv_loss_alone": lone}
        return Head(head.weight, head.bias, {**head.facts, **facts})

    def grown(self, x: Array, targets: Array) -> Rows:
        """Features (N, K) with the targets (N, C) that they have or, where these are all 0, get."""
        labels = np.where(targets.any(1), targets.argmax(1), -1)
        return Rows(x, np.eye(targets.shape[1])[propagated(x, labels, self.neighbours, self.alpha)])


def propagated(x: Array, labels: Array, neighbours: int, alpha: float) -> Array:
    """Labels (N,) of all rows: F = alpha S F + (1 - alpha) Y, solved by steps, and then the largest of each row.

    S is the symmetrically normalised graph in which each row is joined with those nearest to it by cosine distance.

    Args:
        x: features (N, K).
        labels: (N,); -1 where there is none. Those that are given stay.
        neighbours: of each row; fewer where there are fewer rows.
        alpha: see above.
    """

    def graph(rows: Array, _: Array | None) -> spmatrix:
        near = kneighbors_graph(rows, min(neighbours, len(rows) - 1))  # on the unit sphere: in the order of cosines
        return near + near.T

    spreading = LabelSpreading(kernel=graph, alpha=alpha, max_iter=MOST_STEPS).fit(normalize(x), labels)
    return np.where(labels >= 0, labels, spreading.transduction_)
