"""What a variant changed, as pieces that are the same, gone or new: of texts by words, of sequences by letters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich.text import Text

from hf_smalldata.data.modality import Kind

AROUND = {"text": 8, "tokens": 8, "sequence": 20}  # words or letters that stay on either side of a change
MOST_LETTERS = 600  # of a sequence that are shown; every pair of letters may be compared
ANOTHER = 0.5  # similarity of letters below which a sequence is told as another one

_STYLES = {"same": "", "gone": "red strike", "new": "green"}
_MARKS = {"same": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}


class Piece(NamedTuple):
    """Neighbouring words or letters of one fate."""

    what: Literal["same", "gone", "new"]
    parts: list[str]


def difference(before: Mapping[str, Any], after: Mapping[str, Any], kind: Kind, names: Sequence[str]) -> list[Piece]:
    """Pieces that make `before` without the new ones, and `after` without the gone ones.

    Args:
        before: a row.
        after: its variant.
        kind: text, tokens or sequence.
        names: of tags, which stand behind their words.
    """
    a, b = parts_of(before, kind, names), parts_of(after, kind, names)
    if kind != "sequence":
        return compared(a, b)
    if len(a) == len(b) and sum(map(str.__eq__, a, b)) > ANOTHER * len(a):
        return substituted(a, b)
    alike = difflib.SequenceMatcher(a=a, b=b, autojunk=False).ratio() > ANOTHER
    return compared(a, b) if alike else [Piece("gone", a), Piece("new", b)]


def parts_of(row: Mapping[str, Any], kind: Kind, names: Sequence[str]) -> list[str]:
    """Words of a text, or of both with a bar between them; words with tags, such as Bonn[B-place]; letters."""
    if kind == "sequence":
        return list(row["sequence"][:MOST_LETTERS])
    if kind == "tokens":
        return [f"{word}[{names[tag]}]" if tag else word for word, tag in zip(row["tokens"], row["label"], strict=True)]
    return [*row["text"].split(), *(["|", *row["text_pair"].split()] if row.get("text_pair") is not None else [])]


def compared(a: Sequence[str], b: Sequence[str]) -> list[Piece]:
    """The longest runs that both have in common are the same."""
    pieces = []
    for what, i, j, k, m in difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
        found = [Piece("same", list(a[i:j]))] if what == "equal" else [Piece("gone", list(a[i:j])),
                                                                       Piece("new", list(b[k:m]))]  # fmt: skip
        pieces += [piece for piece in found if piece.parts]
    return pieces


def substituted(a: Sequence[str], b: Sequence[str]) -> list[Piece]:
    """Of sequences of one length, place by place."""
    runs: list[tuple[bool, list[str], list[str]]] = []
    for one, other in zip(a, b, strict=True):
        if not runs or runs[-1][0] != (one == other):
            runs.append((one == other, [], []))
        runs[-1][1].append(one)
        runs[-1][2].append(other)
    return [piece for same, old, new in runs
            for piece in ([Piece("same", old)] if same else [Piece("gone", old), Piece("new", new)])]  # fmt: skip


def brief(pieces: Sequence[Piece], around: int) -> list[Piece]:
    """Long same pieces less their middle; `around` parts stay beside what changed."""
    last, made = len(pieces) - 1, []
    for at, (what, parts) in enumerate(pieces):
        head, tail = (around if at else 0), (around if at < last else 0)
        if what == "same" and len(parts) > head + tail + 2:
            made.append(Piece(what, [*parts[:head], "…", *parts[len(parts) - tail :]]))
        else:
            made.append(Piece(what, parts))
    return made


def written(pieces: Sequence[Piece], kind: Kind, colours: bool) -> Text:
    """Gone red and struck, new green; without colours as [-gone-] and {+new+}."""
    blank, text = "" if kind == "sequence" else " ", Text()
    for at, (what, parts) in enumerate(pieces):
        run = blank.join(parts)
        text.append(blank if at else "")
        text.append(run if colours else _MARKS[what].format(run), _STYLES[what] if colours else "")
    return text
