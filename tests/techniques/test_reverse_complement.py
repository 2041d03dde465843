"""Reverse complement: the right letters, of nucleotides alone, and a model that answers alike for both strands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.augment.reverse_complement import ReverseComplement, reverse_complement

PAIRS = {"A": "AT", "C": "CG", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "B": "CGT", "D": "AGT",
         "H": "ACT", "V": "ACG", "N": "ACGT"}  # fmt: skip


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [("AACGT", "ACGTT"), ("ACGU", "ACGU"), ("UUC", "GAA"), ("AAC", "GTT"), ("AUUC", "GAAU"), ("ANN-C", "G-NNT"),
     ("", "")],
)  # fmt: skip
def test_the_other_strand_is_read_in_its_own_direction(sequence, expected):
    assert reverse_complement(sequence) == expected


@pytest.mark.parametrize("code", [code for code in PAIRS if code not in "AC"])
def test_an_ambiguous_letter_stands_for_the_complements_of_what_it_stood_for(code):
    complement = reverse_complement(code)
    assert set(PAIRS[complement]) == set(map(reverse_complement, PAIRS[code]))


@pytest.mark.parametrize("sequence", ["ACGTRYSWKMBDHVN", "ACGURYSWKMBDHVN"])
def test_twice_is_the_sequence_itself(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


def test_the_row_decides_how_often():
    row = {"id": "a", "sequence": "AACG", "label": 1}

    def drawn(probability: float, seed: int) -> str:
        made = ReverseComplement(probability=probability).example({**row, "rng": np.random.default_rng(seed)})
        assert (made["id"], made["label"]) == ("a", 1)
        return str(made["sequence"])

    assert {drawn(0, seed) for seed in range(20)} == {"AACG"}
    assert {drawn(1, seed) for seed in range(20)} == {"CGTT"}
    found = [drawn(0.3, seed) for seed in range(500)]
    assert found == [drawn(0.3, seed) for seed in range(500)]
    assert found.count("CGTT") == pytest.approx(150, abs=35)


def test_proteins_are_refused_and_rna_is_not(sequence):
    def of(letters: str) -> Dataset:
        return Dataset.from_dict({"sequence": [letters], "label": [0]})

    with pytest.raises(UserError, match="expected DNA or RNA, found proteins"):
        ReverseComplement().check(of("MKTAYIAKQRQISFVKSHFSRQ"), sequence.context())
    ReverseComplement().check(of("ACGUUGCA"), sequence.context())


def test_a_probability_has_a_range():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        ReverseComplement(probability=2)


def test_a_model_that_saw_one_strand_alone_learns_both(sequence, trainer, rich_rows):
    kit, test = replace(sequence, rows=rich_rows(12, 0, ("AG", "CT"))), rich_rows(40, 1, ("AG", "CT"))
    other = Dataset.from_list([{**row, "sequence": reverse_complement(row["sequence"])} for row in test])
    strands = [kit.task.collate(kit.task.encode(rows, kit.processor), kit.processor) for rows in (test, other)]

    def agree(techniques: list[ReverseComplement]) -> float:
        network = kit.network()
        trainer(kit, network, techniques, learning_rate=3e-3, num_train_epochs=20).train()
        with torch.no_grad():
            first, second = (network.eval()(**strand).logits.argmax(-1) for strand in strands)
        return float((first == second).float().mean())

    assert agree([ReverseComplement()]) > agree([]) + 0.2
