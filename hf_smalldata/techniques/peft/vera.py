"""VeRA: one pair of random matrices for all layers, of which each learns two scaling vectors; the head learns whole.

Helps when rows are few and the model is large: some ten times fewer numbers learn than with LoRA. Does little for small
encoders, where LoRA's numbers are few as well, and takes more steps to get as far.
"""

from __future__ import annotations

from typing import Annotated, Literal

from peft import VeraConfig
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.peft.adapter import adapted, target_names


class Vera(Technique):
    """W x + b * B (d * A x) with A and B random and shared by all linear layers, the vectors b and d learnt (eq. 2)."""

    name = "vera"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2310.11454"

    rank: PositiveInt = 256  # of the random matrices: far above LoRA's, as a number in it costs one in d only
    initial: PositiveFloat = 0.1  # of d; b starts at 0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # on the adapters' input
    targets: Literal["all", "attention"] | tuple[str, ...] = "all"  # linear layers of the blocks, or names of layers

    def default_learning_rate(self) -> float | None:
        """Vectors have a longer way to go than matrices."""
        return 1e-2

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with adapters, their random matrices drawn by the run's seed; all else but the head is frozen."""
        names = target_names(model, self.targets, self.name)
        linear = [name for name in names if not isinstance(model.get_submodule(name), nn.Conv2d)]
        if not linear:
            raise UserError(f"vera: for linear layers, and {type(model).__name__} adapts convolutions only; use lora")
        config = VeraConfig(
            r=self.rank,
            target_modules=linear,
            d_initial=self.initial,
            vera_dropout=self.dropout,
            projection_prng_key=ctx.seed,
        )
        return adapted(model, ctx, config)
