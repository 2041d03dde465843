"""The most memory that a stretch of work took."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
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
