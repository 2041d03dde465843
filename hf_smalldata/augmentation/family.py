"""A training row and its variants, what of them is kept, and how many there are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from hf_smalldata.data.images import open_image
from hf_smalldata.data.modality import Kind

Row = dict[str, Any]
LeftOut = Literal["", "unchanged", "repeated", "held out"]


class Variant(NamedTuple):
    """What was made of a row.

    Attributes:
        row: id, decoded input, label, `source` (who made it) and `parent` (the id of the row it was made of).
        changed: whether each technique that had a hand in it changed the input.
        left_out: why it is no row of an augmented set; "" if it is one. `unchanged` is its parent once more, `repeated`
            another variant of the same training row, `held out` a validation or test row.
    """

    row: Row
    changed: dict[str, bool]
    left_out: LeftOut

    @property
    def caption(self) -> tuple[str, str]:
        """Which techniques changed it; and which draw or variant of its row it is, or why it is left out."""
        by = "+".join(name for name, changed in self.changed.items() if changed) or self.row["source"]
        head = self.row["id"].removesuffix(f":{self.row['parent']}")
        number = head.rpartition(":")[2]
        return by, self.left_out or (f"#{int(number) + 1}" if number.isdigit() else head)


class Family(NamedTuple):
    """A training row, decoded, its input as the source has it, and its variants.

    Rows that were made of no row, such as those that a language model wrote, come last, without original and input.
    """

    original: Row | None
    undecoded: Any
    variants: list[Variant]

    @property
    def rows(self) -> list[Row]:
        """The original, if there is one, and the variants."""
        return [*([self.original] if self.original is not None else []), *(each.row for each in self.variants)]


@dataclass
class Tally:
    """How many variants each technique made, left unchanged, or made in vain: these are dropped (see `Variant`).

    A draw of several techniques counts for each.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, families: Iterable[Family]) -> Tally:
        """All variants counted."""
        tally = cls()
        for family in families:
            tally.add(family)
        return tally

    def add(self, family: Family) -> None:
        """Count the variants of a row."""
        for variant in family.variants:
            for name, changed in variant.changed.items():
                what = "unchanged" if not changed else "dropped" if variant.left_out else "made"
                self.counts.setdefault(name, Counter(made=0, unchanged=0, dropped=0))[what] += 1


def content(row: Mapping[str, Any], kind: Kind) -> Hashable:
    """What a model reads of a decoded row: equal for equal inputs only."""
    if kind == "image":
        image = open_image(row["image"])
        return image.size, hashlib.sha256(image.tobytes()).digest()
    if kind == "audio":
        return hashlib.sha256(np.ascontiguousarray(row["audio"]["array"]).tobytes()).digest()
    if kind == "tokens":
        return tuple(row["tokens"])
    return (row["text"], row.get("text_pair")) if kind == "text" else row["sequence"]
