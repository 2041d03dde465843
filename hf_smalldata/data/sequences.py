"""Sequences of DNA, RNA and proteins: reading FASTA, and cleaning letters without inventing any.

Nothing is replaced in silence but case and blanks: an RNA set keeps its U (the task writes T for a checkpoint that
knows T only), and letters outside the alphabet are an error, for what they stand for is the owner's to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_smalldata.data.table import first_of
from hf_smalldata.errors import Problems, listed

Alphabet = Literal["dna", "rna", "protein"]

SUFFIXES = (".fasta", ".fa", ".fna", ".faa", ".ffn")
ALPHABETS: dict[Alphabet, str] = {
    "dna": "ACGTN",
    "rna": "ACGUN",
    "protein": "ACDEFGHIKLMNPQRSTVWY" + "BZXUOJ*-",  # ambiguous, unknown, two rare ones, stop, gap
}
UNKNOWN: dict[Alphabet, str] = {"dna": "N", "rna": "N", "protein": "X"}  # the letter that stands for any
NUCLEOTIDES_FROM = 0.9  # share of ACGTUN from which a set is DNA or RNA
MUCH_UNKNOWN = 0.1
_CODES = "RYSWKMBDHV"  # IUPAC: one of several nucleotides
_MOST_LETTERS = 5  # named of one sequence

_LABEL = re.compile(r"""(?:^|(?<=[\s|;,]))label\s*=\s*(?:"([^"]*)"|([^\s|;,]+))[|;,]?""")


@dataclass
class _Record:
    line: int
    header: str
    parts: list[str] = field(default_factory=list)


def read_fasta(text: str, name: str) -> dict[str, list[Any]]:
    """Columns id, sequence, and where the headers have them, description and label.

    A header is `>id description`. Labels are taken from the first of these forms that the file has:

    - `>id label=promoter …` in any header, `label="two words"` if need be; None in a header without it;
    - `>id|promoter …` in all headers: the last field after '|', unless no two are alike (`>sp|P69905|HBA_HUMAN`);
    - `>id promoter` in all headers: the one word after the id, unless no two are alike.

    Lines may be wrapped and end in any way; lines that begin with ';' are comments. Letters stay as written.

    Args:
        text: the whole file.
        name: the file's name for messages.

    Raises:
        UserError: letters before the first header, a header without a name or without letters, no record.
    """
    records, problems = _records(text)
    problems += [f"line {record.line}: '>' without a name" for record in records if not record.header]
    problems += [f"line {record.line}: '>{record.header}' has no letters" for record in records if not record.parts]
    if not records and not problems:
        problems = ["expected '>name' and lines of letters, found none"]
    if problems:
        raise Problems(name, first_of(problems))
    ids, descriptions, labels = _headers([record.header for record in records])
    columns: dict[str, list[Any]] = {"id": ids, "sequence": ["".join(record.parts) for record in records]}
    if any(descriptions):
        columns["description"] = descriptions
    if labels is not None:
        columns["label"] = labels
    return columns


def clean(
    sequences: Sequence[str], ids: Sequence[str], where: str, alphabet: Alphabet | None = None
) -> tuple[list[str], list[str]]:
    """Sequences in upper case without blanks, and warnings about soft-masked letters and unknown ones.

    Args:
        sequences: letters as written; an empty sequence stays one.
        ids: what messages call each of them.
        where: what was read, e.g. `train.fasta`.
        alphabet: guessed from all letters together when None (`guess_alphabet`).

    Raises:
        UserError: letters outside the alphabet; 20 sequences at most are named, each with places counted from 1.
    """
    bare = ["".join(sequence.split()) for sequence in sequences]
    found = [sequence.upper() for sequence in bare]
    used = alphabet or guess_alphabet(found)
    strange = re.compile(f"[^{re.escape(ALPHABETS[used])}]")
    wrong = {name: list(strange.finditer(each)) for name, each in zip(ids, found, strict=True) if strange.search(each)}
    if wrong:
        problems = [f"{name}: {_letters(matches)}" for name, matches in wrong.items()]
        advice = _advice({match[0] for matches in wrong.values() for match in matches}, used)
        raise Problems(f"{where}, read as {used} ({ALPHABETS[used]})", [*first_of(problems), advice])
    return found, _warnings(bare, found, used)


