"""What adapters share: which layers of a backbone they stand beside, and how they and the head are put in (peft)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.ia3 import Conv2d as ScaledConv2d
from peft.tuners.lora import Conv2d as AdaptedConv2d
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks, learns
from hf_smalldata.nn.heads import head_names, hold_statistics
from hf_smalldata.technique import Context

# Names that attention projections go by: separate or fused, in transformers and timm.
KEY_VALUE = ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "k", "v", "key_proj", "value_proj")
FUSED = ("qkv", "Wqkv", "in_proj", "c_attn")
ATTENTION = ("query", "q_proj", "q_lin", "q", "query_proj", *KEY_VALUE, *FUSED)

# peft asks for the kind of head, to keep it beside the adapter; it has no name for heads of images and sounds
TASK_TYPES = {
    "AutoModelForSequenceClassification": TaskType.SEQ_CLS,
    "AutoModelForTokenClassification": TaskType.TOKEN_CLS,
}


def layers_of(model: nn.Module, technique: str) -> dict[str, nn.Module]:
    """Layers that can be adapted, by full name: linear ones and ungrouped convolutions, in blocks that are not frozen.

    Args:
        model: the network.
        technique: its name, for messages.

    Raises:
        UserError: adapters are there already, every block is frozen, or none has such a layer.
    """
    if not isinstance(model, PreTrainedModel):
        raise UserError(f"{technique}: expected a transformers model, got {type(model).__name__}")
    learning = [block.module for block in blocks(model) if learns(block.module)]
    if not learning:
        raise UserError(f"{technique}: every block is frozen, so there is nothing to adapt; freeze fewer blocks, e.g. "
                        f"`freeze: {{blocks: 4}}`, or leave {technique} or freeze out")  # fmt: skip
    inside = {id(module) for block in learning for module in block.modules()}
    layers = {name: module for name, module in model.named_modules() if id(module) in inside and _fits(module)}
    if not layers:
        raise UserError(
            f"{technique}: {type(model).__name__} has no linear layer or plain convolution in its blocks to adapt"
        )
    return layers


def target_names(model: nn.Module, targets: str | Sequence[str], technique: str = "lora") -> list[str]:
    """Full names of the layers to adapt.

    Args:
        model: the network.
        targets: all, attention (queries, keys and values), or the last parts of names.
        technique: its name, for messages.

    Raises:
        UserError: no layer of the blocks has such a name, or none can be adapted.
    """
    layers = layers_of(model, technique)
    if targets == "all":
        return list(layers)
    chosen = called(layers, ATTENTION if targets == "attention" else targets)
    if not chosen:
        known = sorted({name.split(".")[-1] for name in layers if not name.split(".")[-1].isdigit()})
        raise UserError(
            f"{technique}.targets: {targets!r} names no layer of {type(model).__name__}; it has {', '.join(known)}"
        )
    return chosen


def called(layers: dict[str, nn.Module], names: Sequence[str]) -> list[str]:
    """Full names of the layers whose own name is one of `names`."""
    return [name for name in layers if name.split(".")[-1] in names]


def adapted(model: nn.Module, ctx: Context, config: PeftConfig) -> PeftModel:
    """The network with adapters beside the layers that `config` names; everything else but the head is frozen.

    Args:
        model: as it came through `layers_of`.
        ctx: of the run.
        config: of the adapter, of which the parts that are alike for all adapters are filled in.
    """
    hold_statistics(model)
    settings: Any = config
    settings.task_type = TASK_TYPES.get(ctx.task.model_class)
    settings.modules_to_save = head_names(model)
    settings.fan_in_fan_out = any(isinstance(model.get_submodule(name), Conv1D) for name in settings.target_modules)
    wrapped = get_peft_model(model, config)
    _tell_strides(wrapped)
    return wrapped


def _fits(module: nn.Module) -> bool:
    """Whether the layer is linear in its weight as stored: one that pads or standardises by itself can't be merged."""
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return False
    return type(module).forward in (nn.Linear.forward, nn.Conv2d.forward, Conv1D.forward)


def _tell_strides(model: nn.Module) -> None:
    """Networks that pad as TensorFlow does ask a convolution for its stride, which peft's layer does not tell."""
    for layer in model.modules():
        if isinstance(layer, AdaptedConv2d | ScaledConv2d):
            base = layer.get_base_layer()
            layer.stride, layer.kernel_size, layer.dilation = base.stride, base.kernel_size, base.dilation
