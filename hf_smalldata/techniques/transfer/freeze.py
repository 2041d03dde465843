"""Freeze: the bottom of the network stays as it was pretrained; only the top and the head learn.

Helps when rows are few and near to what the network was pretrained on, and makes training fast: the output of the
frozen part is computed once for each row and kept. Hurts when the rows look unlike the pretraining data.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import below, blocks, hold_in_eval
from hf_smalldata.nn.heads import head_names, hold_statistics
from hf_smalldata.technique import ALL_TASKS, Context, Technique


class Freeze(Technique):
    """Freeze the embeddings and the bottom blocks, or the whole body: feature extraction, where the head alone learns.

    Frozen parts run as in evaluation: without dropout, with the BatchNorm statistics of pretraining. That is what makes
    their output a constant of the row.
    """

    name = "freeze"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1411.1792"

    blocks: Annotated[int, Field(ge=1)] | Literal["all"] = "all"  # bottom blocks, with all that lies below them

    def default_learning_rate(self) -> float | None:
        """A head alone starts from nothing and wants larger steps than a pretrained body."""
        return 1e-2 if self.blocks == "all" else None

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """Switch gradients off below the cut and hold it in evaluation mode."""
        cut = len(blocks(model)) if self.blocks == "all" else self.blocks
        features = ctx.task.encode(ctx.train.select([0]), ctx.processor)
        batch = ctx.task.collate(features, ctx.processor)
        frozen, modules = below(model, cut, lambda network: network(**batch))
        if self.blocks == "all":
            head = [parameter for name in head_names(model) for parameter in model.get_submodule(name).parameters()]
            if not head:
                raise UserError(f"freeze: {type(model).__name__} has no head that could learn")
            kept = set(map(id, head))
            frozen = [parameter for parameter in model.parameters() if id(parameter) not in kept]
            hold_statistics(model)
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module in modules:
            hold_in_eval(module)
        return model
