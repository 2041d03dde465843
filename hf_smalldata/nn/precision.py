"""Half precision where the hardware has matrix units for it: activations in bfloat16, weights and sums in float32."""

from __future__ import annotations

import torch


def bfloat16_pays(device: torch.device) -> bool:
    """Whether `torch.autocast` to bfloat16 is faster than float32: GPUs since Ampere, CPUs with AMX.

    A CPU without AMX computes in bfloat16 more slowly than in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())
