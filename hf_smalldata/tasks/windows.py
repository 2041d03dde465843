"""Rows too long for a model as overlapping windows, and predictions of windows as predictions of rows again.

The windows of the row `id` are the rows `id#0`, `id#1`, …; a row that fits keeps its id. Ids of rows are therefore
expected not to be each other's with such an ending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset


def starts(length: int, width: int) -> list[int]:
    """Where windows of `width` begin, spread evenly over `length`, neighbours half a window apart or less.

    Half is the least overlap at which whatever is no longer than half a window lies whole in one of them.
    """
    if length <= width:
        return [0]
    steps = -(-(length - width) // max(1, width // 2))
    return [(length - width) * step // steps for step in range(steps + 1)]


def into_windows(rows: Dataset, pieces: Mapping[str, Sequence[Sequence[Any]]]) -> Dataset:
    """Each row as often as it has pieces, with the pieces in place of the columns they are of.

    Args:
        rows: with the column id; columns without pieces are repeated as they are.
        pieces: by column, for each row the values of its windows in order; a single one for a row that fits.

    Returns:
        `rows` itself where no row has more than one piece.
    """
    counts = [len(each) for each in next(iter(pieces.values()))]
    if max(counts, default=1) == 1:
        return rows
    ids = [
        name if count == 1 else f"{name}#{at}"
        for name, count in zip(rows["id"][:], counts, strict=True)
        for at in range(count)
    ]
    of_row = np.repeat(np.arange(len(rows)), counts).tolist()
    columns = {name: [cells[row] for row in of_row] for name, cells in rows.to_dict().items()}
    columns |= {name: [piece for each in values for piece in each] for name, values in pieces.items()} | {"id": ids}
    return Dataset.from_dict(columns, features=rows.features)


def owners(window_ids: Sequence[str], row_ids: Sequence[str]) -> list[int]:
    """The place in `row_ids` of the row that each window is of.

    Raises:
        KeyError: a window of another row.
    """
    place = {name: at for at, name in enumerate(row_ids)}
    return [place[name] if name in place else place[name.rpartition("#")[0]] for name in window_ids]


def mean_by_row(values: np.ndarray, window_ids: Sequence[str], row_ids: Sequence[str]) -> np.ndarray:
    """Values of windows (M, …) -> means over each row's windows (N, …), in the order of `row_ids`."""
    rows = owners(window_ids, row_ids)
    total = np.zeros((len(row_ids), *values.shape[1:]), dtype=np.float64)
    np.add.at(total, rows, values)
    counts = np.bincount(rows, minlength=len(row_ids))
    return total / counts.reshape(-1, *[1] * (values.ndim - 1))
