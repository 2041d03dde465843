"""Rows on their way into batches: encoded once, grouped by length, with soft targets from the collator on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from hf_smalldata.data.made import rng_of
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.tasks.task import Batch, Features, Task
from hf_smalldata.technique import Technique

GPU_MULTIPLE = 8
VIEWS = ("unlabelled", "strong")  # of unlabelled rows, in a batch: each the model's inputs
BESIDE_INPUTS = ("labels", *VIEWS)  # entries of a batch that are not arguments of the model


class Riders(Protocol):
    """Unlabelled rows that ride beside labelled ones (see `training.unlabelled`)."""

    def draw(self, epoch: int, lengths: Sequence[int]) -> None:
        """Those of an epoch, for labelled rows of these lengths."""

    def of(self, index: int) -> dict[str, list[Features]]:
        """Those of a labelled row, by their names in the batch."""


class EncodedRows(Dataset[Features]):
    """Rows as features, encoded once; those of training with `example` hooks are drawn and encoded anew each epoch.

    Args:
        rows: columns id, input, label.
        augment: techniques with an `example` hook; none for rows that are only predicted.
        seed: of the augmentation.
        features: the rows as `task.encode` gives them, where they are at hand.
        riders: unlabelled rows beside them.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        task: Task,
        processor: Any,
        augment: Sequence[Technique] = (),
        seed: int = 0,
        features: list[Features] | None = None,
        riders: Riders | None = None,
    ) -> None:
        self.task, self.processor, self.augment, self.seed, self.epoch = task, processor, tuple(augment), seed, 0
        self.raw: list[dict[str, Any]] = [task.decode(row, processor) for row in rows] if self.augment else []
        self.features: list[Features] = task.encode(rows, processor) if features is None else features
        self.raw_labels: list[Any] = rows["label"][:]
        self.labels = [task.align(*both) for both in zip(self.raw_labels, self.features, strict=True)]
        self.prefix: Sequence[Tensor] | None = None  # set while the prefix cache is in use
        self.prefix_alone = False  # whether the cached states are all that the model needs
        self.lengths = [task.length(features) for features in self.features]
        self.riders = riders
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader: another epoch, other draws."""
        self.epoch = epoch
        if self.riders is not None:
            self.riders.draw(epoch, self.lengths)

    def __getitem__(self, index: int | None) -> Features:
        if index is None:  # a place of a batch that no row takes
            return {}
        item: Features = {"label": self.labels[index]}
        if not self.prefix_alone:
            item |= self._drawn(index) if self.augment else self.features[index]
        if self.prefix is not None:
            item["prefix"] = self.prefix[index]
        return item if self.riders is None else {**item, **self.riders.of(index)}

    def _drawn(self, index: int) -> Features:
        row = draws(self.raw[index], self.augment, self.seed, self.epoch)[-1]
        features = encoded_alone(row, self.task, self.processor)
        return {**features, "label": self.task.align(row["label"], features)}


def encoded_alone(row: dict[str, Any], task: Task, processor: Any) -> Features:
    """One decoded row as features."""
    (features,) = task.encode(cast(datasets.Dataset, _OneRow(row)), processor)
    return features


def draws(row: Mapping[str, Any], augment: Sequence[Technique], seed: int, epoch: int) -> list[dict[str, Any]]:
    """A row as each technique's `example` hook leaves it, one after the other; the last is what is learnt from.

    Args:
        row: one training row, decoded.
        augment: techniques with an `example` hook, at least one.
        seed: of the augmentation.
        epoch: another one, another draw.
    """
    rng, made = rng_of(seed, str(row["id"]), epoch), [dict(row)]
    for technique in augment:
        made.append(technique.example({**made[-1], "rng": rng}))
    return [{name: value for name, value in each.items() if name != "rng"} for each in made[1:]]


def collator(
    task: Task, processor: Any, num_labels: int, problem_type: ProblemType, multiple: int | None = None
) -> Callable[[Sequence[Features]], Batch]:
    """Features with labels -> a batch; `labels` are targets (B, C) or (B, T, C), `prefix` cached states (B, T, d).

    Places that no row takes are left out. What rides beside the rows becomes a batch within the batch:
    `batch["unlabelled"]`.

    Args:
        task: of the rows.
        processor: of the task.
        num_labels: C, or 1 for regression.
        problem_type: decides what targets are.
        multiple: to which tokens are padded. Default: 8 where there is a GPU, whose matrix units take 8 at once.
    """
    own = ("label", "prefix", *VIEWS)
    multiple = (GPU_MULTIPLE if torch.cuda.is_available() else 1) if multiple is None else multiple

    def inputs_of(items: Sequence[Features]) -> Batch:
        inputs = [{name: value for name, value in item.items() if name not in own} for item in items]
        batch: Batch = task.collate(inputs, processor) if inputs[0] else {}
        if "prefix" in items[0]:
            batch["prefix"] = pad_sequence([item["prefix"] for item in items], batch_first=True)
        return batch

    def collate(places: Sequence[Features]) -> Batch:
        items = [item for item in places if item]
        batch = inputs_of(items)
        batch["labels"] = task.targets([item["label"] for item in items], num_labels, problem_type)
        whole: dict[str, Any] = {**(padded(batch, processor, multiple) if "input_ids" in batch else batch)}
        for name in VIEWS:
            if name in items[0]:
                view = inputs_of([features for item in items for features in item[name]])
                whole[name] = padded(view, processor, multiple) if "input_ids" in view else view
        return whole

    return collate


def padded(batch: Batch, processor: Any, multiple: int) -> Batch:
    """Tokens, their targets and their states padded on to a multiple, where the tokenizer pads to the right."""
    length = batch["input_ids"].shape[1]
    more = min(-length % multiple, processor.model_max_length - length)
    if more <= 0 or processor.padding_side != "right":
        return batch
    by_token = {name for name, tensor in batch.items() if tensor.dim() == 3 or name not in ("labels", "prefix")}
    fill = {"input_ids": processor.pad_token_id}
    return {
        name: pad(tensor, (0,) * (2 * tensor.dim() - 3) + (more,), value=fill.get(name, 0))
        if name in by_token else tensor
        for name, tensor in batch.items()
    }  # fmt: skip


class LikeLengths(Sampler[int | None]):
    """Random order in which neighbours, and so the rows of a batch, are of like length: less padding to compute.

    Lengths are jittered before sorting, so that batches differ from epoch to epoch; the order of batches is random and
    the incomplete batch comes last. The same on every process; where several share a batch, the incomplete one has
    places without a row (None), so that each of them has its share of the rows.
    """

    def __init__(self, rows: EncodedRows, batch_size: int, seed: int, jitter: float = 0.2, processes: int = 1) -> None:
        self.rows, self.batch_size, self.seed, self.jitter, self.epoch = rows, batch_size, seed, jitter, 0
        self.processes = processes

    def __len__(self) -> int:
        return len(self.rows) if self.processes == 1 else -(-len(self.rows) // self.batch_size) * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader; passed on to the rows, which draw anew as well."""
        self.epoch = epoch
        self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[int | None]:
        rng = np.random.default_rng([self.seed, self.epoch])
        lengths = np.asarray(self.rows.lengths, dtype=float) * (1 + self.jitter * rng.uniform(-1, 1, len(self.rows)))
        order = rng.permutation(len(lengths))
        order = order[np.argsort(lengths[order], kind="stable")]
        whole = len(order) - len(order) % self.batch_size
        spare = rng.integers(0, whole // self.batch_size + 1) * self.batch_size  # where the incomplete batch is cut out
        last = order[spare : spare + len(order) - whole]
        batches = np.delete(order, np.arange(spare, spare + len(last))).reshape(-1, self.batch_size)
        yield from rng.permutation(batches).ravel().tolist()
        if len(last):
            yield from last.tolist() if self.processes == 1 else shared(last, self.batch_size, self.processes)


def shared(last: np.ndarray, size: int, processes: int) -> list[int | None]:
    """The places of an incomplete batch, of which each process has an equal number, the first of them the first.

    Where there are fewer rows than processes, each has all of them, or as many as its places: the mean of their
    gradients is that of the rows.

    Args:
        last: rows (L,), L below `size`.
        size: places, a multiple of `processes`.
        processes: that share them.
    """
    places = size // processes
    if len(last) >= processes:
        parts = np.array_split(last, processes)
    else:
        parts = [np.roll(last, -at)[:places] for at in range(processes)]
    return [at for part in parts for at in (*part.tolist(), *[None] * (places - len(part)))]


def by_length(rows: EncodedRows, most: int, tokens: int | None = None) -> list[list[int]]:
    """Indices of all rows in batches of like length, longest first: an early end if memory is short.

    Lengths are equal where padding would change what a model says of a row.

    Args:
        rows: any.
        most: rows of a batch.
        tokens: of a batch, padding included, where rows are tokens; None for any number.
    """
    limit = tokens if tokens is not None and rows.features and "input_ids" in rows.features[0] else None
    order = np.argsort(rows.lengths, kind="stable")[::-1]
    alike = [order]
    if rows.task.same_length(rows.processor):
        alike = np.split(order, np.flatnonzero(np.diff(np.asarray(rows.lengths)[order])) + 1)
    return [batch for part in alike for batch in _batches(part.tolist(), rows.lengths, most, limit)]


def _batches(order: list[int], lengths: Sequence[int], most: int, tokens: int | None) -> Iterator[list[int]]:
    """Rows from long to short, cut into batches of which the first row says how many fit in."""
    start = 0
    while start < len(order):
        fit = most if tokens is None else min(most, max(tokens // lengths[order[start]], 1))
        yield order[start : start + fit]
        start += fit


class _OneRow:
    """A row as `Task.encode` reads rows: writing decoded images and sounds to Arrow and reading them back is slow."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        yield self.row

    def __getitem__(self, name: str) -> list[Any]:
        return [self.row[name]]

    @property
    def column_names(self) -> list[str]:
        return list(self.row)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Every tensor of the batch on one device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
