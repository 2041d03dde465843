"""Noise-robust loss: a wrong label pulls no harder than a right one.

Helps when a fair share of labels is wrong: cross-entropy pulls hardest towards the labels that the network believes
least, and in the end it learns them by heart. Hurts when labels are clean and classes many, since it learns slowly;
a low `keep` also leaves out rare classes, whose rows are hard but not wrong.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from hf_smalldata.nn.losses import Terms, refuse_regression
from hf_smalldata.technique import ALL_TASKS, Context, Technique


def generalised_cross_entropy(cost: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q of the cost -log p, for each of any shape. Towards q = 0 it is the cost, at 1 it is 1 - p."""
    return -torch.expm1(-q * cost) / q  # eq. 6


def smallest(terms: Terms, keep: float) -> Terms:
    """The terms with nothing but the `keep` share of rows that cost least; at least one, of those that count."""
    counts = terms.weight > 0
    costs = ((terms.mass * terms.cost).sum(-1) / terms.weight.where(counts, 1)).detach()
    number = math.ceil(keep * int(counts.sum()))
    chosen = costs.where(counts, math.inf).argsort(stable=True)[:number]
    kept = torch.zeros_like(terms.weight).index_fill(0, chosen, 1)
    return terms._replace(mass=terms.mass * kept[:, None], weight=terms.weight * kept)


class NoiseRobust(Technique):
    """Generalised cross-entropy, and on request nothing of the rows of a batch that cost most.

    Small-loss rows are chosen as in co-teaching (https://arxiv.org/abs/1804.06872), by the network itself instead of a
    second one, and from the first step on, since few steps leave none to wait for. The paper's own truncated
    loss chooses by a threshold; a share needs no knowledge of how sure a network becomes. Of several processes each
    chooses in its part of the batch.
    """

    name = "noise_robust"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1805.07836"

    q: float = Field(default=0.7, gt=0, le=1)  # towards 0 it is cross-entropy; 1 is the mean absolute error
    keep: float = Field(default=1.0, gt=0, le=1)  # share of a batch's rows (tokens, where these are labelled)

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is; a number has no probability of being right."""
        refuse_regression(self.name, ctx.problem_type)
        return model

    def loss_terms(self, terms: Terms) -> Terms:
        """Cross-entropy -> generalised cross-entropy of the rows that are kept."""
        chosen = terms if self.keep == 1 else smallest(terms, self.keep)
        return chosen._replace(cost=generalised_cross_entropy(chosen.cost, self.q))
