"""Rows as a language model reads and writes them: a class or types of entities, a colon, and the text, on one line.

Entities stand in the text as [New York](place), so that what is written brings its own tags; a text whose marks do not
hold together, name unknown types, or cut a word is no row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Dataset

from hf_smalldata.data.spans import words
from hf_smalldata.errors import UserError, did_you_mean
from hf_smalldata.technique import Context

_MARK = re.compile(r"\[([^\[\]()]+)\]\(([^\[\]()]+)\)")
_SIGNS = re.compile(r"[\[\]]|\]\(")  # what a row itself may not hold beside marks
NOTHING = "nothing"  # in front of a text without labels or entities

Row = Mapping[str, Any]


class Line(NamedTuple):
    """A row as a line: `front: body`."""

    front: str
    body: str
    label: Any  # of rows that are written after the same front; None for tags, which the body brings


class Forms:
    """How rows of one task are written down, and read again.

    Args:
        ctx: of the run: its task and labels.
        names: what classes or types are called in front of texts, where their labels say nothing.
        spaced: of tagged rows, whether words are what stands between blanks.
    """

    def __init__(self, ctx: Context, names: Mapping[str, str], spaced: bool = False) -> None:
        self.tagged, self.labels, self.spaced = ctx.task.kind == "tokens", ctx.labels, spaced
        self.several = ctx.problem_type == "multi_label_classification"
        said = {label.partition("-")[2] if self.tagged else label for label in ctx.labels} - {""}
        self.names = {name: names.get(name, name.replace("_", " ")) for name in sorted(said)}
        self.types = {spoken.lower(): name for name, spoken in self.names.items()}

    @classmethod
    def of(cls, originals: Dataset, ctx: Context, names: Mapping[str, str], technique: str) -> Forms:
        """For the real rows of a run.

        Raises:
            UserError: pairs of texts, or a name for a class that there is not.
        """
        if "text_pair" in originals.column_names:
            raise UserError(f"{technique}: for single texts, and these rows are pairs; use eda or char_noise")
        forms = cls(ctx, names, ctx.task.kind == "tokens" and is_spaced(list(originals)))
        for name in names:
            if name not in forms.names:
                raise UserError(f"{technique}.names: no class '{name}'{did_you_mean(name, forms.names)}")
        return forms

    def line(self, row: Row) -> Line | None:
        """A row as a line; None where its own signs could be taken for marks, or it is empty."""
        if not self.tagged:
            body = " ".join(row["text"].split())
            return Line(self._front(row["label"]), body, row["label"]) if body else None
        if _SIGNS.search(row["text"]) or not row["tokens"]:
            return None
        body, at, said = "", 0, []
        for start, end, name in entities(row, self.labels):
            body += f"{row['text'][at:start]}[{row['text'][start:end]}]({self.names[name]})"
            at = end
            said.append(self.names[name])
        front = ", ".join(sorted(set(said))) or NOTHING
        return Line(front, " ".join((body + row["text"][at:]).split()), None)

    def row(self, line: Line) -> dict[str, Any] | None:
        """What was written after a front as columns of a row; None where it is none."""
        body = " ".join(line.body.split())
        if not body:
            return None
        return self._tagged(body) if self.tagged else {"text": body, "label": line.label}

    def _front(self, label: Any) -> str:
        given = [at for at, on in enumerate(label) if on] if self.several else [label]
        return ", ".join(self.names[self.labels[at]] for at in given) or NOTHING

    def _tagged(self, body: str) -> dict[str, Any] | None:
        text, spans, at = "", [], 0
        for mark in _MARK.finditer(body):
            text += body[at : mark.start()]
            name = self.types.get(mark[2].strip().lower())
            if name is None or mark[1] != mark[1].strip():
                return None
            spans.append((len(text), len(text) + len(mark[1]), name))
            text, at = text + mark[1], mark.end()
        text += body[at:]
        if _SIGNS.search(text):
            return None
        places = [found.span() for found in re.finditer(r"\S+", text)] if self.spaced else words(text)
        tags = tags_of(places, spans)
        if tags is None:
            return None
        return {
            "text": text,
            "tokens": [text[start:end] for start, end in places],
            "starts": [start for start, _ in places],
            "label": [self.labels.index(tag) for tag in tags],
        }


def entities(row: Row, labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Start and end in the text, and type, of the entities that a row's IOB2 tags mark."""
    found: list[tuple[int, int, str]] = []
    inside = False
    for start, word, tag in zip(row["starts"], row["tokens"], row["label"], strict=True):
        letter, _, name = labels[tag].partition("-")
        if letter == "I" and inside:
            found[-1] = (found[-1][0], start + len(word), name)
        elif letter != "O":
            found.append((start, start + len(word), name))
        inside = letter != "O"
    return found


def tags_of(places: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int, str]]) -> list[str] | None:
    """IOB2 tags of words at `places`; None if a span begins or ends within a word."""
    tags, starts, ends = ["O"] * len(places), {start for start, _ in places}, {end for _, end in places}
    for start, end, name in spans:
        if start not in starts or end not in ends:
            return None
        for at, place in enumerate(places):
            if start <= place[0] < end:
                tags[at] = f"{'B' if place[0] == start else 'I'}-{name}"
    return tags


def is_spaced(rows: Sequence[Row]) -> bool:
    """Whether the words of all rows are what stands between blanks."""
    return all(list(row["tokens"]) == row["text"].split() for row in rows)
