"""Texts, and sequences of DNA or protein, that are nearly the same, letter by letter.

Two texts are as similar as the pieces of a few letters that they share: the Jaccard similarity of their sets of
shingles. Candidates come from MinHash signatures and locality-sensitive hashing, so that time grows with the number of
texts and not with that of pairs; each is then counted exactly. Source: Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900. Hashing all texts as one array takes a sixth to
a twelfth of datasketch's time.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hf_smalldata.data.similar import MOST_EACH, Pair, sorted_pairs

Hashes = NDArray[np.uint64]  # of shingles, a text's after another's
Counts = NDArray[np.int64]  # of shingles a text
Hasher = Callable[[Sequence[str]], tuple[Hashes, Counts]]

_LETTERS = 4  # of a shingle of text: a word more or less in ten keeps 0.8; longer shingles lose more, shorter tell less
_SIGNATURE = 64  # MinHash values a text
_MISSED = 0.005  # of the pairs just at the threshold, this share may be overlooked
_DEVIATIONS = 3.5  # a candidate is counted unless its signature says, as surely as this, that it is below the threshold
_AT_ONCE = 1 << 18  # letters or shingles in work at once: fits a cache
_COMPLEMENT = str.maketrans("ACGTU", "TGCAA")


def similar_texts(texts: Sequence[str], threshold: float = 0.8) -> list[Pair]:
    """Pairs of texts that differ in case, punctuation, or a few letters or words.

    Similarity is the Jaccard similarity of the sets of 4-letter shingles, after case folding and with each run of signs
    as one space; a text of signs only stays as it is. Short texts of one pattern that differ in one short word ("a fear
    of cold", "a fear of color") can reach 0.8: a pair is a reason to look. Texts that are equal are paired with the
    first of them only; empty texts never, and texts below 4 letters with nothing but their equals.

    Args:
        texts: any number.
        threshold: least similarity, above 0; fast from 0.5 on. Pairs just at it are found with probability 0.995.
    """
    return _similar([_plain(text) for text in texts], threshold, lambda kept: _shingles(kept, _LETTERS), _LETTERS)


def similar_sequences(
    sequences: Sequence[str], threshold: float = 0.97, reverse_complement: bool = False
) -> list[Pair]:
    """Pairs of DNA, RNA or protein sequences that differ in a few letters, or by a shift.

    Similarity is the share of equal letters as the sets of k-mers tell it: x = (2j / (1 + j))^(1/k) for their Jaccard
    similarity j. So thresholds mean the same for every k: 1 substitution in 57 letters, or 2 in 100, give 0.98. `k`
    follows from length and alphabet, so that unrelated sequences share few k-mers. Equal sequences are paired with the
    first of them only; empty ones never, and ones shorter than k with nothing but their equals.

    Args:
        sequences: any number; upper and lower case are the same.
        threshold: least similarity, above 0; fast from 0.9 on.
        reverse_complement: count DNA as the same as its other strand.
    """
    upper = [sequence.strip().upper() for sequence in sequences]
    k = _kmer(upper)
    # Ondov et al. 2016, https://doi.org/10.1186/s13059-016-0997-x, eq. 3 and 4, for shares in place of Poisson rates
    shared = threshold**k
    hasher = (lambda kept: _strandless(kept, k)) if reverse_complement else (lambda kept: _shingles(kept, k))
    pairs = _similar(upper, shared / (2 - shared), hasher, k)
    return [pair._replace(similarity=(2 * pair.similarity / (1 + pair.similarity)) ** (1 / k)) for pair in pairs]


def _plain(text: str) -> str:
    return " ".join(text.casefold().translate(_PLAIN).split()) or text.strip()


class _Plain(dict[int, str]):
    """For `str.translate`: what is neither letter, mark, number nor symbol (+, $, an emoji) becomes a space."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        category = unicodedata.category(letter)
        self[code] = " " if category[0] in "PZC" or category == "Sk" else letter
        return self[code]


_PLAIN = _Plain()


def _kmer(sequences: Sequence[str]) -> int:
    """The k for which a sequence of median length holds a 32nd of all k-mers at most."""
    letters = len(set("".join(sequences[:: max(1, len(sequences) // 100)])))
    length = np.median([len(sequence) for sequence in sequences]) if sequences else 0
    return max(3, math.ceil(math.log(32 * max(length, 1)) / math.log(max(letters, 4))))


def _similar(texts: Sequence[str], threshold: float, hasher: Hasher, shortest: int) -> list[Pair]:
    """Pairs of normalised texts by the Jaccard similarity of their shingles."""
    place: dict[str, int] = {}
    firsts = np.array([place.setdefault(text, row) for row, text in enumerate(texts)], dtype=np.int64)
    copies = np.array([row for row, text in enumerate(texts) if text and firsts[row] != row], dtype=np.int64)
    rows = np.array([row for text, row in place.items() if len(text) >= shortest], dtype=np.int64)
    kept = [texts[row] for row in rows]
    first, second = _candidates(_signatures(kept, hasher), threshold)
    similarity = _jaccard(kept, first, second, hasher)
    near = similarity >= threshold
    return sorted_pairs(
        np.concatenate([firsts[copies], rows[first[near]]]),
        np.concatenate([copies, rows[second[near]]]),
        np.concatenate([np.ones(len(copies)), similarity[near]]),
    )


def _shingles(texts: Sequence[str], length: int) -> tuple[Hashes, Counts]:
    """Hashes of the shingles of each text, of `length` letters or more, in order and with repeats."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    size = len(codes) - length + 1
    hashes = np.zeros(size, dtype=np.uint64)
    for at in range(length):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[at : at + size]
    hashes ^= hashes >> np.uint64(32)  # murmur3's finisher, shortened: all bits depend on all letters
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(29)
    counts = np.array([len(text) for text in texts], dtype=np.int64)
    inside = np.ones(len(codes), dtype=bool)
    for at in range(1, length):
        inside[np.cumsum(counts) - at] = False  # windows that reach into the next text
    return hashes[inside[:size]], counts - length + 1


def _strandless(sequences: Sequence[str], length: int) -> tuple[Hashes, Counts]:
    """Of each k-mer and its reverse complement, the smaller hash."""
    hashes, counts = _shingles(sequences, length)
    others, _ = _shingles([sequence.translate(_COMPLEMENT)[::-1] for sequence in reversed(sequences)], length)
    return np.minimum(hashes, others[::-1]), counts


def _signatures(texts: Sequence[str], hasher: Hasher) -> NDArray[np.uint32]:
    """MinHash values (N, _SIGNATURE): two texts agree in a column with the probability of their similarity."""
    factors = np.random.default_rng(0).integers(0, 1 << 31, _SIGNATURE, dtype=np.uint32) * 2 + 1
    signatures = np.empty((len(texts), _SIGNATURE), dtype=np.uint32)
    for start, stop in _blocks([len(text) for text in texts]):
        hashes, counts = hasher(texts[start:stop])
        short = hashes.astype(np.uint32)
        starts = np.cumsum(counts) - counts
        for column, factor in enumerate(factors):
            signatures[start:stop, column] = np.minimum.reduceat(short * factor, starts)
    return signatures


def _candidates(signatures: NDArray[np.uint32], threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that agree in a whole band of columns and, over all columns, nearly as often as the threshold asks."""
    width = _band(threshold)
    count = len(signatures)
    factors = np.random.default_rng(1).integers(1, 1 << 63, width, dtype=np.uint64)
    found = [np.empty(0, dtype=np.int64)]
    for at in range(0, _SIGNATURE - width + 1, width):
        bucket = signatures[:, at : at + width] @ factors
        order = np.argsort(bucket, kind="stable")  # rows of a bucket side by side, in their order
        for step in range(1, MOST_EACH + 1):
            same = np.flatnonzero(bucket[order[step:]] == bucket[order[:-step]])
            if not len(same):
                break
            found.append(order[same] * count + order[same + step])
    first, second = np.divmod(_distinct(np.concatenate(found)), max(count, 1))
    least = threshold - _DEVIATIONS * math.sqrt(threshold * (1 - threshold) / _SIGNATURE)
    agree = [
        np.mean(signatures[first[at : at + _AT_ONCE]] == signatures[second[at : at + _AT_ONCE]], axis=1)
        for at in range(0, len(first), _AT_ONCE)
    ]
    likely = np.concatenate([np.empty(0), *agree]) >= least
    return first[likely], second[likely]


def _band(threshold: float) -> int:
    """The widest band (fewest candidates) of which a pair at the threshold shares at least one, all but surely."""
    widths = range(8, 1, -1)
    return next((w for w in widths if (1 - threshold**w) ** (_SIGNATURE // w) <= _MISSED), 1)


def _jaccard(
    texts: Sequence[str], first: NDArray[np.int64], second: NDArray[np.int64], hasher: Hasher
) -> NDArray[np.float64]:
    """Jaccard similarity of the sets of shingles of each pair (P,)."""
    rows, at = np.unique(np.concatenate([first, second]), return_inverse=True)
    sets: list[NDArray[np.uint64]] = []
    for start, stop in _blocks([len(texts[row]) for row in rows]):
        hashes, counts = hasher([texts[row] for row in rows[start:stop]])
        sets += [_distinct(part) for part in np.split(hashes, np.cumsum(counts)[:-1])]
    sizes = np.array([len(each) for each in sets], dtype=np.int64)
    columns = (np.concatenate([np.empty(0, dtype=np.uint64), *sets]) >> np.uint64(1)).astype(np.int64)
    member = csr_array((np.ones(len(columns), dtype=np.int8), columns, np.append(0, np.cumsum(sizes))),
                       shape=(len(rows), 1 << 63 - 1))  # fmt: skip
    left, right = at[: len(first)], at[len(first) :]
    common = [np.empty(0, dtype=np.int64)]
    for start, stop in _blocks(sizes[left].tolist()):
        common.append(member[left[start:stop]].multiply(member[right[start:stop]]).sum(axis=1))
    shared = np.concatenate(common)
    return shared / (sizes[left] + sizes[right] - shared)


def _distinct(hashes: Hashes) -> Hashes:
    """Sorted, without repeats; `np.unique` is several times slower on a few thousand integers."""
    ordered = np.sort(hashes)
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of items of about `_AT_ONCE` together, one item at least."""
    start, total = 0, 0
    for at, size in enumerate(sizes):
        total += size
        if total >= _AT_ONCE:
            yield start, at + 1
            start, total = at + 1, 0
    if start < len(sizes):
        yield start, len(sizes)
