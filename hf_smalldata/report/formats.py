"""How figures and texts are written, the same in all parts of a report. A dash stands where there is nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hf_smalldata.evaluation.report import show

NOTHING = "–"


def shown(interval: Mapping[str, float | None] | None, sign: bool = False) -> str:
    """`0.943 [0.921, 0.962]`, as `evaluation.report.show` writes it."""
    if interval is None or interval["value"] is None:
        return NOTHING
    return show({"low": None, "high": None, **interval}, sign)


def probability(p: float) -> str:
    """A p value to three places."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float | None) -> str:
    """`92.1 %`, `90 %`."""
    return NOTHING if share is None else f"{round(100 * share, 1):g} %"


def duration(seconds: float) -> str:
    """`12.1 s`, `5 min 23 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float | None) -> str:
    """Bytes as `1.46 GB` or `312 MB`."""
    if count is None:
        return NOTHING
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def kilobytes(count: int) -> str:
    """Bytes of a file, small ones too: `2 kB`, `312 MB`."""
    return size(count) if count >= 1e6 else f"{max(round(count / 1e3), 1)} kB"


def plural(count: int, word: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def one_line(text: object) -> str:
    """Text without line breaks and control characters, which neither a table nor an SVG can hold."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(text)).strip()
