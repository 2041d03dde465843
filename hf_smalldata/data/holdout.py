"""Holding rows out: stratified, seeded by row ids (not by their order), and rows that belong together stay so.

Own code and not scikit-learn's StratifiedGroupKFold: that splits into k folds only, depends on the order of the rows,
and refuses a class with fewer rows than folds, the usual case here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

Stratum = Hashable
_ROUNDING = 1e-9


def key(seed: int | str, row_id: str) -> int:
    """A number that orders rows at random: it depends on the seed and the row's own id, on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:8], "big")


def units(ids: Sequence[str], ties: Iterable[Sequence[Hashable]]) -> list[list[int]]:
    """Rows that share the value of any tie (a group, the same text), directly or through others, as one unit.

    Args:
        ids: row ids.
        ties: for each kind of tie, a value a row.
    """
    parent = list(range(len(ids)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for values in ties:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(values):
            parent[root(row)] = root(first.setdefault(value, row))
    members: dict[int, list[int]] = {}
    for row in range(len(ids)):
        members.setdefault(root(row), []).append(row)
    return list(members.values())


def hold_out(
    ids: Sequence[str], strata: Sequence[Sequence[Stratum]], bound: Sequence[Sequence[int]], count: int, seed: int | str
) -> set[int]:
    """About `count` rows, exactly so where no unit is larger than a row.

    Each class of two rows or more gives one at least (a test set without a class says nothing of it) and keeps one at
    least; a class with one row gives none. So with very few rows a class more than `count` are held out.

    Args:
        ids: row ids.
        strata: the classes of each row (several for multi-label).
        bound: units of rows that stay together, as `units` makes them.
        count: rows wanted.
        seed: other seed, other rows.

    Returns:
        Row indices; empty when no unit can be taken without emptying a class.
    """
    sizes = Counter(stratum for row in strata for stratum in row)
    wanted: dict[Stratum, float] = {stratum: size * count / len(ids) for stratum, size in sizes.items()}
    if all(len(row) == 1 for row in strata):
        wanted = quotas(sizes, count, len(ids))
        count = round(sum(wanted.values()))
    left = Counter(sizes)
    have: Counter[Stratum] = Counter()
    taken: set[int] = set()
    order = sorted(bound, key=lambda unit: key(seed, min(ids[row] for row in unit)))
    for by_class in (True, False):  # first by class; what units could not fill so, by number of rows alone
        for unit in order:
            if unit[0] in taken:
                continue
            adds = Counter(stratum for row in unit for stratum in strata[row])
            if any(left[stratum] <= size for stratum, size in adds.items()) or len(taken) + len(unit) >= len(ids):
                continue
            nearer = abs(count - len(taken) - len(unit)) < abs(count - len(taken))
            gain = sum(abs(wanted[s] - have[s]) - abs(wanted[s] - have[s] - size) for s, size in adds.items())
            if nearer and (gain > _ROUNDING or not adds or not by_class):
                taken.update(unit)
                have.update(adds)
                left.subtract(adds)
    return taken


def quotas(sizes: Counter[Stratum], count: int, total: int) -> dict[Stratum, float]:
    """How many rows each class gives: its share by largest remainder, between 1 and all but one of its rows."""
    shares = {stratum: size * count / total for stratum, size in sizes.items()}
    given = {stratum: min(max(int(share), 1), sizes[stratum] - 1) for stratum, share in shares.items()}
    by_remainder = sorted(shares, key=lambda stratum: (given[stratum] - shares[stratum], str(stratum)))
    for stratum in by_remainder:
        if sum(given.values()) < count and given[stratum] < sizes[stratum] - 1:
            given[stratum] += 1
    return {stratum: float(number) for stratum, number in given.items()}
