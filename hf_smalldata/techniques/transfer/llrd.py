"""LLRD: layer-wise learning-rate decay, each block learns a little slower than the one above it, the head fastest.

Helps when a whole network is fine-tuned on few rows: lower blocks hold what is general and should hardly move, while
the new head needs large steps. Does little where most blocks are frozen or adapters learn in their place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from hf_smalldata.nn.levels import levels
from hf_smalldata.technique import ALL_TASKS, ParamGroups, Technique


def decayed(
    groups: ParamGroups, by_depth: Sequence[Sequence[nn.Parameter]], decay: float, blocks_per_rate: int = 1
) -> ParamGroups:
    """Groups split by depth; `lr` of a level is that of its group times decay^(rates above it).

    Args:
        groups: with `params` and `lr`; their other options are kept. What is in no level has the rate of the head.
        by_depth: parameters from the stem to the head, as `levels` gives them.
        decay: from one rate to the next below.
        blocks_per_rate: neighbouring blocks that share a rate; the head has one of its own.
    """
    rates_above = {
        id(parameter): -(-at // blocks_per_rate) for at, level in enumerate(reversed(by_depth)) for parameter in level
    }
    split: ParamGroups = []
    for group in groups:
        parts: dict[int, list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            parts[rates_above.get(id(parameter), 0)].append(parameter)
        split += [{**group, "params": part, "lr": group["lr"] * decay**above} for above, part in sorted(parts.items())]
    return split


class Llrd(Technique):
    """Give each block its own learning rate: `train.learning_rate` is that of the head.

    The discriminative fine-tuning of ULMFiT (https://arxiv.org/abs/1801.06146, section 3.2) is `decay: 0.385`, each
    rate divided by 2.6, with as many `blocks_per_rate` as make three or four groups. Blocks that are frozen have none.
    """

    name = "llrd"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2006.05987"

    decay: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the rate from one block to the next below; 1 changes nothing
    blocks_per_rate: PositiveInt = 1  # neighbouring blocks that share a rate

    def param_groups(self, groups: ParamGroups, model: nn.Module) -> ParamGroups:
        """Each group once for every rate that its parameters have."""
        return decayed(groups, levels(model), self.decay, self.blocks_per_rate)
