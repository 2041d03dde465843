"""QLoRA: LoRA beside weights of 4 bits, so that a large model is trained on a small GPU; the head is trained whole.

Helps when a model fits the GPU but its training does not. Not for networks of 100 million weights and less, which train
as they are, and not without a CUDA GPU.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as AdaptedLinear
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.errors import UserError, require
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.peft.adapter import adapted, target_names


class Qlora(Technique):
    """LoRA whose linear base layers are of 4 bits (NF4, section 3) while it is trained.

    The layers as they were wait in the CPU's memory and come back afterwards, so that the model is judged and saved
    with the adapter merged into the full weights: a stock one, whose outputs are a little off those trained on, by as
    much as 4 bits cannot hold. At first the whole model has to fit the GPU once.
    """

    name = "qlora"
    tasks = ALL_TASKS
    needs = frozenset({"gpu"})
    extra = "quantized"
    paper = "https://arxiv.org/abs/2305.14314"

    rank: PositiveInt = 16
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05  # on the adapters' input
    double_quantization: bool = True  # the scales of blocks of weights are quantised too: 0.4 bits less a weight
    targets: Literal["all", "attention"] | tuple[str, ...] = "all"  # every layer of the blocks, or names of layers

    def default_learning_rate(self) -> float | None:
        """That of LoRA."""
        return 1e-3

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with adapters; everything else but the head is frozen."""
        if not torch.cuda.is_available():
            raise UserError(
                "qlora: 4-bit weights need a CUDA GPU, and none is found; use lora, with frozen bottom blocks "
                "(`freeze: {blocks: 4}`) if memory is short"
            )
        require("bitsandbytes", extra="quantized")
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=target_names(model, self.targets, self.name),
        )
        return adapted(model, ctx, config)

    def callbacks(self) -> list[TrainerCallback]:
        """The one that quantises the base for the time of training."""
        return [Quantised(self.double_quantization)]


class Quantised(TrainerCallback):
    """Within training, linear layers below adapters are of 4 bits."""

    def __init__(self, double: bool) -> None:
        self.double = double
        self.whole: list[tuple[Any, nn.Linear]] = []  # adapted layers, and what lies below them

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Quantise, and keep the layers as they were on the CPU."""
        for layer in list(kwargs["model"].modules()):
            if isinstance(layer, AdaptedLinear) and type(layer.base_layer) is nn.Linear:
                whole = layer.base_layer
                layer.base_layer = four_bit(whole, self.double)
                self.whole.append((layer, whole.to("cpu")))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the layers back."""
        for layer, whole in self.whole:
            layer.base_layer = whole.to(args.device)
        self.whole.clear()


def four_bit(layer: nn.Linear, double: bool) -> nn.Module:
    """A layer with the same weight in NF4, computed in bfloat16, on the same device.

    Args:
        layer: is not changed.
        double: quantise the scales of blocks of weights, too.
    """
    bnb: Any = require("bitsandbytes", extra="quantized")
    made: nn.Module = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=torch.bfloat16,
        compress_statistics=double,
        quant_type="nf4",
    )
    made.weight = bnb.nn.Params4bit(
        layer.weight.detach(), requires_grad=False, compress_statistics=double, quant_type="nf4", module=made
    )
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    return made.to(layer.weight.device)
