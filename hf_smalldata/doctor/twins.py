"""Checks of rows against rows: the same input twice, on two sides of a split, or under two labels.

A test row that was trained on is answered from memory: one in fifty is two points of accuracy that no user will see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from hf_smalldata.doctor.findings import Finding, among, fine, number, of_all
from hf_smalldata.doctor.sample import Label, Part, Sample

MANY_CONFLICTS = 0.05  # share of rows whose labels contradict each other from which no figure is to be believed
SHORT_SENTENCE = 4  # words: 'Conclusions :' is no leak
HELD = ("validation", "test")


def leaks(data: Sample) -> list[Finding]:
    """Rows of test or validation whose input is a training row's (test: or a validation row's)."""
    found = []
    for split, other, part in _across(data):
        theirs = defaultdict[Hashable, list[str]](list)
        for row_id, value in zip(other.ids, data.same[other.split], strict=True):
            theirs[value].append(row_id)
        rows = zip(part.ids, data.same[split], _long(data, part), strict=True)
        mine = [(row_id, value) for row_id, value, long in rows if long and value in theirs]
        if mine:
            drops = {row_id: f"its input is that of {held}" for held, value in mine for row_id in theirs[value]}
            found.append(Finding(
                "leaks", "fail", f"{among(len(mine), len(part.ids), split)} in {_called(other)} as well",
                tuple(row_id for row_id, _ in mine), f"take them out of {_called(other)}", drops,
            ))  # fmt: skip
    return found or [fine("leaks", "no input is in two splits" if len(data.parts) > 1 else "one split only")]


def groups(data: Sample) -> list[Finding]:
    """Groups (patients, speakers, documents) with rows in two splits."""
    if data.groups is None:
        return [fine("groups", "rows have no groups (data.group)")]
    found = []
    for split, other, part in _across(data):
        shared = set(data.groups[split]) & set(data.groups[other.split])
        if shared:
            ids = [row_id for row_id, group in zip(part.ids, data.groups[split], strict=True) if group in shared]
            theirs = zip(other.ids, data.groups[other.split], strict=True)
            drops = {row_id: f"its group {group} is in {split} too" for row_id, group in theirs if group in shared}
            found.append(Finding(
                "groups", "fail",
                f"{number(len(shared), 'group')} in {_called(part)} ({len(ids):,}) and in {_called(other)}",
                tuple(ids), "keep each group in one split", drops,
            ))  # fmt: skip
    total = len({group for each in data.groups.values() for group in each})
    return found or [fine("groups", f"{total:,} groups, none in two splits")]


def conflicts(data: Sample) -> Finding:
    """Equal inputs with different labels, in all splits together."""
    if data.problem == "regression":
        return fine("conflicts", "labels are numbers")
    labelled = defaultdict[Hashable, list[tuple[str, Label]]](list)
    for split, part in data.parts.items():
        for row_id, value, label, long in zip(part.ids, data.same[split], part.labels, _long(data, part), strict=True):
            if long:
                labelled[value].append((row_id, label))
    split_up = [rows for rows in labelled.values() if len({label for _, label in rows}) > 1]
    if not split_up:
        return fine("conflicts", "equal inputs have equal labels")
    ids = [row_id for rows in split_up for row_id, _ in rows]
    share = len(ids) / data.count()
    sentence = f"{number(len(split_up), 'input')} with different labels, in {of_all(len(ids), data.count())} rows"
    example = _pair(split_up[0]) if data.problem != "token_classification" else ""
    return Finding(
        "conflicts", "fail" if share >= MANY_CONFLICTS else "warn", f"{sentence}{example}", tuple(ids),
        "decide on one label for each, or drop them all", dict.fromkeys(ids, "an equal input has another label"),
    )  # fmt: skip


def duplicates(data: Sample) -> Finding:
    """Equal inputs with equal labels within a split."""
    drops: dict[str, str] = {}
    for split, part in data.parts.items():
        first: dict[Hashable, str] = {}
        for row_id, value, label, long in zip(part.ids, data.same[split], part.labels, _long(data, part), strict=True):
            kept = first.setdefault((value, label), row_id)
            if kept != row_id and long:
                drops[row_id] = f"the same as {kept}"
    if not drops:
        return fine("duplicates", "no row is there twice")
    sentence = f"{among(len(drops), data.count())} the same as another of its split"
    return Finding("duplicates", "warn", sentence, tuple(drops), "they count double: keep one of each", drops)


def near_leaks(data: Sample, near: Mapping[str, Sequence[int]]) -> list[Finding]:
    """Held-out rows that are nearly a training row. A warning only: short sentences of one pattern look alike too.

    Args:
        data: the rows.
        near: for each split a number a row, that nearly equal rows share.
    """
    found = []
    for split, other, part in _across(data):
        theirs = defaultdict[int, list[int]](list)
        for at, group in enumerate(near[other.split]):
            theirs[group].append(at)
        exact = set(data.same[other.split])
        rows = enumerate(zip(near[split], data.same[split], _long(data, part), strict=True))
        mine = [at for at, (group, value, long) in rows if group in theirs and value not in exact and long]
        if mine:
            ids = tuple(part.ids[at] for at in mine)
            drops = {other.ids[their]: f"nearly the same as {part.ids[at]}"
                     for at in mine for their in theirs[near[split][at]]}  # fmt: skip
            example = f", such as {ids[0]} and {other.ids[theirs[near[split][mine[0]]][0]]}"
            found.append(Finding(
                "near leaks", "warn",
                f"{among(len(mine), len(part.ids), split)} nearly the same as one of {_called(other)}{example}",
                ids, f"look at some; if they are copies, take them out of {_called(other)}", drops,
            ))  # fmt: skip
    return found or [fine("near leaks", "none seen" if len(data.parts) > 1 else "one split only")]


def near_duplicates(data: Sample, near: Mapping[str, Sequence[int]]) -> Finding:
    """Training rows that are nearly the same; arguments as in `near_leaks`."""
    part = data.parts["train"]
    members = defaultdict[int, list[int]](list)
    for at, (group, long) in enumerate(zip(near["train"], _long(data, part), strict=True)):
        if long:
            members[group].append(at)
    bound = [rows for rows in members.values() if len({data.same["train"][at] for at in rows}) > 1]
    ids = tuple(part.ids[at] for rows in bound for at in rows)
    if not ids:
        return fine("near duplicates", "none seen among the training rows")
    largest = max(map(len, bound))
    return Finding(
        "near duplicates", "pass",
        f"{among(len(ids), len(part.ids), 'training')} in {number(len(bound), 'group')} of near-duplicates, the "
        f"largest of {largest:,}; rows are held out by whole groups",
        ids,
    )  # fmt: skip


def _across(data: Sample) -> Iterator[tuple[str, Part, Part]]:
    """(held-out split, the split before it, the held-out part)."""
    for split in HELD:
        for other in ("train", "validation"):
            if split in data.parts and other in data.parts and split != other:
                yield split, data.parts[other], data.parts[split]


def _called(part: Part) -> str:
    return "the training rows" if part.split == "train" else f"the {part.split} rows"


def _long(data: Sample, part: Part) -> Iterable[bool]:
    """For tokens, whether a sentence is long enough to be one's own; True for every other row."""
    if data.modality.kind != "tokens":
        return [True] * len(part.labels)
    return [len(label) > SHORT_SENTENCE for label in part.labels]


def _pair(rows: Sequence[tuple[str, Label]]) -> str:
    (first, one), (second, other) = next((rows[0], row) for row in rows if row[1] != rows[0][1])
    return f": {first} is {_shown(one)}, {second} is {_shown(other)}"


def _shown(label: Label) -> str:
    return " + ".join(label) if isinstance(label, tuple) else repr(label)
