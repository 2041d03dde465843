"""Pairs of rows that are nearly the same, and the groups that they make.

Copies on both sides of a split make a model look better than it is, and with few test rows a handful is enough; among
few labelled rows they are also labels paid for twice. How pairs are found depends on the rows: `similar_texts` (texts,
DNA, proteins), `similar_images` and `similar_sounds`. Rows that mean the same in other words are not found by any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Thousands of rows that are all alike have millions of pairs, which nobody reads: each is compared with about this many
# of those that follow it, which binds them all into one group.
MOST_EACH = 16
_ROWS_AT_ONCE = 64


class Pair(NamedTuple):
    """Two rows that are nearly the same; `similarity` is above 0 and at most 1, and 1 for what can't be told apart."""

    first: int  # always below `second`
    second: int
    similarity: float


def groups(pairs: Iterable[Pair], count: int) -> list[int]:
    """The group of each of `count` rows: the smallest row that pairs bind it to, itself if none does."""
    ends = np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, number = connected_components(graph, directed=False)
    _, smallest, group = np.unique(number, return_index=True, return_inverse=True)
    found: list[int] = smallest[group].tolist()
    return found


def similar_hashes(hashes: Sequence[NDArray[np.uint8]], most_bits: int) -> list[Pair]:
    """Pairs of hashes that differ in `most_bits` bits or fewer; similarity is the share of equal bits.

    Equal hashes are paired with the first of them only. All others are compared, in time N² (20,000 hashes of 256 bits
    take a second or two) and memory N.

    Args:
        hashes: N of one length, as packed bytes.
        most_bits: 0 finds equal ones alone.
    """
    if not len(hashes):
        return []
    packed = np.stack(hashes)  # (N, bytes)
    _, firsts, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    first_equal = firsts[group]
    copies = np.flatnonzero(first_equal != np.arange(len(packed)))
    rows = np.sort(firsts)
    padded = np.pad(packed[rows], ((0, 0), (0, -packed.shape[1] % 8)))
    first, second, bits = _near(np.ascontiguousarray(padded.view(np.uint64).T), most_bits)
    return sorted_pairs(
        np.concatenate([first_equal[copies], rows[first]]),
        np.concatenate([copies, rows[second]]),
        np.concatenate([np.ones(len(copies)), 1 - bits / (8 * packed.shape[1])]),
    )


def sorted_pairs(first: NDArray[np.int64], second: NDArray[np.int64], similarity: NDArray[np.float64]) -> list[Pair]:
    """Columns (P,) as pairs in order."""
    order = np.lexsort((second, first))
    columns = (first[order].tolist(), second[order].tolist(), similarity[order].tolist())
    return [Pair(*each) for each in zip(*columns, strict=True)]


def _near(words: NDArray[np.uint64], most_bits: int) -> tuple[NDArray[np.int64], ...]:
    """First, second and differing bits (P,) of the pairs of columns of `words` (W, N)."""
    count = words.shape[1]
    found = [np.empty((3, 0), dtype=np.int64)]
    for start in range(0, count, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, count)
        bits = np.zeros((stop - start, count - start), dtype=np.uint16)
        for word in words:
            bits += np.bitwise_count(word[start:stop, None] ^ word[start:])
        near = np.triu(bits <= most_bits, 1)
        crowded = np.flatnonzero(near.sum(axis=1) > MOST_EACH)
        near[crowded] &= near[crowded].cumsum(axis=1) <= MOST_EACH
        first, second = np.nonzero(near)
        found.append(np.stack([first + start, second + start, bits[first, second]]))
    return tuple(np.concatenate(found, axis=1))
