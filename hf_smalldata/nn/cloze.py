"""The word that a masked language model fills in, as the logits of a stock classifier.

Stock classifiers read the first token through a head of their own; a masked language model reads the mask through
LayerNorm(gelu(dense)) and a vector for each word. Both are made one, exactly:

- the mask stands first in the input, and the position vectors are put in that order: attention sees no difference;
- one more block of the network's own kind passes the state through its attention, is `gelu(dense)` in its feed-forward
  part, and LayerNorm behind it. As gelu(x) - gelu(-x) = x, the same part takes the block's own residual away;
- the classifier's rows are the vectors of the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.features import Run, readout
from hf_smalldata.nn.fold import append_block, fill_diagonal, unit


class _Parts(NamedTuple):
    """Parts of a masked-language-model head by what they do, and the config's setting that names its activation."""

    dense: str
    norm: str
    words: str
    activation: str = ""  # always gelu


_ROBERTA = _Parts("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
HEADS: dict[str, _Parts] = {  # by config.model_type
    "bert": _Parts("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
                   "hidden_act"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA),
    "distilbert": _Parts("vocab_transform", "vocab_layer_norm", "vocab_projector", "activation"),
}  # fmt: skip
ABSOLUTE = (*HEADS, "electra")  # position is a vector that is added to the token's


class MaskHead(nn.Module):
    """States at the mask (B, d) -> logits of words (B, W)."""

    def __init__(self, dense: nn.Linear, activation: Callable[[Tensor], Tensor], norm: nn.LayerNorm, words: nn.Linear):
        super().__init__()
        self.dense, self.activation, self.norm, self.words = dense, activation, norm, words

    @classmethod
    def of(cls, masked_lm: Any) -> MaskHead:
        """The head of a masked language model, with all words of its vocabulary.

        Raises:
            UserError: a family whose head does not fit into a block.
        """
        config = masked_lm.config
        parts = HEADS.get(config.model_type)
        name = getattr(config, parts.activation) if parts and parts.activation else "gelu"
        if parts is None or not isinstance(name, str) or getattr(config, "hidden_act", name) != name:
            raise UserError(f"the masked-language-model head of {config.model_type} does not fit into a stock "
                            f"classifier; those that do: {', '.join(HEADS)}, with gelu")  # fmt: skip
        part = masked_lm.get_submodule
        return cls(part(parts.dense), ACT2FN[name], part(parts.norm), part(parts.words))

    def forward(self, states: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.words(self.norm(self.activation(self.dense(states))))
        return logits

    @torch.no_grad()
    def narrowed(self, tokens: Sequence[int]) -> MaskHead:
        """The same layers with vectors of their own for some words."""
        words = nn.Linear(self.words.in_features, len(tokens)).to(self.words.weight)
        words.weight.copy_(self.words.weight[list(tokens)])
        words.bias.copy_(self.words.bias[list(tokens)])
        return MaskHead(self.dense, self.activation, self.norm, words)


@torch.no_grad()
def mask_first(model: Any, place: int) -> None:
    """Let a network read at its front what stood at `place`, with all states as they were.

    Args:
        model: changed in place: its vectors of positions 0 to `place`.
        place: of the mask as one would read the text; the tokens before it now stand one further back.

    Raises:
        UserError: a family that has no vectors of positions.
    """
    kind = model.config.model_type
    if kind not in ABSOLUTE:
        raise UserError(f"model.template: {kind} models cannot read a mask at the front; those that can: "
                        f"{', '.join(ABSOLUTE)}")  # fmt: skip
    table: nn.Embedding = model.base_model.embeddings.position_embeddings
    start = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa counts from there
    order = torch.tensor([place, *range(place)], device=table.weight.device)
    table.weight[start : start + place + 1] = table.weight[start + order]


@torch.no_grad()
def fold_head(model: nn.Module, head: MaskHead, run: Run) -> None:
    """Make a stock classifier answer what `head` answers of the state at its first token.

    Args:
        model: a classifier of a family in `HEADS`; changed in place, its config too.
        head: of C words.
        run: runs the network on one batch.

    Raises:
        UserError: a feed-forward part of less than three times the width.
    """
    below = blocks(model)[-1].module
    block, names = append_block(model)
    part: Callable[[str], Any] = block.get_submodule
    width, room = head.dense.in_features, part(names.inner).out_features
    if room < 3 * width:
        raise UserError(
            f"a network {width} wide needs feed-forward parts of {3 * width} to fill in words; found {room}"
        )
    for name in (names.query, names.key, names.value, names.output, names.inner, names.outer):
        fill_diagonal(part(name), 0.0)
    part(names.attention_norm).load_state_dict(below.get_submodule(names.norm).state_dict())
    unit(below.get_submodule(names.norm))  # what is normalised already stays as it is in the next: h = h + 0
    eye = torch.eye(width).to(head.dense.weight)
    part(names.inner).weight[: 3 * width] = torch.cat([head.dense.weight, eye, -eye])
    part(names.inner).bias[:width] = head.dense.bias
    part(names.outer).weight[:, : 3 * width] = torch.cat([eye, -eye, eye], 1)  # gelu(dense(h)) - h, to which h is added
    unit(part(names.norm))
    words, norm = head.words, head.norm
    readout(model, run).fill(words.weight * norm.weight, words.weight @ norm.bias + words.bias)
