"""How much of the machine a training used: its floating-point operations against the fastest matrix product there.

Operations are those of PaLM's "model FLOPs utilisation" (appendix B of https://arxiv.org/abs/2204.02311): 6 for each
learnt weight and token, 2 for each frozen one that only passes on, and those of attention. They are counted by torch's
FlopCounterMode on one batch, so that convolutions and what a cache or a freeze saves are right without a formula.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import flop_counter

from hf_smalldata.tasks.task import Batch

SHORT_S = 10.0  # a training shorter than this is not measured, which would take a part of its time
PEAK_S = 0.2
SIDE = 1024  # of the matrices: large enough for any CPU's best


def size(batch: Batch) -> int:
    """What the cost of a batch goes by: rows x tokens or samples; rows times a constant where all cost the same."""
    first = next(tensor for name, tensor in batch.items() if name != "labels")
    return first.shape[0] * first.shape[1]


def count(step: Callable[[], Tensor]) -> int:
    """Floating-point operations of a step's forward and backward pass; a multiplication and an addition are two.

    Args:
        step: gives the loss; gradients that it leaves are the caller's to clear.
    """
    aten, formulas = torch.ops.aten, cast(Any, flop_counter)
    on_cpu = {  # torch counts those of GPUs by itself
        aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda query, key, value, *_, **__: formulas.sdpa_flop_count(query, key, value)
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, query, key, value, *_, **__: formulas.sdpa_backward_flop_count(grad, query, key, value)
        ),
    }
    with flop_counter.FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        torch.autograd.backward(step())
    return int(counter.get_total_flops())


@cache
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest product of two matrices within a fifth of a second, on the threads in use."""
    one = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    fastest, ends = float("inf"), time.perf_counter() + PEAK_S
    while time.perf_counter() < ends:
        started = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * SIDE**3 / fastest
