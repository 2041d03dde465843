"""The most memory that a stretch of work took, and what keeps it low."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
KERNELS = 32  # about the shapes of one network's layers and a batch's few lengths: measured, no slower than 1,024
_PEAK_OF_MEMORY = "5"  # what `clear_refs` takes to forget the peak: proc(5)


def reset_peak() -> None:
    """Start a stretch of work."""
    if os.access(_RESET, os.W_OK):
        _RESET.write_text(_PEAK_OF_MEMORY)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int | None:
    """Resident memory at its highest since `reset_peak`; None where the system does not tell (not Linux)."""
    if not _STATUS.exists():
        return None
    lines = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def peak_gpu_bytes() -> int | None:
    """GPU memory that tensors held at its highest since `reset_peak`; None without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def keep_few_kernels() -> None:
    """Let oneDNN forget CPU kernels of shapes long gone; of effect before the first computation only.

    It compiles a kernel for each shape of a batch that it meets and keeps 1,024 of them: with texts of all lengths
    that is more memory than the network takes. ONEDNN_PRIMITIVE_CACHE_CAPACITY, where it is set, is the user's word.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
