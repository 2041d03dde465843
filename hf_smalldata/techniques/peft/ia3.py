"""IA3: keys, values and inner states of feed-forward parts are multiplied by learnt vectors; the head learns whole.

Helps when rows are very few: some ten thousand numbers learn, too few to learn many rows by heart, and once merged the
network costs what it did. Does little where the task is far from pretraining: scaling what is there makes nothing new.
"""

from __future__ import annotations

from typing import Any

from peft import IA3Config
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.peft.adapter import FUSED, KEY_VALUE, adapted, called, layers_of


class Ia3(Technique):
    """Vectors of ones that learn (section 3.3): beside outputs of key and value layers, and inputs of narrowing ones.

    The layer that ends a feed-forward part is the one with fewer outputs than inputs. Where one layer makes queries,
    keys and values, queries are scaled too. A network with neither (ResNet) has all outputs of its layers scaled.
    """

    name = "ia3"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2205.05638"

    def default_learning_rate(self) -> float | None:
        """Vectors near 1 have a long way to go."""
        return 1e-2

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with vectors; everything else but the head is frozen."""
        outputs, inputs = scaled_layers(layers_of(model, self.name))
        return adapted(model, ctx, IA3Config(target_modules=[*outputs, *inputs], feedforward_modules=inputs))


def scaled_layers(layers: dict[str, nn.Module]) -> tuple[list[str], list[str]]:
    """Names of layers whose outputs are scaled, and of those whose inputs are."""
    outputs = called(layers, (*KEY_VALUE, *FUSED))
    inputs = [name for name, layer in layers.items() if name not in outputs and _narrows(layer)]
    return (outputs, inputs) if outputs or inputs else (list(layers), [])


def _narrows(layer: Any) -> bool:
    """Whether it has fewer outputs than inputs."""
    outputs, inputs = layer.weight.shape[:2]
    return bool(outputs > inputs if isinstance(layer, Conv1D) else inputs > outputs)
