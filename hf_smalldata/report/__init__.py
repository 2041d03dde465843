"""What a study or a Run found, as one HTML file to read and as markdown for a model card.

The page is a single file without scripts that loads nothing: it can be mailed, printed and opened offline. Both are
made of one JSON-ready mapping, the content, and say nothing that is not in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_smalldata.report import card, page, svg
from hf_smalldata.report.plots import PLOTS


def write(content: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.md, each whole or not at all.

    Args:
        content: a study's results, or the same made from a Run's metrics.
        inputs: row id -> text, (text, text_pair), PIL image or the bytes of a wav file, of the rows that are shown;
            others are shown by id.
        folder: made where it is missing.

    Returns:
        The two files, the page first.
    """
    made = {folder / "report.html": html(content, inputs), folder / "report.md": markdown(content)}
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in made.items():
        _put(file, text)
    first, second = made
    return first, second


def html(content: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The page; arguments as in `write`."""
    return page.html(_plain(content), inputs)


def markdown(content: Mapping[str, Any]) -> str:
    """The findings as GitHub markdown, with headings of the second level, so that a card can take them as they are."""
    return card.markdown(_plain(content))


def figure_png(content: Mapping[str, Any], name: str, file: Path) -> None:
    """One plot as a PNG on white, for a README: `results`, `comparisons`, `curves` or `reliability`.

    Raises:
        KeyError: no plot of that name.
    """
    plain = _plain(content)
    svg.png(lambda: PLOTS[name](plain, True), file)


def _plain(value: Any) -> Any:
    """The same with None for numbers that are not finite, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _put(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    try:
        # Rows cut in the middle of an emoji hold half a character, which UTF-8 does not know: a question mark.
        partial.write_bytes(text.encode("utf-8", errors="replace"))
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
