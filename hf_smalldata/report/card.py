"""The findings as GitHub markdown: tables and sentences, no images. All that users bring in is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hf_smalldata.report import tables, words
from hf_smalldata.report.formats import one_line, plural
from hf_smalldata.report.tables import Table


def markdown(content: Mapping[str, Any]) -> str:
    """Findings, setting, results, comparisons and calibration, a section each where there is something to say."""
    sections = {
        "Findings": [
            _list(
                [words.lead(content), *(found.sentence for found in words.findings(content)), *words.caveats(content)]
            )
        ],
        "Setting": [_list(_setting(content))],
        "Notes": [_list(content["notes"])],
        "Results": [_table(tables.results(content))],
        "Paired differences": [_table(tables.comparisons(content, kind)) for kind in words.kinds(content)],
        "Calibration": list(_calibration(content)),
    }
    parts = ["\n\n".join([f"## {title}", *parts]) for title, parts in sections.items() if any(parts)]
    return "\n\n".join(parts) + "\n"


def escape(text: object) -> str:
    """One line in which no sign is markdown, HTML or the end of a cell; `[0.1, 0.2]` is none and stays as it is."""
    return re.sub(r"([\\`*_{}<>|#~$&]|\](?=[(\[:])|^\[)", r"\\\1", one_line(text))


def _table(table: Table) -> str:
    marks = ["---" if at in table.words else "---:" for at in range(len(table.header))]
    lines = [_line(table.header), f"| {' | '.join(marks)} |", *map(_line, table.lines)]
    return "\n".join([*lines, "", escape(table.caption)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escape, cells))} |"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def _setting(content: Mapping[str, Any]) -> list[str]:
    setting, rows = content["setting"], words.training_rows(content)
    trained = ", ".join(
        f"{count:,} (budget {budget})" if len(rows) > 1 else f"{count:,}" for budget, count in rows.items()
    )
    lines = [f"Task and model: {content['task']}, {content['model']}", f"Training rows: {trained}"]
    if setting["folds"]:
        lines.append(words.folds(setting))
    else:
        lines.append(f"Test rows: {setting['rows']['test']:,}")
    if content["labels"]:
        lines.append(f"{plural(len(content['labels']), 'label')}: {', '.join(content['labels'])}")
    return [*lines, f"Seeds: {', '.join(map(str, setting['seeds']))}", f"Intervals: {setting['interval']}"]


def _calibration(content: Mapping[str, Any]) -> Iterable[str]:
    found = content["calibration"]
    if found:
        yield escape(words.calibration(found))
        if found["conformal"]:
            yield _table(tables.conformal(content))
