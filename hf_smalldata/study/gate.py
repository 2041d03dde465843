"""The gate: a recipe without what did not help on these rows, tried before it is recommended.

Leaving out what was not shown to help makes a recipe simpler, but two techniques that do the same work are each
dispensable and not both. So the recipe that remains is run like every other variant, and kept only if it is not
measurably worse than the whole one; else only what hurt goes, and if that is worse too, nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_smalldata.evaluation.report import show
from hf_smalldata.study.plan import Plan, describe
from hf_smalldata.study.variants import keeping

GATED = "gated"


def candidates(plan: Plan, compared: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Techniques to keep, the boldest first: what helped at the largest budget; all but what hurt; all."""
    verdicts = {entry["what"]: entry["verdict"] for entry in compared if entry["budget"] == plan.budgets[-1]}
    helped = [name for name in plan.ablated if verdicts[name] == "helped"]
    not_hurt = [name for name in plan.ablated if verdicts[name] != "hurt"]
    found = [helped, not_hurt, list(plan.ablated)]
    return [each for at, each in enumerate(found) if each not in found[:at]]


def with_gate(plan: Plan, techniques: Sequence[str]) -> Plan:
    """The plan whose gate is the variant with these techniques: one that is there, or one more."""
    plain = replace(plan, variants={name: recipe for name, recipe in plan.variants.items() if name != GATED})
    name = plain.variant_of(techniques)
    if name is not None:
        return replace(plain, gate=name)
    whole = plan.variants[plan.main]
    return replace(plain, variants={**plain.variants, GATED: keeping(whole, techniques)}, gate=GATED)


def gate_content(plan: Plan, compared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gate as results.json has it."""
    kept = [each.name for each in plan.variants[plan.gate].techniques]
    removed = [name for name in plan.ablated if name not in kept]
    measured = [e for e in compared if e["kind"] == "gate" and e["budget"] == plan.budgets[-1]]
    if not removed:
        sentence = "nothing was left out: all of it helped, or the recipe was measurably worse without what did not"
    else:
        found = show(measured[0]["difference"], sign=True)
        sentence = (f"left out: {', '.join(removed)}; what remains against the whole recipe, "
                    f"{describe(plan.budgets[-1])}: {found}, {measured[0]['verdict']}")  # fmt: skip
    return {"kept": kept, "removed": removed, "sentence": sentence}


def gated_yaml(plan: Plan, results: Mapping[str, Any]) -> str:
    """gated.yaml: the recipe that the gate lets through, under a comment that says why."""
    largest = plan.budgets[-1]
    judged = [each for each in results["comparisons"] if (each["kind"], each["budget"]) == ("technique", largest)]
    lines = [
        f"# {plan.main}, without what did not help on these rows ({results['setting']['interval']}).",
        f"# {results['gate']['sentence']}",
        *(
            f"#   {e['what']}: {e['verdict']}, {results['row_score']} {show(e['difference'], sign=True)}"
            for e in judged
        ),
    ]
    recipe = plan.variants[plan.gate].model_copy(update={"seeds": plan.variants[plan.main].seeds})
    return "\n".join(lines) + "\n" + recipe.to_yaml()
