"""What trainings on the same rows share: each row encoded once, each frozen network or block run once for a batch.

Five seeds of four recipes read the same test rows twenty times. What does not change from one to the next is kept
here, in memory, and found again by its content, so that a shared result is the very one that would be computed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from hf_smalldata.tasks.task import Features, Task

CAP_BYTES = 2 * 1024**3
EMBEDDED_BYTES = 2**28  # 170,000 embeddings of a base model


@dataclass
class Kept:
    """Encoded rows and frozen states, up to `cap_bytes`; past that, things are computed each time."""

    cap_bytes: int = CAP_BYTES
    used_bytes: int = 0
    _features: dict[str, Features] = field(default_factory=dict)
    _states: dict[bytes, Any] = field(default_factory=dict)

    def features(self, rows: datasets.Dataset, task: Task, processor: Any) -> list[Features]:
        """Rows encoded as `task.encode` does; an id always stands for the same row, task and processor here."""
        ids: list[str] = rows["id"][:]
        new = [at for at, row_id in enumerate(ids) if row_id not in self._features]
        made = dict(zip(new, task.encode(rows.select(new), processor), strict=True)) if new else {}
        found = [made[at] if at in made else self._features[row_id] for at, row_id in enumerate(ids)]
        for at, features in made.items():
            if self._room(_bytes(features)):
                self._features[ids[at]] = features
        return found

    def states(self, key: bytes, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """What `make` gives for this key, made once."""
        if key in self._states:
            return self._states[key]
        made = make()
        if self._room(size(made)):
            self._states[key] = made
        return made

    def _room(self, wanted: int) -> bool:
        if self.used_bytes + wanted > self.cap_bytes:
            return False
        self.used_bytes += wanted
        return True


def fingerprint(model: nn.Module) -> bytes:
    """Digest of all that does not learn: names, shapes and values of frozen parameters and of buffers."""
    frozen = {name: tensor for name, tensor in model.named_parameters() if not tensor.requires_grad}
    return digest({**frozen, **dict(model.named_buffers())}, str(type(model)))


def fingerprint_below(layer: nn.Module, model: nn.Module) -> str:
    """What decides the input of a layer of a network in evaluation mode: all its parts and weights but that layer's."""
    own = {id(tensor) for tensor in (*layer.parameters(), *layer.buffers())}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    others = {name: tensor for name, tensor in tensors.items() if id(tensor) not in own}
    return digest(others, repr(model), repr(getattr(model, "config", None))).hex()


def digest(tensors: Mapping[str, Tensor], *words: str) -> bytes:
    """sha256 of named tensors: equal digests mean equal names, types, shapes and values."""
    found = hashlib.sha256("\0".join(words).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def _bytes(features: Features) -> int:
    return sum(value.nbytes if isinstance(value, np.ndarray) else 8 * _count(value) for value in features.values())


def _count(value: Any) -> int:
    return len(value) if isinstance(value, Sequence) else 1
