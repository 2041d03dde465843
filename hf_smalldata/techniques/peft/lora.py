"""LoRA: a low-rank update beside each frozen weight matrix; the head is trained whole.

Helps when rows are few and the model is large: 1 % of the weights learn, the file to ship is small, and forgetting is
bounded. With a small encoder and hundreds of rows, full fine-tuning is often as good. After `freeze: {blocks: 4}` only
the blocks above are adapted, and the frozen ones are computed once for each row.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from peft import LoraConfig, get_peft_model_state_dict
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import nn

from hf_smalldata.bundle import INITIAL_ADAPTER
from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.peft.adapter import adapted, target_names


class Lora(Technique):
    """Adapters of rank r in the blocks of the backbone: W x + (alpha / r) B A x, with A and B learnt.

    With `use_rslora` the factor is alpha / sqrt(r); with `use_dora` magnitude and direction of W are learnt apart.
    At first B is 0; with `init: pissa` B A is made of the r largest singular values of W, with `olora` of r columns of
    its QR decomposition, and W holds the rest. Quantised bases, and LoftQ with them, are not this technique's.
    """

    name = "lora"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2106.09685"

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # on the adapters' input
    use_rslora: bool = False  # https://arxiv.org/abs/2312.03732
    use_dora: bool = False  # https://arxiv.org/abs/2402.09353
    init: Literal["default", "pissa", "olora"] = "default"  # https://arxiv.org/abs/2404.02948, 2406.01775
    targets: Literal["all", "attention"] | tuple[str, ...] = "all"  # every layer of the blocks, or names of layers

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.init != "default" and (self.dropout or self.use_dora):
            raise ValueError(
                f"init {self.init} needs dropout: 0 and no use_dora: its adapters hold a part of the pretrained weights"
            )
        return self

    def default_learning_rate(self) -> float | None:
        """Adapters start at zero and want steps ten to twenty times those of full fine-tuning."""
        return 1e-3

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with adapters; everything else but the head is frozen."""
        names = target_names(model, self.targets)
        if self.init != "default" and any(isinstance(model.get_submodule(name), nn.Conv2d) for name in names):
            raise UserError(f"lora.init: {self.init} is for linear layers, and {type(model).__name__} has convolutions "
                            "to adapt; leave init out, or name linear layers in targets")  # fmt: skip
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights=True if self.init == "default" else self.init,
            target_modules=names,
        )
        wrapped = adapted(model, ctx, config)
        if self.init != "default":  # what the base is short of, without which the adapter fits no checkpoint
            start = get_peft_model_state_dict(wrapped)
            setattr(wrapped, INITIAL_ADAPTER, {name: tensor.detach().clone() for name, tensor in start.items()})
        return wrapped
