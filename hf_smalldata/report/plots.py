"""The plots of a report, drawn by matplotlib.

Why matplotlib: a report must open without a network, print, and still open in ten years, so plots are static SVG
without scripts, some 20 kB each; a plotting library in JavaScript weighs megabytes, or is fetched when the file is
opened. Figures are made without pyplot, which keeps a global list of them. Each plot is drawn twice, for a page and for
a phone, because text in an SVG cannot wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from hf_smalldata.evaluation.intervals import Array
from hf_smalldata.evaluation.metrics import greater_is_better
from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.report.colours import LIGHT, SERIES
from hf_smalldata.report.whiskers import NARROW, WIDE, Dot, Panel, calm, scale, shorten, whiskers
from hf_smalldata.report.words import (
    NOT_RESOLVED,
    best_result,
    budgets_differ,
    compared,
    kind_title,
    kinds,
    of_kind,
    training_rows,
)

_VERDICTS = {
    "helped": ("^", "good", False),
    "better": ("^", "good", False),
    "hurt": ("v", "bad", False),
    "worse": ("v", "bad", False),
    NOT_RESOLVED: ("o", "muted", True),
}
_BOUNDS = {"log_loss": (0.0, np.inf), "rmse": (0.0, np.inf), "mcc": (-1.0, 1.0), "spearman": (-1.0, 1.0)}
_MARKERS = "osD^vP"  # one more than colours, so that both come round together only after thirty curves


def results(content: Mapping[str, Any], wide: bool) -> Figure:
    """The main metric of every setting and baseline, grouped by budget."""
    metric, groups = content["main_metric"], []
    for budget, title in _groups(content).items():
        chosen = [each for each in content["results"] if each["budget"] == budget]
        baselines = [each["metrics"][metric]["value"] for each in chosen if each["baseline"]]
        nearest = (max if greater_is_better(metric) else min)(baselines, default=None)
        groups.append((title, [_result(each, metric, nearest) for each in chosen]))
    return whiskers([Panel("", TITLES[metric], groups, bounds=_bounds(metric))], wide)


def comparisons(content: Mapping[str, Any], wide: bool) -> Figure:
    """Paired differences beside zero. A panel for each kind: a baseline is often ten times farther than a technique."""
    panels = []
    for kind in kinds(content):
        groups = []
        for budget, title in _groups(content).items():
            chosen = [each for each in of_kind(content, kind) if each["budget"] == budget]
            if chosen:
                groups.append((title, [_difference(content, each) for each in chosen]))
        meaning = f"difference in {content['row_score']}; right of 0: better"
        panels.append(Panel(kind_title(content, kind), meaning, groups, signed=True))
    return whiskers(panels, wide)


def curves(content: Mapping[str, Any], wide: bool) -> Figure:
    """The main metric against training rows: measured points, the fitted curve, its forecast dashed, and its band.

    Of more than two curves only the best setting's has its band drawn: many bands hide each other.
    """
    found, best = content["curves"], best_result(content)["variant"]
    legend = 24 * len(found) if len(found) > 1 else 0
    width, height = (WIDE, 380 + legend) if wide else (NARROW, 300 + legend)
    left, right, top, bottom = 62, 16, 14 + legend, 56
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height), xscale="log"
    )
    for index, curve in enumerate(found):
        aside = 1.03 ** (index - (len(found) - 1) / 2)  # or the whiskers of one budget would hide one another
        _draw_points(axes, curve, index, aside, shorten(curve["variant"], width - left - 60))
        if curve["band"]:
            _draw_fit(axes, curve, LIGHT[SERIES[index % len(SERIES)]], len(found) <= 2 or curve["variant"] == best)
    everything = [point for curve in found for point in (*curve["points"], *curve["band"])]
    axes.set_ylim(*scale(everything, _bounds(content["main_metric"])))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 10):g}"))
    _ticks(axes, found, apart=0.05 if wide else 0.14)
    axes.set_xlabel("training rows (log scale)", labelpad=7)
    axes.set_ylabel(TITLES[content["main_metric"]], labelpad=7)
    axes.spines["left"].set_visible(False)
    calm(axes, "y")
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2, ncols=1)
    return figure


def reliability(content: Mapping[str, Any], wide: bool) -> Figure:
    """Share of rows that are right against confidence, a point for each bin."""
    bins = content["diagnosis"]["reliability"]
    side = 420 if wide else NARROW
    figure = Figure(figsize=(side / 72, side / 72), dpi=72)
    axes = figure.add_axes((58 / side, 56 / side, 1 - 72 / side, 1 - 68 / side))
    start, end = min(each["low"] for each in bins) - 0.02, max(each["high"] for each in bins) + 0.02
    lowest, highest = min(each["accuracy_low"] for each in bins), max(each["accuracy_high"] for each in bins)
    axes.set(xlim=(start, end), ylim=(min(start, lowest - 0.02), max(end, highest + 0.02)))
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1.25, dashes=(4, 3))
    for each in bins:
        accuracy, at = each["accuracy"], each["confidence"]
        axes.plot([each["low"], each["high"]], [accuracy, accuracy], color=LIGHT["accent"], linewidth=1, alpha=0.5)
        axes.plot([at, at], [each["accuracy_low"], each["accuracy_high"]], color=LIGHT["accent"], linewidth=2)
        axes.plot([at], [accuracy], "o", color=LIGHT["accent"], markersize=7, clip_on=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 10):g}"))
    axes.set_xlabel("confidence", labelpad=7)
    axes.set_ylabel("share that is right", labelpad=7)
    axes.spines["left"].set_visible(False)
    calm(axes, "y")
    return figure


PLOTS: dict[str, Callable[[Mapping[str, Any], bool], Figure]] = {
    "results": results,
    "comparisons": comparisons,
    "curves": curves,
    "reliability": reliability,
}


def _groups(content: Mapping[str, Any]) -> dict[str, str]:
    """Budget -> title of its group, in order; "" where there is one budget alone."""
    rows = training_rows(content)
    return {
        budget: f"budget {budget}: {count} training rows" if budgets_differ(content) else ""
        for budget, count in rows.items()
    }


def _bounds(metric: str) -> tuple[float, float]:
    return _BOUNDS.get(metric, (0.0, 1.0))


def _result(result: Mapping[str, Any], metric: str, nearest: float | None) -> Dot:
    """`nearest`: the best baseline, the only one that the scale must show."""
    interval = result["metrics"][metric]
    if not result["baseline"]:
        return Dot(result["variant"], interval, "o", LIGHT["accent"], hollow=False)
    return Dot(result["variant"], interval, "s", LIGHT["muted"], hollow=True, near=interval["value"] == nearest)


def _difference(content: Mapping[str, Any], comparison: Mapping[str, Any]) -> Dot:
    marker, role, hollow = _VERDICTS[comparison["verdict"]]
    label, verdict = compared(content, comparison), comparison["verdict"]
    return Dot(label, comparison["difference"], marker, LIGHT[role], hollow, verdict)


def _draw_points(axes: Axes, curve: Mapping[str, Any], index: int, aside: float, label: str) -> None:
    colour, points = LIGHT[SERIES[index % len(SERIES)]], curve["points"]
    for point in points:
        if point["low"] is not None and point["high"] is not None:
            axes.plot([point["train_rows"] * aside] * 2, [point["low"], point["high"]], color=colour, linewidth=2)
    axes.plot([point["train_rows"] * aside for point in points], [point["value"] for point in points],
              _MARKERS[index % len(_MARKERS)], color=colour, markersize=7, label=label)  # fmt: skip


def _draw_fit(axes: Axes, curve: Mapping[str, Any], colour: str, banded: bool) -> None:
    last, band = max(point["train_rows"] for point in curve["points"]), curve["band"]
    rows = np.unique([*(point["train_rows"] for point in band), min(last, band[-1]["train_rows"])])
    value, low, high = (_between(rows, band, key) for key in ("value", "low", "high"))
    if banded:
        axes.fill_between(rows, low, high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(rows[rows <= last], value[rows <= last], color=colour, linewidth=1.5)
    axes.plot(rows[rows >= last], value[rows >= last], color=colour, linewidth=1.5, dashes=(4, 3))


def _between(rows: Array, band: Sequence[Mapping[str, Any]], key: str) -> Array:
    """The band at these numbers of rows; its points stand in ascending order, None among them is not drawn."""
    known, values = (np.array([point[each] for point in band], dtype=np.float64) for each in ("train_rows", key))
    return np.interp(np.log(rows), np.log(known), values)


def _ticks(axes: Axes, found: Sequence[Mapping[str, Any]], apart: float) -> None:
    """A tick where rows were measured and where the forecast ends, none nearer to another than `apart` of the width."""
    measured = {point["train_rows"] for curve in found for point in curve["points"]}
    end = max(measured | {point["train_rows"] for curve in found for point in curve["band"]})
    span, kept = max(np.log(end / min(measured)), 0.1), [end]
    for rows in sorted(measured):
        if all(abs(np.log(rows / other)) > apart * span for other in kept):
            kept.append(rows)
    axes.set_xlim(min(measured) * np.exp(-0.06 * span), end * np.exp(0.06 * span))
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
