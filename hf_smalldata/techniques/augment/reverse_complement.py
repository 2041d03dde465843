"""Reverse complement: a training sequence of DNA or RNA is read from its other strand, drawn anew in every epoch.

Helps when the label holds for both strands (promoters in either direction, binding sites, species), as one strand then
teaches what the other says. Hurts where direction is the label or part of it (splice sites, coding frames, most RNA).
Is not for proteins, which have no other strand; does nothing for models that are built to be symmetric.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from pydantic import Field

from hf_smalldata.data.sequences import guess_alphabet
from hf_smalldata.errors import UserError
from hf_smalldata.technique import Context, Technique

_FROM, _TO = "ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN"  # IUPAC: R = A or G, whose complement is Y = T or C
DNA = str.maketrans(_FROM, _TO)
RNA = str.maketrans(_FROM, _TO.replace("T", "U"))


def reverse_complement(sequence: str) -> str:
    """The other strand, read in its own direction; letters that are no nucleotides (gaps) stay.

    It is RNA if it has a U and no T: one without either is taken for DNA.
    """
    return sequence[::-1].translate(RNA if "U" in sequence and "T" not in sequence else DNA)


class ReverseComplement(Technique):
    """The other strand of some training sequences; rows that are predicted are read as they are."""

    name = "reverse_complement"
    tasks = frozenset({"sequence-classification"})
    paper = "https://proceedings.mlr.press/v165/zhou22a.html"

    probability: float = Field(default=0.5, ge=0, le=1)  # of the other strand

    def check(self, train: Dataset, ctx: Context) -> None:
        """Proteins are refused."""
        if guess_alphabet(train["sequence"][:]) == "protein":
            raise UserError("reverse_complement: expected DNA or RNA, found proteins, which have no other strand; "
                            "leave it out")  # fmt: skip

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row, or that of its other strand."""
        if example["rng"].random() >= self.probability:
            return example
        return {**example, "sequence": reverse_complement(example["sequence"])}
