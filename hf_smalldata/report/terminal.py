"""The findings of a study for the terminal: the answer, one table, what helped, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table as Grid

from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.report import tables, words
from hf_smalldata.report.formats import shown

METRICS = 2  # shown here; the page has all
IN_TABLES = ("technique", "addition", "recipe")


def terminal(content: Mapping[str, Any]) -> Iterator[str | Grid]:
    """Renderables for a rich console, one after the other; strings are plain text."""
    yield words.lead(content)
    yield _results(content)
    for kind in words.kinds(content):
        if kind in IN_TABLES:
            yield _grid(tables.comparisons(content, kind), without=("p", "p, Holm"))
    largest = content["setting"]["budgets"][-1]
    for each in words.of_kind(content, "baseline"):
        if each["budget"] == largest:
            yield f"{each['a']} against {each['b']}: {shown(each['difference'], sign=True)}, {each['verdict']}"
    if content["gate"]:
        yield content["gate"]["sentence"]
    for curve in content["curves"]:
        if curve["forecast"]:
            yield f"forecast for {curve['variant']}: {curve['forecast']['sentence']} ({curve['level']:.0%} band)"
    if content["calibration"]:
        yield words.calibration(content["calibration"])
    if content["label_errors"]:
        yield f"labels that may be wrong: {len(content['label_errors'])}; the report lists them"
    yield from content["notes"]


def _results(content: Mapping[str, Any]) -> Grid:
    table = tables.results({**content, "metrics": content["metrics"][:METRICS]})
    count, folds = content["setting"]["rows"]["test"], content["setting"]["folds"]
    rows = f"{count} {'rows judged out of fold' if folds else 'test rows'}"
    caption = f"{content['setting']['interval']}; {rows}; {TITLES[content['main_metric']]} decides"
    return _grid(tables.Table(caption, table.header, table.lines))


def _grid(table: tables.Table, without: tuple[str, ...] = ()) -> Grid:
    grid = Grid(caption=table.caption, caption_justify="left")
    kept = [at for at, title in enumerate(table.header) if title not in without]
    for at in kept:
        grid.add_column(escape(table.header[at]), justify="left" if at in table.words else "right", overflow="fold")
    for line in table.lines:
        grid.add_row(*(escape(line[at]) for at in kept))
    return grid
