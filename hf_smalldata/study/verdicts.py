"""What helped: paired differences between variants, with intervals, Holm's correction and a verdict for each.

A technique is judged by the recipe with it against the recipe without it; beside that stands what it adds to plain
fine-tuning. All comparisons of one kind at one budget are one family: the chance that any of them is wrongly called
helped or hurt stays below 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from hf_smalldata.evaluation.comparison import Comparison, holm, needed, resolution, verdict
from hf_smalldata.evaluation.summary import MODEL, plain
from hf_smalldata.study.judged import Judged
from hf_smalldata.study.plan import Plan

Kind = Literal["technique", "addition", "recipe", "gate", "baseline"]
JudgedBy = Mapping[tuple[str, str], Judged]  # (variant, budget) -> its Runs

ALPHA = 0.05
WORDS = {"technique": ("helped", "hurt"), "addition": ("helped", "hurt"), "recipe": ("better", "worse"),
         "gate": ("better", "worse"), "baseline": ("better", "worse")}  # fmt: skip


class Pair(NamedTuple):
    """Two things to compare."""

    kind: Kind
    what: str  # the technique, recipe or baseline that the difference speaks of
    a: str
    b: str


def comparisons(plan: Plan, judged: JudgedBy, kind: Kind | None = None) -> list[dict[str, Any]]:
    """Every comparison of a plan at every budget, as `results.json` has it.

    Args:
        plan: what was studied.
        judged: its Runs.
        kind: only these.
    """
    found = []
    for budget in plan.budgets:
        pairs = [pair for pair in _pairs(plan, judged, budget) if kind in (None, pair.kind)]
        for each in dict.fromkeys(pair.kind for pair in pairs):
            family = [pair for pair in pairs if pair.kind == each]
            compared = [_compare(pair, judged, budget) for pair in family]
            adjusted = holm([one.p for one in compared])
            found += [
                _entry(pair, one, p, budget, len(family))
                for pair, one, p in zip(family, compared, adjusted, strict=True)
            ]
    return found


def best_baseline(judged: Judged) -> str:
    """The baseline with the best mean score of a row; chosen on the same rows, so it is flattered, not we."""
    names: list[str] = [name for name in judged.metrics[0]["results"] if name != MODEL]
    means = {name: sum(float(scores.mean()) for scores in judged.row_scores(name)) for name in names}
    return max(means, key=means.__getitem__)


def resolution_note(found: Sequence[Mapping[str, Any]], judged: JudgedBy, plan: Plan) -> str | None:
    """What the test rows are too few for, if they are: a difference that was measured but could not be resolved."""
    one = judged[plan.main, plan.budgets[-1]]
    if one.problem_type != "single_label_classification":
        return None
    limits = []
    for entry in found:
        if entry["verdict"] != "not resolved" or entry["kind"] not in ("technique", "recipe"):
            continue
        a, b = judged[entry["a"], entry["budget"]], judged[entry["b"], entry["budget"]]
        pairs = zip(a.row_scores(), b.row_scores(), strict=True)
        disagreement = sum(float(abs(x - y).mean()) for x, y in pairs) / len(a.cells)
        limit = resolution(one.rows, disagreement)
        if limit > abs(entry["difference"]["value"]):
            limits.append(limit)
    if not limits:
        return None
    kind = "rows, each judged out of fold," if one.has_folds else "test rows"
    return f"Your {one.rows} {kind} cannot resolve differences in accuracy below {100 * min(limits):.1f} points."


def _pairs(plan: Plan, judged: JudgedBy, budget: str) -> Iterator[Pair]:
    if plan.ablated:
        yield from _ablation_pairs(plan)
    else:
        yield from (Pair("recipe", name, name, plan.main) for name in plan.variants if name != plan.main)
    if plan.gate not in ("", plan.main):
        yield Pair("gate", plan.gate, plan.gate, plan.main)
    for name in plan.variants:
        yield Pair("baseline", name, name, best_baseline(judged[name, budget]))


def _ablation_pairs(plan: Plan) -> Iterator[Pair]:
    for technique in plan.ablated:
        rest = plan.variant_of([each for each in plan.ablated if each != technique])
        if rest is not None:
            yield Pair("technique", technique, plan.main, rest)
    nothing = plan.variant_of([])
    for technique in plan.ablated if len(plan.ablated) > 1 else ():
        alone = plan.variant_of([technique])
        if alone is not None and nothing is not None:
            yield Pair("addition", technique, alone, nothing)


def _compare(pair: Pair, judged: JudgedBy, budget: str) -> Comparison:
    a = judged[pair.a, budget]
    if pair.kind == "baseline":
        return a.compare(a, other_who=pair.b)
    return a.compare(judged[pair.b, budget])


def _entry(pair: Pair, one: Comparison, adjusted: float, budget: str, family: int) -> dict[str, Any]:
    said = verdict(one, adjusted, ALPHA)
    better, worse = WORDS[pair.kind]
    return {
        **pair._asdict(),
        "budget": budget,
        "difference": plain(one.difference),
        "p": None if math.isnan(one.p) else one.p,
        "adjusted_p": None if math.isnan(adjusted) else adjusted,
        "verdict": {"helped": better, "hurt": worse}.get(said, said),
        "needed": _needed(one, family) if said == "not resolved" else None,
    }


def _needed(one: Comparison, family: int) -> str | None:
    """What would resolve a difference as large as the one that was measured, in a family of so many."""
    more = needed(one, level=1 - ALPHA / family)
    unit = "seeds" if one.folds is None else "repeats"
    ways = [f"{count:,} {what}" for count, what in ((more.seeds, unit), (more.rows, "test rows")) if count is not None]
    return f"about {' or '.join(ways)}" if ways else None
