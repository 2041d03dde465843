"""Mutation: as often as said, by other letters, mostly of the same class, and a model that knows far relatives."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.data.sequences import ALPHABETS
from hf_smalldata.techniques.augment.mutation import CLASSES, Mutation, mutated

ALPHABET = pytest.mark.parametrize("alphabet", CLASSES)


def changes(letter: str, alphabet: str, within: float = 0.67) -> Counter[str]:
    found = mutated(letter * 6000, 0.5, within, alphabet, np.random.default_rng(0))
    assert len(found) == 6000
    return Counter(found)


@ALPHABET
def test_every_letter_with_a_meaning_of_its_own_is_in_one_class(alphabet):
    letters = list(chain(*CLASSES[alphabet]))
    assert len(letters) == len(set(letters)) == {"dna": 4, "rna": 4, "protein": 20}[alphabet]
    assert set(letters) <= set(ALPHABETS[alphabet])


def test_half_the_letters_change_and_two_thirds_of_the_changes_are_transitions():
    counts = changes("A", "dna")
    assert counts["A"] == pytest.approx(3000, abs=120)
    assert counts["G"] == pytest.approx(3000 * 0.67, abs=120)
    assert counts["C"] == pytest.approx(counts["T"], abs=100)
    assert set(counts) == set("ACGT")
    assert set(changes("C", "rna")) == set("ACGU")


@pytest.mark.parametrize(("within", "expected"), [(1, "AG"), (0, "ACT")])
def test_the_share_of_transitions_may_be_all_or_nothing(within, expected):
    assert set(changes("A", "dna", within)) == set(expected)


def test_amino_acids_are_replaced_by_those_of_their_class():
    assert set(changes("L", "protein", 1)) == set("ILMV")
    counts = changes("K", "protein")
    assert counts["H"] + counts["R"] == pytest.approx(3000 * 0.67, abs=120)
    assert len(counts) == 20
    assert changes("C", "protein", 1)["C"] == pytest.approx(3000, abs=120)  # alone in its class


@pytest.mark.parametrize(("alphabet", "sequence"), [("dna", "NNNN"), ("rna", "NN"), ("protein", "XBZJO*-U")])
def test_letters_for_any_or_none_stay(alphabet, sequence):
    assert mutated(sequence, 1, 0.5, alphabet, np.random.default_rng(0)) == sequence


@pytest.mark.parametrize(
    ("sequence", "letters"),
    [("ACGT" * 30, "ACGT"), ("ACGU" * 30, "ACGU"), ("MKTAYIAKQRQISFVK" * 8, "".join(CLASSES["protein"]))],
)
def test_a_row_keeps_its_alphabet_and_its_generator_decides(sequence, letters):
    row = {"id": "a", "sequence": sequence, "label": 1}

    def made(seed: int, rate: float = 0.3) -> str:
        after = Mutation(rate=rate).example({**row, "rng": np.random.default_rng(seed)})
        assert (after["id"], after["label"]) == ("a", 1)
        return str(after["sequence"])

    assert made(0) == made(0) != made(1)
    assert set(made(0)) <= set(letters)
    assert made(0, rate=0) == sequence


@pytest.mark.parametrize("fields", [{"rate": 1.5}, {"within_class": -0.1}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Mutation(**fields)


def test_a_model_that_learnt_with_transitions_knows_relatives_far_apart(sequence, trainer, rich_rows):
    kit, far = replace(sequence, rows=rich_rows(12, 0, ("AT", "CG"))), np.random.default_rng(0)
    test = rich_rows(40, 1, ("AT", "CG"))
    relatives = [{**row, "sequence": mutated(row["sequence"], 0.9, 1, "dna", far)} for row in test]
    batch = kit.task.collate(kit.task.encode(Dataset.from_list(relatives), kit.processor), kit.processor)

    def right(techniques: list[Mutation]) -> float:
        network = kit.network()
        trainer(kit, network, techniques, learning_rate=3e-3, num_train_epochs=12).train()
        with torch.no_grad():
            answers = network.eval()(**batch).logits.argmax(-1)
        return float((answers == torch.tensor(test["label"][:])).float().mean())

    assert right([Mutation(rate=0.5, within_class=1)]) > right([]) + 0.3
