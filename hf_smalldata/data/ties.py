"""Which rows belong together, so that no split is judged by what it has seen: groups, equal inputs, near-duplicates.

Ten frames of one burst, or ten slices of one patient, are one sample: parted, they make a test score that no new
patient will ever see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from datasets import Dataset, concatenate_datasets

from hf_smalldata.data.holdout import units
from hf_smalldata.data.load import Splits
from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.similar import groups
from hf_smalldata.errors import UserError, listed

Together = Literal["near", "equal"]
_KNOWN: dict[str, dict[str, int]] = {}  # near-duplicate groups by contents, of the sets looked at last
_MOST_KNOWN = 4


def bound(rows: Dataset, together: Together) -> list[list[int]]:
    """Units of rows that stay in one split."""
    ties: list[Sequence[Hashable]] = [modality_of(rows).ties(rows)]
    if "group" in rows.column_names:
        ties.append(rows["group"][:])
    if together == "near":
        ties.append(near_duplicates(rows))
    return units(rows["id"][:], ties)


def near_duplicates(rows: Dataset) -> list[int]:
    """A number a row; rows that are nearly the same share it.

    What was found in a larger set holds for its parts, so rows are compared once, however often they are split.
    """
    modality = modality_of(rows)
    contents = modality.contents(rows)
    for known in _KNOWN.values():
        if all(content in known for content in contents):
            return [known[content] for content in contents]
    tied = [pair for pair in modality.similar(rows) if pair.similarity >= modality.tied_from]
    found = groups(tied, len(rows))
    remember(contents, found)
    return found


def remember(contents: Sequence[str], found: Sequence[int]) -> None:
    """Keep the groups of rows, by their contents, for `near_duplicates` of them or of some of them."""
    key = hashlib.sha256("\0".join(contents).encode()).hexdigest()
    while len(_KNOWN) >= _MOST_KNOWN and key not in _KNOWN:
        _KNOWN.pop(next(iter(_KNOWN)))
    _KNOWN[key] = dict(zip(contents, found, strict=True))


def without_leaks(splits: Splits, together: Together) -> Splits:
    """Leave out training rows that belong to a row of a held-out split of the source, and validation rows in test.

    Raises:
        UserError: no training row is left.
    """
    given = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {name: rows for name, rows in given.items() if rows is not None}
    if len(parts) == 1:
        return splits
    marks, warnings = _marks(parts, together), list[str]()
    for name, others in (("training", ("validation", "test")), ("validation", ("test",))):
        for other in others if name in parts else ():
            theirs = set().union(*marks.get(other, ()))
            both = [at for at, mine in enumerate(marks[name]) if mine & theirs]
            if both:
                rows = parts[name]
                warnings.append(f"{len(both)} {name} rows belong to {other} rows (equal or nearly equal inputs, or one "
                                f"group) and are left out: {listed(rows.select(both)['id'][:])}")  # fmt: skip
                kept = [at for at in range(len(rows)) if at not in set(both)]
                parts[name], marks[name] = rows.select(kept), [marks[name][at] for at in kept]
    if not warnings:
        return splits
    if not len(parts["training"]):
        raise UserError("every training row is a test or validation row as well; give a model other rows to learn from")
    validation = parts.get("validation")
    validation = validation if validation is not None and len(validation) else None
    return replace(splits, train=parts["training"], validation=validation, warnings=(*splits.warnings, *warnings))


def _marks(parts: Mapping[str, Dataset], together: Together) -> dict[str, list[set[Hashable]]]:
    """For each row of each split what ties it to others."""
    found: dict[str, list[set[Hashable]]] = {}
    near = iter(near_duplicates(_pooled(list(parts.values()))) if together == "near" else ())
    for name, rows in parts.items():
        found[name] = [{tie} for tie in modality_of(rows).ties(rows)]
        columns = [rows["group"][:]] if "group" in rows.column_names else []
        for mark, *groups_of in zip(found[name], *columns, strict=True):
            mark.update(f"group {group}" for group in groups_of)
            if together == "near":
                mark.add(next(near))
    return found


def _pooled(parts: Sequence[Dataset]) -> Dataset:
    return concatenate_datasets([part.remove_columns([c for c in ("label", "group") if c in part.column_names])
                                 for part in parts])  # fmt: skip
