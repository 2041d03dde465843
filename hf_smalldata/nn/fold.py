"""Mean pooling inside stock classifiers that read the first token.

The mean of all token states is a far better embedding than the first token's, but BERT-like classifiers read the first
token. One appended block makes them read the mean, with no code beyond transformers: its queries and keys
are zero, so that it attends evenly to every token that is not padding; values are passed on as they are, `strength`
times, so that its residual drowns; the normalisation takes the scale away, and its feed-forward part adds nothing. What
the first token then holds is LayerNorm(mean), up to 1 / strength.

The block costs as much as any other in a stock pipeline; `hasten` computes the same at no cost here.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_smalldata.nn.blocks import blocks, hold_in_eval

LARGEST = 3e4  # what a state times `strength` may reach: float16 ends at 65504


class Names(NamedTuple):
    """Parts of a transformer block by what they do."""

    query: str
    key: str
    value: str
    output: str  # of attention
    attention_norm: str
    inner: str  # feed-forward, first and second layer
    outer: str
    norm: str  # of the feed-forward part
    final_norm: str | None = None  # beside the blocks, where these normalise their input and not their output


BERT = Names("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")  # fmt: skip
FAMILIES: dict[str, Names] = {  # by config.model_type
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), BERT),
    "distilbert": Names("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
                        "ffn.lin1", "ffn.lin2", "output_layer_norm"),
    "mpnet": Names("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
                   "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    "deberta-v2": BERT._replace(query="attention.self.query_proj", key="attention.self.key_proj",
                                value="attention.self.value_proj"),
    "esm": BERT._replace(attention_norm="attention.LayerNorm", norm="LayerNorm", final_norm="emb_layer_norm_after"),
}  # fmt: skip
PLAIN = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "esm")  # nothing but the mask weighs


def foldable(model: nn.Module) -> bool:
    """Whether a block that pools can be appended to this network."""
    return _model_type(model) in FAMILIES


def append_block(model: nn.Module) -> tuple[nn.Module, Names]:
    """One more block of the network's own kind, a copy of its last: frozen, without dropout.

    Raises:
        ValueError: not a family that is known.
    """
    names = FAMILIES[_model_type(model)]
    last = blocks(model)[-1]
    block = copy.deepcopy(last.module)
    series: Any = last.parent
    series.append(block)
    _say_depth(model, len(series))
    _hold(block)
    return block, names


def _hold(block: nn.Module) -> None:
    """Frozen, without dropout."""
    block.requires_grad_(False)
    for module in list(block.modules()):
        hold_in_eval(module)


def keep_bottom(model: nn.Module, count: int) -> None:
    """Drop all blocks above the bottom `count`: the output of a lower one is often the better embedding.

    Args:
        model: of a family in `FAMILIES`; changed in place, its config too.
        count: 2 to the number of blocks.
    """
    series: Any = blocks(model)[0].parent
    del series[count:]
    _say_depth(model, count)


@torch.no_grad()
def fold_mean(model: nn.Module, largest: float) -> float:
    """Append a block that puts LayerNorm(mean of the token states) at the first token.

    With relative positions that are shared by all blocks (MPNet), the mean is one weighted by them.

    Args:
        model: of a family in `FAMILIES`; changed in place, its config too.
        largest: absolute value that a state takes.

    Returns:
        The strength of the mean beside the first token's own state.
    """
    strength = _rounded_down(LARGEST / largest)
    block, names = append_block(model)
    part = block.get_submodule
    for name in (names.query, names.key, names.inner, names.outer):
        fill_diagonal(part(name), 0.0)
    fill_diagonal(part(names.value), 1.0)
    fill_diagonal(part(names.output), strength)
    if names.final_norm:
        final = _parent(model).get_submodule(names.final_norm)
        part(names.attention_norm).load_state_dict(final.state_dict())  # values are then the states as they were
        unit(final)
    else:
        unit(part(names.attention_norm))
    unit(part(names.norm))
    return strength


def _rounded_down(value: float) -> float:
    """To three binary digits, which every floating-point format holds: at least four fifths of the value."""
    step = 2.0 ** (math.floor(math.log2(value)) - 2)
    return step * math.floor(value / step)


def hasten(model: nn.Module) -> bool:
    """Compute an appended pooling block by its formula instead of its layers; whether there is one.

    Weights and config stay those of a stock model: what is saved is the same.
    """
    if _model_type(model) not in PLAIN or not has_pooling(model):
        return False
    block: Any = blocks(model)[-1].module
    if not isinstance(block, _Pools):
        names = {"names": FAMILIES[_model_type(model)]}
        block.__class__ = type(f"Pooling{type(block).__name__}", (_Pools, type(block)), names)
    return True


def has_pooling(model: nn.Module) -> bool:
    """Whether the last block of a network is one that `fold_mean` appended."""
    if not foldable(model):
        return False
    names, block = FAMILIES[_model_type(model)], blocks(model)[-1].module
    parts: list[Any] = [block.get_submodule(name) for name in (names.query, names.key, names.outer)]
    return not any(bool(part.weight.any()) for part in parts)


def keep_pooling(model: nn.Module) -> bool:
    """A pooling block that a checkpoint brings stays as it was appended; whether there is one."""
    if not has_pooling(model):
        return False
    _hold(blocks(model)[-1].module)
    hasten(model)
    return True


class _Pools(nn.Module):
    """A pooling block: one sum over tokens, and one state for all places, of which a head reads the first."""

    names: Names

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        part: Any = self.get_submodule
        norm, output, before = part(self.names.attention_norm), part(self.names.output), bool(self.names.final_norm)
        first, values = hidden_states[:, :1], norm(hidden_states) if before else hidden_states
        weights = _weights(attention_mask, hidden_states).unsqueeze(-1)  # (B, T, 1)
        pooled = (values * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)  # (B, T, d) -> (B, 1, d)
        mixed = output.weight[0, 0] * pooled + first
        mixed = mixed if before else part(self.names.norm)(norm(mixed))
        states: Tensor = mixed.expand_as(hidden_states)
        return states


def _weights(mask: Tensor | None, states: Tensor) -> Tensor:
    """1 for tokens, 0 for padding (B, T), of a mask in any form that transformers hands to a block."""
    if mask is None:
        return states.new_ones(states.shape[:2])
    row = mask[:, 0, 0] if mask.dim() == 4 else mask
    keeps = row > -1 if mask.dim() == 4 and row.is_floating_point() else row > 0
    return keeps.to(states.dtype).expand(states.shape[:2])


def _model_type(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def _parent(model: nn.Module) -> nn.Module:
    """The module that holds the series of blocks."""
    series = blocks(model)[0].parent
    return next(module for module in model.modules() if any(child is series for child in module.children()))


def _say_depth(model: nn.Module, count: int) -> None:
    """The config says how many blocks there are; ESM's (unused) contact head has a weight for each of their heads."""
    config: Any = model.config
    config.num_hidden_layers = count
    holder: Any = next((part for part in model.modules() if hasattr(part, "contact_head")), None)
    if holder is not None:
        width = count * config.num_attention_heads
        holder.contact_head.regression = nn.Linear(width, 1, device=next(model.parameters()).device)


def fill_diagonal(layer: Any, diagonal: float) -> None:
    """Set a linear layer to a multiple of the identity, without a bias."""
    layer.weight.zero_()
    layer.weight.fill_diagonal_(diagonal)
    layer.bias.zero_()


def unit(norm: Any) -> None:
    """Let a normalisation do nothing but normalise."""
    norm.weight.fill_(1.0)
    norm.bias.zero_()
