"""Adapted head: the last layer learnt for the domain of the unlabelled rows, by class centres that are found there.

Helps where labels are of one domain and the model serves in another (photos and sketches, one scanner and the next),
with a pretrained network that knows both: features of a domain lie about a mean of its own, and in clumps of their own.
Costs a pass over the rows and no training. Hurts where classes are not as frequent in the other domain as it is told,
and may where the network tells the classes of that domain badly apart.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from pydantic import PositiveInt
from scipy.special import log_softmax, softmax
from sklearn.preprocessing import normalize
from torch import Tensor, nn

from hf_smalldata.data.domains import at_most, with_labels
from hf_smalldata.data.made import Kin
from hf_smalldata.errors import UserError
from hf_smalldata.nn.linear_heads import Head
from hf_smalldata.nn.logistic_heads import logistic
from hf_smalldata.technique import Context, Need
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.fewshot.targets import targets_of
from hf_smalldata.techniques.shares import KnownShares, by_label, offsets

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

TEMPERATURE = 0.1  # of cosines, as logits


class AdaptedHead(KnownShares):
    """Fills the last layer after training, or without one: for the domain of `data.unlabelled`, not for the labelled.

    Features are taken about the mean of their domain. A logistic head of the labelled rows says how likely each class
    is of each unlabelled row, offsets give each class its share (`label_shift`); the means of the rows so weighted are
    the centres of the classes in this domain, by which its rows get labels (SHOT, eqs. 4 and 5, once), and a logistic
    head learns from both. With `data.source` the training rows are of this domain too: they are among its centres.
    """

    name = "adapted_head"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/2002.08546"

    shares: dict[str, float] | None = None  # of each class there, or any counts; without them as of the labelled rows
    most: PositiveInt = 2000  # unlabelled rows looked at, drawn where there are more

    def check(self, train: Dataset, ctx: Context) -> None:
        """Refuse source rows with labels of their own too.

        Raises:
            UserError: as of `KnownShares`, or for those.
        """
        super().check(train, ctx)
        if ctx.source_labels:
            raise UserError("adapted_head: learns the target's labels from source rows, and data.source_labels says "
                            "that they have their own; map them, or leave data.source out")  # fmt: skip

    def trained(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its head filled.

        Raises:
            UserError: no unlabelled rows.
        """
        if ctx.unlabelled is None or not len(ctx.unlabelled):
            raise UserError("adapted_head: there are no unlabelled rows; set data.unlabelled")
        z, out = features_of(model, ctx)
        beside, _ = features_of(model, ctx, with_labels(at_most(ctx.unlabelled, self.most, ctx.seed), ctx.labels,
                                                        ctx.problem_type))  # fmt: skip
        if not (z.isfinite().all() and beside.isfinite().all()):  # training diverged: told where the network is judged
            return model
        targets, kin = targets_of(ctx.train, ctx, self.name), Kin.of(ctx.train)
        own = torch.zeros(len(z), dtype=torch.bool)
        if ctx.source is None:
            mean, z = beside.mean(0), z - z.mean(0)
        else:
            elsewhere, _ = features_of(model, ctx, ctx.source)
            mean = torch.cat([z, beside]).mean(0)
            z = torch.cat([z - mean, about_their_means(elsewhere, ctx.source["domain"][:])])
            targets = torch.cat([targets, targets_of(ctx.source, ctx, self.name)])
            kin = Kin(np.concatenate([kin.leader, np.arange(len(kin.leader), len(z))]),
                      np.concatenate([kin.real, np.ones(len(elsewhere), dtype=bool)]))  # fmt: skip
            own = torch.arange(len(z)) < len(ctx.train)
        head, facts = self.head(z, targets, own, beside - mean, kin, ctx)
        out.fill(head.weight, head.bias - head.weight @ mean.to(head.weight))
        disclosed = (f"the last layer was learnt for the domain of {len(beside)} rows without labels, which got labels "
                     "by class centres")  # fmt: skip
        ctx.facts[self.name] = {**head.facts, **facts, "disclosed": disclosed}
        logger.info("adapted_head: of %d rows without labels %.0f %% got another than the labelled rows alone say",
                    len(beside), 100 * facts["labelled_otherwise"])  # fmt: skip
        return model

    def head(
        self, z: Tensor, targets: Tensor, own: Tensor, beside: Tensor, kin: Kin, ctx: Context
    ) -> tuple[Head, dict[str, Any]]:
        """A head of features about the mean of their domain, and what is told of it.

        Args:
            z: of labelled rows (N, d).
            targets: theirs (N, C), one-hot.
            own: which of them are of the domain that the head is for (N,).
            beside: of unlabelled rows of that domain (U, d).
            kin: which labelled rows are variants of which.
            ctx: of the run.
        """
        given = self.given(ctx.labels)
        wanted = targets.double().mean(0).numpy() if given is None else given
        first = logistic(z, targets, "single_label_classification", ctx.seed, kin=kin)
        said = softmax((beside.double() @ first.weight.double().T + first.bias.double()).numpy(), axis=1)
        labels = by_centres(beside.numpy(), said, z[own].numpy(), targets[own].numpy(), wanted)
        known, found = len(z), torch.from_numpy(np.eye(len(wanted))[labels]).to(targets)
        together = Kin(
            np.concatenate([kin.leader, np.arange(known, known + len(beside))]),
            np.concatenate([kin.real, np.zeros(len(beside), dtype=bool)]),  # of classes not known: they judge nothing
        )
        head = logistic(torch.cat([z, beside]), torch.cat([targets, found]), "single_label_classification", ctx.seed,
                        kin=together, penalties=(first.facts["penalty"],))  # fmt: skip
        return head, {
            "unlabelled_rows": len(beside),
            "shares_before": by_label(said.mean(0), ctx.labels),
            "shares": by_label(wanted, ctx.labels),
            "labelled_otherwise": round(float((said.argmax(1) != labels).mean()), 4),  # than by the labelled rows alone
        }


def about_their_means(z: Tensor, domains: list[str]) -> Tensor:
    """Features (N, d) less the mean of their domain, which is named for each (N,)."""
    found = z.clone()
    names = np.array(domains)
    for name in np.unique(names):
        rows = torch.from_numpy(names == name)
        found[rows] -= z[rows].mean(0)
    return found


def by_centres(x: Array, said: Array, own: Array, targets: Array, wanted: Array) -> Array:
    """Labels (U,) of rows by the nearest of the class centres, each class as often as is wanted.

    Args:
        x: features about their mean (U, d).
        said: how likely each class is (U, C), by which rows weigh in its centre once it has its share.
        own: features of labelled rows of the same domain (N, d), N may be 0; they weigh as they are labelled.
        targets: of those (N, C), one-hot.
        wanted: shares of the classes (C,).
    """
    x, own = normalize(x), normalize(own) if len(own) else own
    weights = softmax(np.log(np.maximum(said, np.finfo(np.float32).tiny)) + offsets(said, wanted), axis=1)
    centres = normalize(weights.T @ x + targets.T @ own)
    scores = log_softmax(x @ centres.T / TEMPERATURE, axis=1)
    labels: Array = (scores + offsets(np.exp(scores), wanted)).argmax(1)
    return labels
