"""BitFit: of the pretrained body only the biases learn, one number in a thousand; the head is trained whole.

Helps when rows are few: little can be learnt by heart, nothing is added to the network, and no setting is to be chosen.
Hurts nothing but accuracy once rows are thousands, where LoRA or all weights reach further.
"""

from __future__ import annotations

from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names, hold_statistics
from hf_smalldata.technique import ALL_TASKS, Context, Technique


class BitFit(Technique):
    """Freeze all but biases, those of norms included, and the head; biases that are frozen already stay so."""

    name = "bitfit"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2106.10199"

    def default_learning_rate(self) -> float | None:
        """Biases want steps ten to twenty times those of all weights (the paper's section 4)."""
        return 1e-3

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """Switch gradients off for all that is no bias."""
        head = {id(p) for name in head_names(model) for p in model.get_submodule(name).parameters()}
        body = {name: p for name, p in model.named_parameters() if id(p) not in head and p.requires_grad}
        if not any(name.endswith("bias") for name in body):
            raise UserError(
                f"bitfit: {type(model).__name__} has no bias below its head that learns; use lora, or freeze less"
            )
        for name, parameter in body.items():
            parameter.requires_grad_(name.endswith("bias"))
        hold_statistics(model)
        return model
