"""The summary of an examination for the terminal: a line a check, and what to do where there is something to do."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table as Grid
from rich.text import Text

from hf_smalldata.doctor.findings import Finding, Level, Report
from hf_smalldata.errors import listed

IDS_SHOWN = 20
_STYLES: dict[Level, str] = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def terminal(report: Report) -> Iterator[Grid | Text]:
    """Renderables for a rich console, one after the other."""
    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in report.findings:
        grid.add_row(Text(finding.level, _STYLES[finding.level]), finding.name, _said(finding))
    yield grid
    counts = {level: len(report.of(level)) for level in ("fail", "warn", "pass")}
    yield Text(", ".join(f"{count} {level}" for level, count in counts.items()), _STYLES[report.level])


def _said(finding: Finding) -> Text:
    text = Text(finding.sentence)
    if finding.level != "pass":
        if finding.ids:
            text.append(f"\n{listed(finding.ids, IDS_SHOWN)}", "dim")
        if finding.advice:
            text.append(f"\n-> {finding.advice}")
    return text