def guess_alphabet(sequences: Sequence[str]) -> Alphabet:
    """The alphabet of upper-case sequences: DNA or RNA from 90 % of ACGTUN on, RNA if U is more frequent than T.

    A protein of few kinds of letters (GAGAGA) is taken for DNA: then the alphabet must be given.
    """
    counts: Counter[str] = Counter()
    for sequence in sequences:
        counts.update(sequence)
    if sum(counts[letter] for letter in "ACGTUN") < NUCLEOTIDES_FROM * counts.total():
        return "protein"
    return "rna" if counts["U"] > counts["T"] else "dna"


def _records(text: str) -> tuple[list[_Record], list[str]]:
    records: list[_Record] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith(";"):
            continue
        if bare.startswith(">"):
            records.append(_Record(number, bare.lstrip(">").strip()))
        elif records:
            records[-1].parts.append(bare)
        elif not problems:
            problems.append(f"line {number}: expected a header such as '>name', found '{bare[:30]}'")
    return records, problems


def _headers(headers: Sequence[str]) -> tuple[list[str], list[str], list[str | None] | None]:
    """Ids, descriptions and labels of header lines, by the first form that fits."""
    found = [_LABEL.search(header) for header in headers]
    if any(found):
        labels = [(match[1] or match[2]) if match else None for match in found]
        rests = [_LABEL.sub("", header) for header in headers]
        ids, descriptions = _split(rests)
        return [each.rstrip("|;,") for each in ids], descriptions, labels
    ids, descriptions = _split(headers)
    last = [each.rpartition("|") for each in ids]
    if all(before and label for before, _, label in last) and _repeats([label for *_, label in last]):
        return [before for before, *_ in last], descriptions, [label for *_, label in last]
    if all(len(words.split()) == 1 for words in descriptions) and _repeats(descriptions):
        return ids, [""] * len(ids), list(descriptions)
    return ids, descriptions, None


def _split(headers: Sequence[str]) -> tuple[list[str], list[str]]:
    pairs = [[*header.split(maxsplit=1), "", ""][:2] for header in headers]
    return [first for first, _ in pairs], [" ".join(rest.split()) for _, rest in pairs]


def _repeats(values: Sequence[str]) -> bool:
    """Classes come again; names and accession numbers do not."""
    return len(set(values)) < len(values)


def _letters(matches: Sequence[re.Match[str]]) -> str:
    return listed([f"letter '{match[0]}' at {match.start() + 1}" for match in matches], _MOST_LETTERS)


def _advice(letters: set[str], alphabet: Alphabet) -> str:
    """What to do about letters outside the alphabet, one clause for each kind of them."""
    said = []
    if alphabet == "protein":
        said.append("replace unknown amino acids by X")
    else:
        if letters & set(_CODES):
            said.append(f"replace ambiguous letters ({', '.join(sorted(letters & set(_CODES)))}) by N")
        if letters & set("TU"):
            said.append("write DNA with T and RNA with U, not both in one set")
        if letters & set("-."):
            said.append("remove gaps")
        if letters - set(_CODES + "TU-."):
            said.append("replace unknown letters by N")
    return f"{'; '.join(said)}; or set data.alphabet to {listed([a for a in ALPHABETS if a != alphabet])} if it is that"


def _warnings(written: Sequence[str], found: Sequence[str], alphabet: Alphabet) -> list[str]:
    said = []
    lower = sum(before != after for before, after in zip(written, found, strict=True))
    if lower:
        said.append(
            f"{lower} of {len(found)} sequences hold lower-case letters (soft-masked repeats), read as upper-case"
        )
    letters = sum(map(len, found))
    unknown = sum(sequence.count(UNKNOWN[alphabet]) for sequence in found)
    if unknown > MUCH_UNKNOWN * letters:
        said.append(f"{unknown / letters:.0%} of all letters are {UNKNOWN[alphabet]}, which says nothing to a model")
    return said
