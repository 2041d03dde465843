"""Classification of DNA, RNA and protein sequences, for any `AutoModelForSequenceClassification`.

Checkpoints differ in how they want a sequence spelled: DNABERT as overlapping k-mers between blanks, ProtBERT as
letters between blanks, ESM and the Nucleotide Transformer as it is. Spelled otherwise everything is one unknown token,
and the model learns nothing without a word of warning. How a checkpoint spells is therefore found by asking its
tokenizer.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from hf_smalldata.data.sequences import UNKNOWN
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import Features, ModelSpec
from hf_smalldata.tasks.text import TextClassification, tokens_of
from hf_smalldata.tasks.windows import into_windows, starts

LONGEST_WORD = 8  # letters of a k-mer: 4^8 is the largest vocabulary anyone spells out
MOSTLY = 0.5
_PROBE = "ACGGTCATTGCATGGACCTTAGCAATCCGTAGTTCGAACTGCTA"  # longer than any word of a vocabulary
_AMINO_ACIDS = "LEKVFIPQDSRWYHM"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Spelling:
    """How a checkpoint wants a sequence written.

    Attributes:
        k: letters of a word, words overlapping in all but one letter and parted by blanks; 0: the sequence as it is.
        replace: a letter and the one written for it: U and T for checkpoints of nucleotides that know one of them.
        unknown: capital letters that the tokenizer does not know.
    """

    k: int
    replace: tuple[str, str] | None = None
    unknown: frozenset[str] = frozenset()

    def write(self, sequence: str) -> str:
        """The sequence as the tokenizer takes it; one shorter than k stays one (unknown) word."""
        letters = sequence.replace(*self.replace) if self.replace else sequence
        if self.k == 0:
            return letters
        return " ".join(letters[at : at + self.k] for at in range(max(1, len(letters) - self.k + 1)))


class SequenceClassification(TextClassification):
    """Rows with `sequence`; a long one is read in windows, of which the mean probability counts."""

    name = "sequence-classification"
    pipeline_tag = "text-classification"
    kind = "sequence"

    def load_processor(self, spec: ModelSpec) -> Any:
        """The tokenizer, which must know letters.

        Raises:
            UserError: as for texts; no sequence model.
        """
        tokenizer = super().load_processor(spec)
        spelling(tokenizer)
        return tokenizer

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Token ids, cut at the tokenizer's `model_max_length`.

        Raises:
            UserError: the tokenizer does not know most of the letters.
        """
        spelled = spelling(processor)
        sequences = rows["sequence"][:]
        _check_letters(sequences, spelled, processor)
        return tokens_of([spelled.write(each) for each in sequences], processor)

    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Sequences as the checkpoint wants them spelled."""
        return [spelling(processor).write(sequence) for sequence in rows["sequence"]]

    def cut(self, rows: Dataset, processor: Any) -> Dataset:
        """A sequence of more tokens than `model_max_length` becomes windows of equal width, overlapping by half."""
        spelled = spelling(processor)

        def tokens(pieces: Sequence[str]) -> list[int]:
            return [len(ids) for ids in processor([spelled.write(each) for each in pieces], verbose=False)["input_ids"]]

        limit = processor.model_max_length
        sequences = rows["sequence"][:]
        pieces = [
            [each] if count <= limit else windows_of(each, tokens, limit)
            for each, count in zip(sequences, tokens(sequences), strict=True)
        ]
        return into_windows(rows, {"sequence": pieces})


def windows_of(sequence: str, tokens: Callable[[Sequence[str]], list[int]], limit: int) -> list[str]:
    """Windows of equal width, about as wide as `limit` tokens allow: how many letters that is, the tokenizer decides.

    Args:
        sequence: letters.
        tokens: counts of tokens of some sequences, specials included; a single letter must stay within the limit.
        limit: of tokens.
    """
    width, pieces = len(sequence), [sequence]
    while (most := max(tokens(pieces))) > limit:
        width = max(1, min(width - 1, width * limit // most))
        pieces = [sequence[start : start + width] for start in starts(len(sequence), width)]
    return pieces


@functools.lru_cache(maxsize=8)
def spelling(tokenizer: Any) -> Spelling:
    """The spelling at which a tokenizer knows the most of a sequence: as it is, k-mers or letters, in this order.

    Raises:
        UserError: most tokens are unknown however it is spelled.
    """
    shares = {
        (k, letter): _unknown(tokenizer, Spelling(k).write(_PROBE.replace("T", letter)))
        for k in (0, *_word_lengths(tokenizer), 1)
        for letter in "TU"
    }
    k, letter = min(shares, key=shares.__getitem__)
    if shares[k, letter] > MOSTLY:
        raise UserError(
            f"model.name: {tokenizer.name_or_path} knows no DNA letters, however they are spelled: it is no sequence "
            "model; give one that was pretrained on sequences, such as ESM for proteins or DNABERT for DNA"
        )
    unknown = frozenset(each for each in _LETTERS if _unknown(tokenizer, Spelling(k).write(each * len(_PROBE))))
    other = "U" if letter == "T" else "T"
    # A protein checkpoint may lack U as well, but there it is an amino acid of its own (selenocysteine).
    nucleotides_only = unknown.issuperset(_AMINO_ACIDS)
    replace = (other, letter) if nucleotides_only and shares[k, other] > shares[k, letter] else None
    return Spelling(k, replace, unknown)


def _word_lengths(tokenizer: Any) -> list[int]:
    """Every k > 1 of which the vocabulary holds all 4^k words of nucleotides, longest first."""
    words = {word.upper().replace("U", "T") for word in tokenizer.get_vocab()}
    counts = Counter(len(word) for word in words if set(word) <= set("ACGT"))
    return [k for k in range(LONGEST_WORD, 1, -1) if counts[k] == 4**k]


def _unknown(tokenizer: Any, written: str) -> float:
    """Share of unknown tokens; 1 where the tokenizer drops everything."""
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    return sum(each == tokenizer.unk_token_id for each in ids) / len(ids) if ids else 1.0


def _check_letters(sequences: Sequence[str], spelled: Spelling, tokenizer: Any) -> None:
    """A protein is no input of a DNA checkpoint; letters that stand for any (N, X) count for neither side."""
    counts = Counter("".join(map(spelled.write, sequences)))
    counted = {letter: count for letter, count in counts.items() if letter not in {" ", *UNKNOWN.values()}}
    lost = {letter: count for letter, count in counted.items() if letter in spelled.unknown}
    if sum(lost.values()) > MOSTLY * sum(counted.values()):
        raise UserError(
            f"model.name: {tokenizer.name_or_path} does not know {sum(lost.values()) / sum(counted.values()):.0%} of "
            f"the letters ({', '.join(sorted(lost))}); give a checkpoint for this kind of sequence"
        )
