"""Prompt tuning: learnt tokens stand before every text; all weights stay as they are, but for the head.

Helps where one large model serves many tasks, each of which is then a few vectors and a head. Does little for small
encoders: below a billion weights it stays behind fine-tuning (the paper's figure 1), and takes higher rates and more
epochs to get anywhere. Each text costs that many tokens more.

The tokens are new ones of the vocabulary, which the saved tokenizer puts before every text, so that a stock pipeline
has them. Prefix tuning and adaption prompts, whose vectors stand inside of every block, can't be stored so.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import TrainableTokensConfig
from pydantic import PositiveInt
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.prompt import prompt_token_ids
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.peft.adapter import adapted


class PromptTuning(Technique):
    """The vectors of new tokens learn, and the head; each starts as that of another token (section 3.2)."""

    name = "prompt_tuning"
    tasks = frozenset({"text-classification", "sequence-classification"})
    paper = "https://arxiv.org/abs/2104.08691"

    tokens: PositiveInt = 20
    init: str | None = None  # a text whose tokens' vectors they start as, repeated or cut; default: tokens at random

    def default_learning_rate(self) -> float | None:
        """A few vectors have a long way to go."""
        return 1e-2

    def settled(self, spec: ModelSpec) -> ModelSpec:
        """With tokens before every text."""
        return ModelSpec.model_validate({**spec.model_dump(), "prompt_tokens": self.tokens})

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with vectors that learn; everything else but the head is frozen."""
        ids, table = prompt_token_ids(ctx.processor), self._table(model)
        if self.init is not None:
            words = ctx.processor(self.init, add_special_tokens=False)["input_ids"]
            if not words:
                raise UserError(f"prompt_tuning.init: expected a text with tokens in it, got {self.init!r}")
            with torch.no_grad():
                table.weight[ids] = table.weight[[words[at % len(words)] for at in range(len(ids))]]
        place = next(name for name, module in model.named_modules() if module is table)
        return adapted(model, ctx, TrainableTokensConfig(token_indices=ids, target_modules=[place]))

    def _table(self, model: Any) -> nn.Embedding:
        table = model.get_input_embeddings()
        if type(table) is not nn.Embedding:
            raise UserError(f"prompt_tuning: {type(model).__name__} has another adapter at its token vectors or no "
                            "table of them; leave one out")  # fmt: skip
        return table
