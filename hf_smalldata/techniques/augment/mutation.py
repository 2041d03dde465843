"""Mutation: some letters of each training sequence are replaced, others in every epoch, most by ones like them.

Helps when few sequences of DNA, RNA or proteins would be learnt by heart, since single letters then tell nothing; keep
the rate low where a short motif is the label. Hurts where one letter is what counts, such as the effect of variants,
and does little beside a model that was pretrained on many relatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from hf_smalldata.data.sequences import Alphabet, guess_alphabet
from hf_smalldata.technique import Technique

# Purines and pyrimidines; of amino acids Dayhoff's classes, within which evolution replaces most often.
CLASSES: dict[Alphabet, tuple[str, ...]] = {
    "dna": ("AG", "CT"),
    "rna": ("AG", "CU"),
    "protein": ("AGPST", "C", "DENQ", "FWY", "HKR", "ILMV"),
}


def mutated(sequence: str, rate: float, within: float, alphabet: Alphabet, rng: np.random.Generator) -> str:
    """Each letter is replaced with probability `rate`, always by another one; the length stays.

    Args:
        sequence: capital letters; those that stand for any or none (N, X, *) stay.
        rate: of substitutions a letter.
        within: share of substitutions that stay in the letter's class, any other of which is alike likely: for
            nucleotides transitions, the rest being transversions. A class of one letter has no such substitutions.
        alphabet: whose letters are put in.
        rng: of the row.
    """
    letters = list(sequence)
    for at in np.flatnonzero(rng.random(len(letters)) < rate):
        own = next((each for each in CLASSES[alphabet] if letters[at] in each), "")
        if not own:
            continue
        like = own.replace(letters[at], "")
        others = "".join(each for each in CLASSES[alphabet] if each != own)
        chosen = like if like and rng.random() < within else others
        letters[at] = chosen[rng.integers(len(chosen))]
    return "".join(letters)


class Mutation(Technique):
    """Point substitutions in training sequences; rows that are predicted are read as they are.

    The letters of each sequence say what it is. RNA without a U may get a T, which `sequence-classification` writes as
    the checkpoint knows it; a protein of A, C, G, N and T alone gets no other letters.

    Amino acids are replaced by classes: to draw from a substitution matrix such as BLOSUM62 would favour the same ones.
    """

    name = "mutation"
    tasks = frozenset({"sequence-classification"})
    paper = "https://doi.org/10.1186/s13059-023-02941-w"

    rate: float = Field(default=0.05, ge=0, le=1)  # of substitutions a letter
    within_class: float = Field(default=0.67, ge=0, le=1)  # share of transitions, as in genomes; by chance alone 0.33

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with a mutated sequence."""
        sequence = example["sequence"]
        alphabet = guess_alphabet([sequence])
        return {**example, "sequence": mutated(sequence, self.rate, self.within_class, alphabet, example["rng"])}
