"""Reinit: the top blocks of the pretrained network, and its pooler, or all of it, start from random values again.

Helps when the top was pretrained for something far from the task, such as filling in words: fine-tuning on hundreds of
rows gets steadier and often better. Hurts sentence encoders, whose top is what makes their embeddings, and with few
rows: what is thrown away has to be learnt from them. `blocks: all` is training from scratch, to compare with.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn
from transformers import PreTrainedModel

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks, learns
from hf_smalldata.nn.heads import POOLERS, head_names
from hf_smalldata.nn.initialise import reinitialise
from hf_smalldata.technique import ALL_TASKS, Context, Technique


class Reinit(Technique):
    """Re-initialise the top blocks that learn, and the pooler (section 4)."""

    name = "reinit"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2006.05987"

    blocks: PositiveInt | Literal["all"] = 1  # from the top; all: the whole network, as its architecture draws it

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with its top, or all of it, as new."""
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"reinit: expected a transformers model, got {type(model).__name__}; list it before lora")
        found = [block.module for block in blocks(model) if learns(block.module)]
        if self.blocks == "all":
            if len(found) < len(blocks(model)):
                raise UserError("reinit.blocks: expected a network of which every block learns for all, and "
                                f"{len(blocks(model)) - len(found)} do not; leave freeze or pooling out")  # fmt: skip
            model.load_state_dict(type(model)(model.config).state_dict())
            return model
        if self.blocks > len(found):
            raise UserError(
                f"reinit.blocks: expected 1 to {len(found)}, got {self.blocks}: so many blocks of "
                f"{type(model).__name__} learn"
            )
        poolers = [model.get_submodule(name) for name in head_names(model) if name.rpartition(".")[2] in POOLERS]
        for part in [*found[-self.blocks :], *poolers]:
            reinitialise(model, part)
        return model
