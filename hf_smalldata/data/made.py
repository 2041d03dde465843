"""Made rows: variants of real training rows, each of which says who made it and of which row.

Kept apart from augmentation that is drawn anew each epoch: rows that are made once are encoded once, and the output of
frozen blocks is kept for them as for real ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, Value, concatenate_datasets

COLUMNS = ("source", "parent")  # which technique made the row, and the id of the row it was made of; None of real rows


def rng_of(seed: int, row_id: str, *more: int) -> np.random.Generator:
    """The random numbers of one row: the same in every process, thread and order of rows.

    Args:
        seed: of the run.
        row_id: the row's id.
        more: what else tells draws apart, such as the epoch or the number of the variant.
    """
    number = int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng([seed, *more, number])


def real(train: Dataset) -> Dataset:
    """The rows that no technique made: what variants are made of."""
    if "source" not in train.column_names:
        return train
    return train.select([at for at, source in enumerate(train["source"][:]) if source is None])


class Kin(NamedTuple):
    """How training rows hang together: what is judged by leaving rows out must not learn from a variant of them."""

    leader: np.ndarray[Any, Any]  # (N,) place of the real row that a row is a variant of; its own of all others
    real: np.ndarray[Any, Any]  # (N,) True for rows that no technique made: these judge, made ones are only learnt from

    @classmethod
    def of(cls, train: Dataset) -> Kin:
        """Of training rows as `rows` hooks left them."""
        own = np.arange(len(train))
        if "source" not in train.column_names:
            return cls(own, np.ones(len(train), dtype=bool))
        real = np.array([source is None for source in train["source"][:]])
        place = {row_id: at for at, row_id in enumerate(train["id"][:]) if real[at]}
        leader = np.array([place.get(parent, at) for at, parent in enumerate(train["parent"][:])])
        return cls(np.where(real, own, leader), real)


def with_made(train: Dataset, made: Sequence[Mapping[str, Any]], technique: str) -> Dataset:
    """Training rows, and behind them made ones with ids such as `eda:0:17`, the first variant of row 17, or `gan:0`.

    Args:
        train: columns id, input, label, and those of `COLUMNS` where another technique made rows before.
        made: each with the columns of a row but its id, and `parent`, the id of the row it was made of, if any.
        technique: its name.
    """
    told = train
    for column in COLUMNS:
        if column not in told.column_names:
            told = told.add_column(column, [None] * len(told), feature=Value("string"))
    seen: Counter[str | None] = Counter()
    rows = []
    for row in made:
        parent = row.get("parent")
        name = f"{technique}:{seen[parent]}" + ("" if parent is None else f":{parent}")
        rows.append({**row, "id": name, "source": technique})
        seen[parent] += 1
    columns = {name: [row.get(name) for row in rows] for name in told.column_names}
    return concatenate_datasets([told, Dataset.from_dict(columns, features=told.features)])
