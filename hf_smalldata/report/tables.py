"""The tables of a report as plain text, once for page, markdown and terminal; each cell is what a reader sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.report.formats import NOTHING, duration, percent, plural, probability, shown, size
from hf_smalldata.report.words import (
    KINDS,
    MARKS,
    budgets_differ,
    by_budget,
    compared,
    compared_by,
    kind_title,
    of_kind,
)

WHOLE = 12  # classes up to which every one is shown at once
ENSEMBLE = "↳ ensemble"
_DULL = ("repeat", "fold", "restarts", "collapsed")  # facts of a training that say nothing when they are 0 in all


@dataclass(frozen=True)
class Table:
    """Cells in lines below a header. `words` are the columns that hold words: left-aligned, the others are figures."""

    caption: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})


def results(content: Mapping[str, Any]) -> Table:
    """All metrics of every setting and baseline; an ensemble has a line of its own, below its setting."""
    several, metrics, lines = budgets_differ(content), content["metrics"], []
    for each in by_budget(content, content["results"]):
        place, count = [each["budget"]] if several else [], str(each["train_rows"])
        name = f"{each['variant']} (baseline)" if each["baseline"] else each["variant"]
        lines.append([name, *place, *(shown(each["metrics"][metric]) for metric in metrics), count])
        if each["ensemble"]:
            values = ({"value": each["ensemble"].get(metric)} for metric in metrics)
            lines.append([f"{ENSEMBLE} of {len(each['runs'])}", *place, *map(shown, values), count])
    header = ["setting", *(["budget"] if several else []), *(TITLES[metric] for metric in metrics), "training rows"]
    return Table(f"Results with intervals ({content['setting']['interval']}).", header, lines)


def comparisons(content: Mapping[str, Any], kind: str) -> Table:
    """Paired differences of one kind, with what would resolve those that are not."""
    found = of_kind(content, kind)
    columns = {
        compared_by(content, kind): [compared(content, each) for each in found],
        "budget": [each["budget"] if budgets_differ(content) else "" for each in found],
        "difference": [shown(each["difference"], sign=True) for each in found],
        "p": ["" if each["p"] is None else probability(each["p"]) for each in found],
        "p, Holm": ["" if each["adjusted_p"] is None else probability(each["adjusted_p"]) for each in found],
        "verdict": [f"{MARKS[each['verdict']]} {each['verdict']}" for each in found],
        "what would resolve it": [each["needed"] or "" for each in found],
    }
    kept = {title: cells for title, cells in columns.items() if any(cells)}
    words = frozenset(at for at, title in enumerate(kept) if title not in ("budget", "difference", "p", "p, Holm"))
    caption = f"{kind_title(content, kind)}: difference in {content['row_score']}, {KINDS[kind][1]}."
    return Table(caption, list(kept), list(zip(*kept.values(), strict=True)), words)


def source(content: Mapping[str, Any]) -> str:
    """Whose predictions on which rows the diagnosis looks at."""
    return f"“{content['diagnosis']['variant']}”, {content['diagnosis']['rows']}"


def classes(content: Mapping[str, Any]) -> Table:
    """Rows of every class in every split."""
    counts = content["setting"]["classes"]
    splits = list(dict.fromkeys(split for each in counts.values() for split in each))
    lines = [[label, *(str(each.get(split, 0)) for split in splits)] for label, each in counts.items()]
    return Table("Rows of each class.", ["class", *splits], lines)


def per_class(content: Mapping[str, Any]) -> Table:
    """Precision, recall and F1 of every class, those with the lowest F1 first."""
    found = content["diagnosis"]["per_class"]
    weakest = sorted(found, key=lambda label: found[label]["f1"]["value"])
    lines = [
        [label, *(shown(found[label][name]) for name in ("precision", "recall", "f1")), str(found[label]["support"])]
        for label in weakest
    ]
    caption = f"Every class, the lowest F1 first; support is the number of its rows ({source(content)})."
    return Table(caption, ["class", "precision", "recall", "F1", "support"], lines)


def first(table: Table) -> Table:
    """The first dozen lines of a table."""
    return replace(table, caption=f"{table.caption} The first {WHOLE}.", lines=table.lines[:WHOLE])


def confused(content: Mapping[str, Any], most: int = 15) -> Table:
    """The pairs of classes that are most often confused, as counts and as a share of the true class."""
    matrix, labels = content["diagnosis"]["confusion"], content["labels"]
    pairs = [
        (count, true, said)
        for true, row in enumerate(matrix)
        for said, count in enumerate(row)
        if count and true != said
    ]
    pairs.sort(key=lambda pair: -pair[0])
    lines = [
        [labels[true], labels[said], str(count), percent(count / sum(matrix[true]))]
        for count, true, said in pairs[:most]
    ]
    caption = f"{len(lines)} of {plural(len(pairs), 'confused pair')}, the most frequent first ({source(content)})."
    return Table(caption, ["true class", "taken for", "rows", "of the class"], lines, frozenset({0, 1}))


def conformal(content: Mapping[str, Any]) -> Table:
    """What sets of labels promise, and what they kept on rows that their threshold was not made of."""
    lines = [
        [
            percent(each["coverage"]),
            percent(each["measured_coverage"]),
            NOTHING if each["mean_labels"] is None else f"{each['mean_labels']:.2f}",
            percent(each["single_label_share"]),
            "too few rows" if each["threshold"] is None else f"{1 - each['threshold']:.4f}",
        ]
        for each in content["calibration"]["conformal"]
    ]
    caption = "How often a row's set of labels holds the right one, and how many labels that takes."
    return Table(caption, ["promised", "measured", "labels a row", "rows with one label", "probability from"], lines)


def runs(content: Mapping[str, Any]) -> Table:
    """Time, steps and memory of every training; columns that would say nothing are left out."""
    made = trainings(content)
    shown_as: dict[str, Callable[[Any], str]] = {
        "seed": str, "repeat": str, "fold": str, "train_rows": str, "train_seconds": duration, "epochs": "{:g}".format,
        "steps": str, "trained_parameters": "{:,}".format, "parameters": "{:,}".format, "peak_memory_bytes": size,
        "peak_gpu_bytes": size, "restarts": str, "collapsed": lambda yes: "yes" if yes else "",
    }  # fmt: skip
    titles = {
        "train_rows": "rows",
        "train_seconds": "time",
        "peak_memory_bytes": "memory",
        "peak_gpu_bytes": "GPU memory",
    }
    wanted = [key for key in shown_as if any(run.get(key) is not None for _, run in made)]
    kept = [key for key in wanted if key not in _DULL or any(run.get(key) for _, run in made)]
    lines = [
        [each["variant"], each["budget"], *(NOTHING if run.get(k) is None else shown_as[k](run[k]) for k in kept)]
        for each, run in made
    ]
    header = ["setting", "budget", *(titles.get(key, key.replace("_", " ")) for key in kept)]
    return Table("Every training.", header, lines)


def cost(content: Mapping[str, Any]) -> str:
    """Time and memory of all trainings together, and how many collapsed."""
    made = [run for _, run in trainings(content)]
    parts = [f"{plural(len(made), 'training')}, {duration(sum(run['train_seconds'] for run in made))} in all"]
    for key, kind in (("peak_memory_bytes", "memory"), ("peak_gpu_bytes", "GPU memory")):
        peaks = [run[key] for run in made if run.get(key) is not None]
        if peaks:
            parts.append(f"at most {size(max(peaks))} of {kind}")
    collapsed = sum(run["collapsed"] for run in made)
    if collapsed:
        parts.append(f"{collapsed} gave one constant answer")
    return "; ".join(parts) + "."


def trainings(content: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every training with its result; baselines are not trainings."""
    return [(each, run) for each in content["results"] if not each["baseline"] for run in each["runs"]]
