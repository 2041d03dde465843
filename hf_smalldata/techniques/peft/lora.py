"""LoRA: a low-rank update beside each frozen weight matrix; the head is trained whole.

Helps when rows are few and the model is large: 1 % of the weights learn, the file to ship is small, and forgetting is
bounded. With a small encoder and hundreds of rows, full fine-tuning is often as good. After `freeze: {blocks: 4}` only
the blocks above are adapted, and the frozen ones are computed once for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from peft import LoraConfig, TaskType, get_peft_model
from peft.tuners.lora import Conv2d as AdaptedConv2d
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.heads import head_names, hold_statistics
from hf_smalldata.technique import ALL_TASKS, Context, Technique

# Names that attention projections go by: separate or fused, in transformers and timm.
ATTENTION = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin", "q", "k", "v", "qkv",
             "Wqkv", "query_proj", "key_proj", "value_proj", "in_proj", "c_attn")  # fmt: skip

# peft asks for the kind of head, to keep it beside the adapter; it has no name for heads of images and sounds
TASK_TYPES = {
    "AutoModelForSequenceClassification": TaskType.SEQ_CLS,
    "AutoModelForTokenClassification": TaskType.TOKEN_CLS,
}


class Lora(Technique):
    """Adapters of rank r in the blocks of the backbone: W x + (alpha / r) B A x, with A and B learnt.

    With `use_rslora` the factor is alpha / sqrt(r); with `use_dora` magnitude and direction of W are learnt apart.
    """

    name = "lora"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2106.09685"

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # on the adapters' input
    use_rslora: bool = False  # https://arxiv.org/abs/2312.03732
    use_dora: bool = False  # https://arxiv.org/abs/2402.09353
    targets: Literal["all", "attention"] | tuple[str, ...] = "all"  # every layer of the blocks, or names of layers

    def default_learning_rate(self) -> float | None:
        """Adapters start at zero and want steps ten to twenty times those of full fine-tuning."""
        return 1e-3

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with adapters; everything else but the head is frozen."""
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"lora: expected a transformers model, got {type(model).__name__}")
        names = target_names(model, self.targets)
        hold_statistics(model)
        config = LoraConfig(
            task_type=TASK_TYPES.get(ctx.task.model_class),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            target_modules=names,
            modules_to_save=head_names(model),
            fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in names),
        )
        adapted = get_peft_model(model, config)
        _tell_strides(adapted)
        return adapted


def target_names(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Full names of the layers to adapt: linear ones and ungrouped convolutions, in blocks that are not frozen.

    Raises:
        UserError: no layer of the blocks has such a name, or none can be adapted.
    """
    learning = [block.module for block in blocks(model) if any(p.requires_grad for p in block.module.parameters())]
    if not learning:
        raise UserError("lora: every block is frozen, so there is nothing to adapt; freeze fewer blocks, e.g. "
                        "`freeze: {blocks: 4}`, or leave lora or freeze out")  # fmt: skip
    inside = {id(module) for block in learning for module in block.modules()}
    layers = {name: module for name, module in model.named_modules() if id(module) in inside and _fits(module)}
    if not layers:
        raise UserError(f"lora: {type(model).__name__} has no linear layer or plain convolution in its blocks to adapt")
    if targets == "all":
        chosen = list(layers)
    else:
        wanted = ATTENTION if targets == "attention" else tuple(targets)
        chosen = [name for name in layers if name.split(".")[-1] in wanted]
    if not chosen:
        known = sorted({name.split(".")[-1] for name in layers if not name.split(".")[-1].isdigit()})
        raise UserError(
            f"lora.targets: {targets!r} names no layer of {type(model).__name__}; it has {', '.join(known)}"
        )
    return chosen


def _fits(module: nn.Module) -> bool:
    """Whether the layer is linear in its weight as stored: one that pads or standardises by itself can't be merged."""
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return False
    return type(module).forward in (nn.Linear.forward, nn.Conv2d.forward, Conv1D.forward)


def _tell_strides(model: nn.Module) -> None:
    """Networks that pad as TensorFlow does ask a convolution for its stride, which peft's layer does not tell."""
    for layer in model.modules():
        if isinstance(layer, AdaptedConv2d):
            base = layer.get_base_layer()
            layer.stride, layer.kernel_size, layer.dilation = base.stride, base.kernel_size, base.dilation
