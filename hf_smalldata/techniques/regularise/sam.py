"""SAM: sharpness-aware minimisation, steps that lower the highest loss nearby instead of the loss itself.

Helps when a network that knows its few training rows by heart is no better on others: it is led to flat places, where
small differences between rows matter less, and wrong labels are learnt later. Costs twice the time of a step. Does
little for frozen bodies, whose head has one minimum anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.nn.norms import statistics_held
from hf_smalldata.technique import ALL_TASKS, Technique


def climb(gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """The way of length ρ along which the loss rises most: ρ g / |g| over all tensors together.

    Where the gradient is zero, or overflowed in half precision, the way is zero.
    """
    norm = nn.utils.get_total_norm(gradients)
    factor = torch.where(norm.isfinite() & (norm > 0), rho / norm, 0)
    return [(gradient * factor).nan_to_num(0, 0, 0) for gradient in gradients]  # eq. 2


class Sam(Technique):
    """Take the gradient where the loss is highest nearby, and make the step from where the weights are.

    Both passes see the same draws of dropout and of batch hooks, so that they are of one function, and only the first
    moves the statistics of BatchNorm. With gradient accumulation each part of a batch climbs by itself (the paper's
    m-sharpness, section 4.1). For one process or several whole copies; not for sharded weights.
    """

    name = "sam"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2010.01412"

    rho: PositiveFloat = 0.05  # how far nearby reaches, as a distance between all weights

    def step(self, backward: Callable[[], Tensor], model: nn.Module) -> Tensor:
        """The gradient at the top of the climb, added to those of earlier parts of the batch; the loss at its foot."""
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        earlier = [parameter.grad for parameter in learnt]
        for parameter in learnt:
            parameter.grad = None
        device = learnt[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            loss = backward()
        reached = [parameter for parameter in learnt if parameter.grad is not None]
        if not reached:
            raise UserError("sam: no gradient is to be seen; it is for one process or several whole copies of a model, "
                            "not for sharded weights (DeepSpeed)")  # fmt: skip
        foot = [parameter.detach().clone() for parameter in reached]
        way = climb([parameter.grad for parameter in reached if parameter.grad is not None], self.rho)
        with torch.no_grad():
            for parameter, distance in zip(reached, way, strict=True):
                parameter.add_(distance)
        for parameter, gradient in zip(learnt, earlier, strict=True):
            parameter.grad = gradient
        with statistics_held(model):
            backward()
        with torch.no_grad():
            for parameter, weights in zip(reached, foot, strict=True):
                parameter.copy_(weights)
        return loss
