"""A Run's results as a table for the terminal and as markdown for its card. Every figure is read from metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from hf_smalldata.evaluation.summary import MODEL

TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1", "mcc": "MCC", "log_loss": "log-loss",
          "ece": "ECE", "rmse": "RMSE", "spearman": "Spearman", "entity_f1": "entity F1",
          "entity_precision": "entity precision", "entity_recall": "entity recall",
          "token_accuracy": "token accuracy"}  # fmt: skip


def rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Header and a line for each metric: the model, then its baselines."""
    results = metrics["results"]
    lines = [["", *(metrics["model"] if who == MODEL else who for who in results)]]
    for name in results[MODEL]:
        lines.append([TITLES[name], *(show(values[name]) for values in results.values())])
    return lines


def comparisons(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence a baseline: how much better, and whether that is more than chance."""
    sentences = []
    for name, found in metrics["versus"].items():
        interval = found["over_rows_and_seeds"]
        said = verdict(interval)
        said += {"not resolved": ": the interval includes 0",
                 "worse": ": ship the baseline, or give the model more rows"}.get(said, "")  # fmt: skip
        sentences.append(f"{found['score']} against {name}: {show(interval, sign=True)} - {said}")
    return sentences


def made_rows(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence a generator: how many of the training rows it made, and what its keeper left out; of the first seed.

    Rows that were made are disclosed wherever the results are told.
    """
    found = metrics["runs"][0].get("techniques") or {}
    return [
        f"{name}{_by(each)} made {each['made']} rows, of which {each['kept']} were learnt from, "
        f"{100 * each['share_of_training_rows']:.0f} % of all training rows; left out: "
        + (", ".join(f"{count} {reason}" for reason, count in each["dropped"].items() if count) or "none")
        for name, each in found.items()
        if "share_of_training_rows" in each
    ]


def disclosed(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence for each technique of the first seed that did what a reader has to know."""
    found = metrics["runs"][0].get("techniques") or {}
    return [f"{name} {each['disclosed']}" for name, each in found.items() if each.get("disclosed")]


def verdict(interval: Mapping[str, float | None]) -> str:
    """`better`, `worse` or `not resolved`, by the interval of a difference."""
    if interval["low"] is not None and interval["low"] > 0:
        return "better"
    return "worse" if interval["high"] is not None and interval["high"] < 0 else "not resolved"


def table(metrics: Mapping[str, Any]) -> Table:
    """The results for the terminal."""
    header, *lines = rows(metrics)
    shown = Table(title=None, caption=f"{setting(metrics)}; {metrics['interval']}", caption_justify="left")
    for index, title in enumerate(header):
        shown.add_column(escape(title), justify="left" if index == 0 else "right")
    for line in lines:
        shown.add_row(*map(escape, line))
    return shown


def markdown(metrics: Mapping[str, Any]) -> str:
    """The results for a model card."""
    header, *lines = rows(metrics)
    parts = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    parts += ["| " + " | ".join(line) + " |" for line in lines]
    parts += ["", f"{setting(metrics)}; {metrics['interval']}.", ""]
    parts += [f"- {sentence}" for sentence in comparisons(metrics)]
    return "\n".join(parts)


def setting(metrics: Mapping[str, Any]) -> str:
    """How many rows and seeds the figures rest on."""
    count, seeds = metrics["rows"], len(metrics["seeds"])
    return f"{count['train']} training rows, {count['test']} test rows, {seeds} seed{'s' if seeds > 1 else ''}"


def show(interval: Mapping[str, float | None], sign: bool = False) -> str:
    """`0.943 [0.921, 0.962]`; without bounds the value alone."""
    form = "{:+.3f}" if sign else "{:.3f}"
    value = form.format(interval["value"])
    if interval["low"] is None or interval["high"] is None:
        return value
    return f"{value} [{form.format(interval['low'])}, {form.format(interval['high'])}]"


def _by(facts: Mapping[str, Any]) -> str:
    return f" ({facts['generator']})" if "generator" in facts else ""
