"""Label shift: how frequent each class is where the model will serve moves its answers, by rows without labels.

Helps where a few rows of each class were labelled and the classes are not alike frequent: a network that has seen as
many of each says the rare ones too often, and one number a class mends that. Roughly known shares bring most of it.
So too where labels are of another domain, and all that is asked looks to the network like one or two of its classes.
Costs one pass over the unlabelled rows. Hurts where the shares are wrong, or the unlabelled rows are of another mix.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveInt
from torch import nn

from hf_smalldata.data.domains import at_most, with_labels
from hf_smalldata.errors import UserError, spoken
from hf_smalldata.nn.heads import shift_logits
from hf_smalldata.nn.losses import probabilities
from hf_smalldata.technique import Context, Need
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS
from hf_smalldata.techniques.fewshot.rows import inputs_of
from hf_smalldata.techniques.shares import KnownShares, by_label, offsets
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.predict import predict_logits

logger = logging.getLogger(__name__)

BATCH_SIZE = 32


class LabelShift(KnownShares):
    """Add to the logits the offsets with which the mean prediction on unlabelled rows is the share of each class.

    Expectation regularisation with given label proportions, of which only the biases are learnt: the body has
    settled on few labels by then, and offsets cannot spoil it.
    """

    name = "label_shift"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://dl.acm.org/doi/10.1145/1273496.1273571"

    shares: dict[str, float] | None = None  # of each class, or any counts; without them all are alike frequent
    most: PositiveInt = 10_000  # unlabelled rows looked at, drawn where there are more

    def trained(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its logits moved.

        Raises:
            UserError: no unlabelled rows, or logits that no bias moves.
        """
        if ctx.unlabelled is None or not len(ctx.unlabelled):
            raise UserError("label_shift: there are no unlabelled rows; set data.unlabelled")
        rows = with_labels(at_most(ctx.unlabelled, self.most, ctx.seed), ctx.labels, ctx.problem_type)
        windows = ctx.task.cut(rows, ctx.processor)
        encoded = EncodedRows(windows, ctx.task, ctx.processor)
        collate = collator(ctx.task, ctx.processor, len(ctx.labels), ctx.problem_type)
        logits = torch.from_numpy(predict_logits(model, encoded, collate, BATCH_SIZE))
        if not logits.isfinite().all():  # training diverged, which is told where the network is judged
            return model
        said = ctx.task.merge(probabilities(logits, ctx.problem_type).numpy(), windows, rows)
        given = self.given(ctx.labels)
        wanted = np.full(len(ctx.labels), 1 / len(ctx.labels)) if given is None else given
        offset = offsets(said, wanted)
        one = inputs_of(encoded, [0], ctx, next(model.parameters()).device)
        if not shift_logits(model, torch.from_numpy(offset), lambda network: network(**one).logits):
            raise UserError(f"label_shift: no bias moves the logits of {type(model).__name__}; leave it out")
        shares = by_label(wanted, ctx.labels)
        facts = {
            "unlabelled_rows": len(said),
            "shares_before": by_label(said.mean(0), ctx.labels),
            "shares": shares,
            "offsets": by_label(offset, ctx.labels),
        }
        shown = ", ".join(f"{label} {share:.3g}" for label, share in shares.items())
        told = "as often as it was told" if self.shares else "alike often"
        disclosed = f"moved its answers so that on {len(said)} rows without labels it says each class {told} ({shown})"
        ctx.facts[self.name] = {**facts, "disclosed": disclosed}
        logger.info("label_shift: %s", spoken(facts))
        return model
