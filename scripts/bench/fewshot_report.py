"""The tables of `fewshot.py`: what each side reached, then ours minus each other side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from measured import Line

Cells = dict[tuple[str, int], dict[str, dict[int, Line]]]  # (set, rows a class) -> side -> seed -> line


def report(lines: list[Line]) -> None:
    """For each encoder and number of threads what each side reached, then ours minus each other side."""
    newest = {line["recipe"]: line["sections"] for line in lines if line["side"] == "ours"}
    runs: dict[tuple[str, int, int], Cells] = {}
    for line in lines:
        if line.get("sections") != newest.get(line.get("recipe")):
            continue  # of a recipe as it was
        side = f"ours ({Path(line['recipe']).stem})" if line["side"] == "ours" else line["side"]
        cells = runs.setdefault((line["model"], line["threads"], line["test_rows"]), {})
        sides = cells.setdefault((Path(line["data"]).name, line["per_class"]), {})
        sides.setdefault(side, {})[line["seed"]] = line
    for (model, threads, test_rows), cells in runs.items():
        print(f"\n{Path(model).name}, threads: {threads}, test rows: {test_rows}; means over seeds (95 % interval)")
        _print_sides(cells)
        _print_differences(cells)


def _print_sides(cells: Cells) -> None:
    from hf_smalldata.evaluation.intervals import t_interval

    _header("set", "rows a class", "side", "seeds", "accuracy", "training, CPU s", "predicted rows a CPU s", "peak GB")
    for (name, per_class), sides in cells.items():
        for side, by_seed in sides.items():
            found = list(by_seed.values())
            whole = [line for line in found if "accuracy" in line]
            accuracy = t_interval([line["accuracy"] for line in whole]).show() if whole else "-"
            rate = f"{fmean([line['predict_rows_per_cpu_second'] for line in whole]):.0f}" if whole else "-"
            seconds = f"{_about(found)}{fmean([_seconds(line) for line in found]):.1f}"
            peak = max(line["peak_gb"] for line in found)
            print(f"| {name} | {per_class} | {side} | {len(found)} | {accuracy} | {seconds} | {rate} | {peak:.2f} |")


def _print_differences(cells: Cells) -> None:
    """Paired by seed; `all` pools the seeds of all sets and budgets, so it speaks of other draws of these sets only."""
    from hf_smalldata.evaluation.intervals import t_interval

    _header("ours", "minus", "set", "rows a class", "pairs", "difference of accuracy", "its time")
    names = list(dict.fromkeys(side for sides in cells.values() for side in sides))
    for ours, other in [(a, b) for a in names for b in names if a.startswith("ours") and not b.startswith("ours")]:
        pairs: dict[tuple[str, Any], list[tuple[Line, Line]]] = {("all", ""): []}
        for cell, sides in cells.items():
            left, right = sides.get(ours, {}), sides.get(other, {})
            pairs[cell] = [(left[seed], right[seed]) for seed in sorted(set(left) & set(right))]
            pairs["all", ""] += pairs[cell]
        for (name, per_class), found in ((cell, found) for cell, found in pairs.items() if found):
            gains = [a["accuracy"] - b["accuracy"] for a, b in found if "accuracy" in b]
            shares = [_seconds(a) / _seconds(b) for a, b in found]
            difference = t_interval(gains).show() if gains else "-"
            print(f"| {ours} | {other} | {name} | {per_class} | {len(gains)} | {difference} "
                  f"| {_about(b for _, b in found)}{100 * fmean(shares):.0f} % |")  # fmt: skip


def _header(*columns: str) -> None:
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")


def _seconds(line: Line) -> float:
    return float(line["estimated_seconds"] if "skipped" in line else line["cpu_seconds"])


def _about(lines: Iterable[Line]) -> str:
    return "≈ " if any("skipped" in line for line in lines) else ""
