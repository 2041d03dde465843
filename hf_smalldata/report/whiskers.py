"""Dots with whiskers in rows: results beside baselines, differences beside zero (a forest plot).

Sizes are CSS pixels, which are matplotlib's points at 72 dots an inch. A wide plot has its labels left of the dots; in
one for a phone they stand above, so that the scale keeps the whole width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from rich.cells import cell_len, set_cell_size

from hf_smalldata.report.colours import LIGHT
from hf_smalldata.report.formats import one_line

WIDE, NARROW = 920, 340  # px
_MARK = 7.5  # px, across
_AXIS = 52  # px below the dots: ticks and what they mean
_TITLE = 28  # px
_CHARACTER = 7.0  # px, a generous mean at this size of type


class Dot(NamedTuple):
    """A row: what it is, its interval, and how it is marked (`marker` as in matplotlib).

    The scale is made for those that are `near`; others beyond it are an arrow with their value.
    """

    label: str
    interval: Mapping[str, Any]
    marker: str
    colour: str
    hollow: bool
    note: str = ""
    near: bool = True


class Panel(NamedTuple):
    """Groups of dots (title, dots) on one scale; `signed` for differences, which have a line at zero."""

    title: str
    meaning: str
    groups: Sequence[tuple[str, Sequence[Dot]]]
    signed: bool = False
    bounds: tuple[float, float] = (float("-inf"), float("inf"))


def whiskers(panels: Sequence[Panel], wide: bool) -> Figure:
    """All panels below each other, each on a scale of its own."""
    notes = any(dot.note for panel in panels for _, dots in panel.groups for dot in dots)
    left, right = (280, 110 if notes else 24) if wide else (16, 16)
    heights = [_height(panel, wide) for panel in panels]
    titles = sum(_TITLE for panel in panels if panel.title)
    width, height = (WIDE if wide else NARROW), sum(heights) + titles + _AXIS * len(panels)
    figure, top = Figure(figsize=(width / 72, height / 72), dpi=72), 0
    for panel, inner in zip(panels, heights, strict=True):
        across = width - left - right
        top += _TITLE if panel.title else 0
        axes = figure.add_axes(
            (left / width, 1 - (top + inner) / height, across / width, inner / height), ylim=(inner, 0)
        )
        _draw_panel(axes, panel, left, across, wide)
        top += inner + _AXIS
    return figure


def scale(intervals: Iterable[Mapping[str, Any]], bounds: tuple[float, float]) -> tuple[float, float]:
    """Limits that show all values and most whiskers: those several times longer than is usual here are cut.

    With two seeds Student's t makes some whiskers twenty times longer than others; shown whole they would hide those.
    """
    found = [each for each in intervals if each["value"] is not None]
    values = [each["value"] for each in found]
    arms = sorted(abs(each[end] - each["value"]) for each in found for end in ("low", "high") if each[end] is not None)
    span, reach = max(values) - min(values), 0.0
    if arms:
        reach = min(arms[-1], max(4 * arms[len(arms) // 2], span))
    low = min(max(end, value - reach) for end, value, _ in map(_ends, found))
    high = max(min(end, value + reach) for _, value, end in map(_ends, found))
    edge = 0.04 * (high - low) or 0.05
    return max(low, bounds[0]) - edge, min(high, bounds[1]) + edge


def shorten(text: str, width: float) -> str:
    """As much of the text as fits into `width` px, with an ellipsis where it does not."""
    line, cells = one_line(text), int(width / _CHARACTER)
    return line if cell_len(line) <= cells else set_cell_size(line, cells - 1).rstrip() + "…"


def calm(axes: Axes, axis: str) -> None:
    """Hairlines across, no ticks, no box."""
    axes.grid(axis=axis)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)


def _height(panel: Panel, wide: bool) -> int:
    rows = sum(len(dots) for _, dots in panel.groups)
    titles = sum(bool(title) for title, _ in panel.groups)
    return 10 + rows * _row(wide) + titles * _TITLE


def _row(wide: bool) -> int:
    return 25 if wide else 42


def _draw_panel(axes: Axes, panel: Panel, left: int, across: int, wide: bool) -> None:
    intervals = [dot.interval for _, dots in panel.groups for dot in dots if dot.near]
    if panel.signed:
        intervals.append({"value": 0.0, "low": None, "high": None})
        axes.axvline(0, color=LIGHT["ink"], linewidth=1.25, zorder=1.5)
    axes.set_xlim(*scale(intervals, panel.bounds))
    axes.xaxis.set_major_locator(MaxNLocator(6 if wide else 4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, panel.signed)))
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(panel.meaning, labelpad=7)
    calm(axes, "x")
    y = 4.0
    if panel.title:
        _draw_title(axes, panel.title, -_TITLE, left, across, wide, LIGHT["ink"])
    for title, dots in panel.groups:
        if title:
            _draw_title(axes, title, y, left, across, wide, LIGHT["muted" if panel.title else "ink"])
            y += _TITLE
        for dot in dots:
            _draw_words(axes, dot, y, left, across, wide)
            _draw_dot(axes, dot, y + (_row(wide) / 2 if wide else 29))
            y += _row(wide)


def _draw_title(axes: Axes, title: str, y: float, left: int, across: int, wide: bool, colour: str) -> None:
    start = -(left - 2) / across if wide else 0.0
    weight = "bold" if colour == LIGHT["ink"] else "normal"
    axes.text(start, y + 18, shorten(title, left + across if wide else across), weight=weight, color=colour,
              transform=axes.get_yaxis_transform())  # fmt: skip


def _draw_words(axes: Axes, dot: Dot, y: float, left: int, across: int, wide: bool) -> None:
    beside = axes.get_yaxis_transform()
    if wide:
        axes.text(-14 / across, y + 17, shorten(dot.label, left - 14), ha="right", transform=beside)
        axes.text(1 + 12 / across, y + 17, dot.note, color=dot.colour, transform=beside)
    else:
        axes.text(0, y + 16, shorten(dot.label, across - _CHARACTER * (len(dot.note) + 2)), transform=beside)
        axes.text(1, y + 16, dot.note, ha="right", color=dot.colour, transform=beside)


def _draw_dot(axes: Axes, dot: Dot, y: float) -> None:
    """The whisker, arrows where it goes on beyond the scale, and the mark; of a far value the arrow and the figure."""
    low, value, high = _ends(dot.interval)
    start, end = axes.get_xlim()
    for cut, at, arrow in ((low < start, start, "<"), (high > end, end, ">")):
        if cut:
            axes.plot([at], [y], arrow, color=dot.colour, markersize=6, clip_on=False)
    if start < value < end:
        face = LIGHT["paper"] if dot.hollow else dot.colour
        axes.plot([max(low, start), min(high, end)], [y, y], color=dot.colour, linewidth=2)
        axes.plot([value], [y], dot.marker, markersize=_MARK, color=dot.colour, markerfacecolor=face,
                  markeredgewidth=1.75)  # fmt: skip
    else:
        side, sign = ("left", 1) if value <= start else ("right", -1)
        axes.annotate(f"{value:.3f}", (start if sign > 0 else end, y), (8 * sign, 0), textcoords="offset points",
                      ha=side, va="center_baseline", color=dot.colour)  # fmt: skip


def _ends(interval: Mapping[str, Any]) -> tuple[float, float, float]:
    """Low, value, high; the value itself where a bound cannot be told."""
    low, value, high = (interval[key] for key in ("low", "value", "high"))
    return value if low is None else low, value, value if high is None else high


def _number(value: float, signed: bool) -> str:
    text = f"{round(value, 10):+g}" if signed else f"{round(value, 10):g}"
    return "0" if text in ("+0", "-0") else text
