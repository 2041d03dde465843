"""The most memory that a stretch of work took, what keeps it low, and what spares asking the system for it again."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
KERNELS = 32  # about the shapes of one network's layers and a batch's few lengths: measured, no slower than 1,024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MOST_KEPT, _MOST_AT_ONCE = 2**31 - 1, 2**30  # bytes: the largest that it takes; larger tensors go back
_PEAK_OF_MEMORY = "5"  # what `clear_refs` takes to forget the peak: proc(5)


def reset_peak() -> None:
    """Start a stretch of work, less what was freed before it."""
    if _libc is not None:
        _libc.malloc_trim(0)
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


def keep_freed() -> None:
    """Let the process keep memory that it freed, for its next tensors.

    By default glibc gives each tensor of more than 32 MB back to the system as it is freed, which hands it out again a
    zeroed page at a time: of batches of 32 images a third of a training's time and half of a prediction's
    (`scripts/bench/freed_memory.py`), for a fifth less memory at the peak. Of no effect without glibc;
    MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and GLIBC_TUNABLES, where they are set, are the user's word.
    """
    if _libc is None or os.environ.keys() & {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}:
        return
    _libc.mallopt(_M_MMAP_THRESHOLD, _MOST_AT_ONCE)
    _libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


_libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
