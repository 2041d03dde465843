"""Unlabelled rows on their way into training batches: which of them stand beside which labelled rows, and their views.

They are drawn by the row, not by the batch, so that any number of processes sees the same ones. Beside a long row stand
long ones, for batches are of like lengths; beside rows of several domains, as many of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from datasets import Dataset

from hf_smalldata.data.domains import with_labels
from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import Features
from hf_smalldata.technique import Context, Technique, using
from hf_smalldata.training.batching import VIEWS, EncodedRows, draws, encoded_alone

JITTER = 0.2  # of lengths: other neighbours each epoch


class UnlabelledRows:
    """Views of unlabelled rows, drawn anew each epoch.

    Args:
        ctx: of the run; its unlabelled rows.
        per_row: unlabelled rows for each labelled one.
        weak: techniques whose `example` hooks change them all.
        strong: a technique whose `rows` or `example` hook makes a second view.
    """

    def __init__(self, ctx: Context, per_row: int, weak: Sequence[Technique] = (), strong: Technique | None = None):
        if ctx.unlabelled is None:
            raise UserError("there are no unlabelled rows; set data.unlabelled")
        self.task, self.processor, self.seed = ctx.task, ctx.processor, ctx.seed
        self.per_row, self.weak, self.epoch = per_row, tuple(weak), 0
        rows = ctx.task.cut(ctx.unlabelled, ctx.processor)
        labelled = with_labels(rows.remove_columns("domain"), ctx.labels, ctx.problem_type)
        self.encoded = EncodedRows(labelled, ctx.task, ctx.processor)
        self.features = self.encoded.features
        self.lengths = np.array(self.encoded.lengths, dtype=float)
        self.strong = using((strong,), "example") if strong is not None else ()
        made = strong is not None and not self.strong
        self.raw = [ctx.task.decode(row, ctx.processor) for row in rows] if self.weak or strong is not None else []
        self.variants = variants_of(rows, cast(Technique, strong), ctx) if made else {}
        self.twice = strong is not None
        domains = np.asarray(rows["domain"][:])
        self.domains = [np.flatnonzero(domains == name) for name in sorted(set(domains.tolist()))]
        self.place = np.zeros((0, per_row), dtype=np.int64)

    def draw(self, epoch: int, lengths: Sequence[int]) -> None:
        """Those of an epoch, for labelled rows of these lengths."""
        self.epoch = epoch
        self.place = chosen(self.domains, self.lengths, np.asarray(lengths, dtype=float), self.per_row,
                            np.random.default_rng([self.seed, epoch, 1]))  # fmt: skip

    def of(self, index: int) -> dict[str, list[Features]]:
        """The views of those beside a labelled row."""
        rows = self.place[index].tolist()
        found = {VIEWS[0]: [self._weak(at) for at in rows]}
        return {**found, VIEWS[1]: [self._strong(at) for at in rows]} if self.twice else found

    def change(self, labelled: float) -> str:
        """Why a cache would not do, or not pay, beside so many labelled rows of all epochs; empty where it does."""
        if self.weak or self.twice:
            return "unlabelled rows are drawn anew each epoch"
        return "training meets but some of the unlabelled rows" if len(self.features) > labelled * self.per_row else ""

    def _weak(self, at: int) -> Features:
        if self.weak:
            return self._drawn(self.raw[at], self.weak)
        return {name: value for name, value in self.encoded[at].items() if name != "label"}

    def _strong(self, at: int) -> Features:
        row = self.raw[at]
        if self.variants:
            among = self.variants.get(row["id"], [row])
            row = {**row, **among[int(rng_of(self.seed, row["id"], self.epoch, 1).integers(len(among)))]}
        return self._drawn(row, (*self.weak, *self.strong))

    def _drawn(self, row: dict[str, Any], techniques: Sequence[Technique]) -> Features:
        view = draws(row, techniques, self.seed, self.epoch)[-1] if techniques else row
        return encoded_alone(view, self.task, self.processor)


def riders(techniques: Sequence[Technique], ctx: Context) -> UnlabelledRows | None:
    """The unlabelled rows that techniques want in their batches; None where none wants any."""
    wanted = [each for technique in techniques if (each := technique.beside(ctx.task.kind)) is not None]
    if not wanted:
        return None
    strong = [each.strong for each in wanted if each.strong is not None]
    if any(each != strong[0] for each in strong):
        raise UserError("techniques: those that learn from unlabelled rows must have one `strong` view in common")
    most = max(each.per_row for each in wanted)
    return UnlabelledRows(ctx, most, using(techniques, "example"), strong[0] if strong else None)


def chosen(
    domains: Sequence[np.ndarray], lengths: np.ndarray, beside: np.ndarray, per_row: int, rng: np.random.Generator
) -> np.ndarray:
    """Which unlabelled rows stand beside each of N labelled ones (N, per_row).

    Args:
        domains: for each domain the indices of its rows.
        lengths: of all unlabelled rows.
        beside: lengths of the labelled rows (N,).
        per_row: as it says.
        rng: of the draw.
    """
    total = len(beside) * per_row
    share = -(-total // len(domains))
    drawn = []
    for rows in domains:
        rounds = [rng.permutation(rows) for _ in range(-(-share // len(rows)))]
        drawn.append(np.concatenate(rounds)[:share])
    mixed = np.stack(drawn, axis=1).ravel()[:total]  # domains in turn

    def order(values: np.ndarray) -> np.ndarray:
        return np.argsort(values * (1 + JITTER * rng.uniform(-1, 1, len(values))), kind="stable")

    found = np.empty((len(beside), per_row), dtype=np.int64)
    found[order(beside)] = mixed[order(lengths[mixed])].reshape(-1, per_row)
    return found


def variants_of(rows: Dataset, technique: Technique, ctx: Context) -> dict[str, list[dict[str, Any]]]:
    """What a `rows` hook makes of each unlabelled row, by its id; those of which it makes nothing are left out."""
    known = with_labels(rows.remove_columns("domain"), ctx.labels, ctx.problem_type)
    after = technique.rows(known, replace(ctx, train=known, facts={}))
    made: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in after.select(range(len(known), len(after))):
        made[row["parent"]].append({name: row[name] for name in known.column_names if name not in ("id", "label")})
    return dict(made)
