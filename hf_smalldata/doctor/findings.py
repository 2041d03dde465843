"""What an examination says: a finding a check, and their order of gravity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_smalldata.errors import listed

# fail: a figure would be false, or training is impossible. warn: a figure stands, but a person should look.
Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """One check and its outcome.

    Attributes:
        name: of the check, as in the summary.
        level: how grave.
        sentence: what was found, with counts.
        ids: rows it is about, all of them.
        advice: what to do; "" where nothing is to be done.
        drops: rows that a cleaned copy leaves out, and why.
    """

    name: str
    level: Level
    sentence: str
    ids: tuple[str, ...] = ()
    advice: str = ""
    drops: Mapping[str, str] = field(default_factory=dict, repr=False)

    def told(self) -> str:
        """In one sentence: what was found, in which rows, and what to do."""
        rows = f" ({listed(self.ids)})" if self.ids else ""
        return f"{self.name}: {self.sentence}{rows}" + (f"; {self.advice}" if self.advice else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "level": self.level,
            "sentence": self.sentence,
            "ids": list(self.ids),
            "advice": self.advice,
        }


@dataclass(frozen=True)
class Report:
    """All findings on a data set, in the order of the checks.

    Attributes:
        findings: one or more a check.
        rows: examined rows by split.
        renames: class names that a cleaned copy writes otherwise.
    """

    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The gravest."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="pass")

    def of(self, *levels: Level) -> list[Finding]:
        """Findings of some levels."""
        return [finding for finding in self.findings if finding.level in levels]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level,
            "rows": dict(self.rows),
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def drops(self) -> dict[str, tuple[str, str]]:
        """Rows that a cleaned copy leaves out: id -> (name of the first check that asks for it, why)."""
        gone: dict[str, tuple[str, str]] = {}
        for finding in self.findings:
            for row_id, why in finding.drops.items():
                gone.setdefault(row_id, (finding.name, why))
        return gone


def fine(name: str, sentence: str) -> Finding:
    """A check that found nothing to say but what it looked at."""
    return Finding(name, "pass", sentence)


def of_all(count: int, total: int) -> str:
    """`3 of 1,000`."""
    return f"{count:,} of {total:,}"


def number(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def among(count: int, total: int, split: str = "") -> str:
    """`1 of 50 test rows is`, `2 of 50 rows are`."""
    return f"{of_all(count, total)} {split} rows {'is' if count == 1 else 'are'}".replace("  ", " ")


def quoted(names: Collection[str], most: int = 5) -> str:
    """`'a', 'b' and 3 more`: names whose blanks matter."""
    shown = ", ".join(repr(name) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
