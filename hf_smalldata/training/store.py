"""Where states of frozen blocks lie: in memory, and past a cap in a file that is mapped into it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor


class FullError(Exception):
    """The disk takes no more."""


class Store:
    """Tensors that outlive their batch.

    Args:
        folder: for the file. It has no name there, so that nothing is left of it however the process ends.
        cap_bytes: of memory. The batch that passes it is the last that goes there.
    """

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.folder, self.room = folder, cap_bytes
        self.file: IO[bytes] | None = None
        self.file_bytes = 0

    @property
    def full(self) -> bool:
        """Whether what follows goes to the file."""
        return self.room <= 0

    def keep(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Copies of rows on the CPU, of the same types and shapes.

        Raises:
            FullError: the disk.
        """
        rows = [row.detach().cpu().contiguous() for row in rows]
        if self.full:
            return self._mapped(rows)
        self.room -= sum(row.numel() * row.element_size() for row in rows)
        return [row.clone() for row in rows]

    def close(self) -> None:
        """Give the disk back, as soon as nothing is read from it any more."""
        if self.file is not None:
            self.file.close()

    def _mapped(self, rows: Sequence[Tensor]) -> list[Tensor]:
        if self.file is None:
            self.file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - `close` does it
        flat = torch.cat([row.view(-1) for row in rows])
        left = memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
        size = len(left)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            raise FullError(f"{self.folder}: {error.strerror}") from error
        mapped = np.memmap(self.file, np.uint8, "r+", self.file_bytes, (size,))
        self.file_bytes += size
        parts = torch.split(torch.from_numpy(mapped).view(flat.dtype), [row.numel() for row in rows])
        return [part.view(row.shape) for part, row in zip(parts, rows, strict=True)]
