"""The Runs of a study: recipes, label budgets, folds and seeds, on the same rows.

A comparison is only as good as its pairing: all variants of a seed learn from the same drawn rows and are judged by
the same test rows, so the spread among draws, which is most of the spread there is with few labels, drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_smalldata.data.load import Splits
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.strata import class_counts
from hf_smalldata.errors import UserError, listed
from hf_smalldata.recipe import Recipe
from hf_smalldata.study.variants import ablation, trained_by

ALL = "all"  # the budget of every training row there is
FEW_SEEDS = 3  # a recipe with fewer is studied over `SEEDS`
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Cell:
    """One Run of a study: a variant at a budget, with a seed; under cross-validation in one fold of one repeat."""

    variant: str
    budget: str  # labels a class ("8"), a share of the rows ("0.25"), or "all"
    repeat: int
    fold: int
    seed: int

    def __str__(self) -> str:
        """`without lora, 8 labels a class, fold 2 of repeat 0, seed 1`, without what is the same everywhere."""
        fold = f", fold {self.fold + 1} of repeat {self.repeat + 1}" if self.fold >= 0 else ""
        return f"{self.variant}, {describe(self.budget)}{fold}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """What is compared, on which draws."""

    variants: Mapping[str, Recipe]  # the first is the one that others are compared with
    seeds: tuple[int, ...]
    budgets: tuple[str, ...]
    folds: int = 0  # 0: one set of test rows
    repeats: int = 1
    ablated: tuple[str, ...] = ()  # techniques of the first variant that others leave out
    gate: str = ""  # the variant of an ablation that is recommended

    def cells(self) -> list[Cell]:
        """All Runs; those on the same rows stand together, so that they share what can be shared."""
        folds = range(self.folds) if self.folds else (-1,)
        return [
            Cell(variant, budget, repeat, fold, seed)
            for budget in self.budgets
            for repeat in range(self.repeats)
            for fold in folds
            for seed in self.seeds
            for variant in self.variants
        ]

    def recipe(self, cell: Cell) -> Recipe:
        """The recipe of one Run: its budget and its one seed put in."""
        recipe = self.variants[cell.variant]
        data = recipe.data.model_copy(update=budget_settings(cell.budget))
        return recipe.model_copy(update={"data": data, "seeds": (cell.seed,)})

    @property
    def main(self) -> str:
        """The variant that the others are compared with."""
        return next(iter(self.variants))

    def variant_of(self, techniques: Sequence[str]) -> str | None:
        """The variant of an ablation that has just these of the techniques; None where there is none."""
        wanted = list(techniques)
        return next((name for name, recipe in self.variants.items() if trained_by(recipe) == wanted), None)


def make_plan(
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int] | None = None,
    budgets: Sequence[str] | None = None,
    folds: int = 0,
    repeats: int = 1,
    ablate: bool = False,
) -> Plan:
    """A plan, checked as far as it can be without the rows.

    Args:
        recipes: by name; all of one task.
        seeds: default: those of the first recipe, or 0 to 4 if it has fewer than three.
        budgets: labels a class, shares of the rows below 1, or "all"; default: what the recipes say.
        folds: of cross-validation; 0 judges by test rows.
        repeats: of the cross-validation, each with other folds.
        ablate: add the recipe without each of its techniques, plain fine-tuning, and that with each alone.

    Raises:
        UserError: it cannot be done so.
    """
    names = list(recipes)
    tasks = {name: recipe.task for name, recipe in recipes.items()}
    if len(set(tasks.values())) > 1:
        raise UserError("a study compares recipes of one task, got " + listed([f"{n}: {t}" for n, t in tasks.items()]))
    if ablate and len(names) > 1:
        raise UserError(f"--ablate takes one recipe, got {len(names)}: {listed(names)}")
    if folds and any(recipe.data.rows for recipe in recipes.values()):
        raise UserError("--folds makes its own test rows; leave data.rows out")
    if repeats > 1 and not folds:
        raise UserError(f"--repeats {repeats}: repeats are of cross-validation; give --folds as well")
    chosen = tuple(seeds) if seeds else recipes[names[0]].seeds
    if not seeds and len(chosen) < FEW_SEEDS:
        chosen = SEEDS
    if len(set(chosen)) < len(chosen):
        raise UserError(f"--seeds: each seed once, got {listed(chosen)}")
    variants = ablation(names[0], recipes[names[0]]) if ablate else dict(recipes)
    ablated = tuple(trained_by(recipes[names[0]])) if ablate else ()
    return Plan(variants, chosen, _budgets(recipes, budgets), folds, repeats, ablated)


def budget_of(spec: DataSpec) -> str:
    """The budget that a recipe's own data section sets."""
    if spec.labels_per_class is not None:
        return str(spec.labels_per_class)
    return ALL if spec.fraction is None or spec.fraction == 1 else f"{spec.fraction:g}"


def budget_settings(budget: str) -> dict[str, Any]:
    """The data settings that draw a budget."""
    drawn: dict[str, Any] = {"labels_per_class": None, "fraction": None}
    if budget != ALL:
        drawn |= {"fraction": float(budget)} if "." in budget else {"labels_per_class": int(budget)}
    return drawn


def describe(budget: str) -> str:
    """A budget in words."""
    if budget == ALL:
        return "all rows"
    return f"{float(budget):.0%} of the rows" if "." in budget else f"{budget} labels a class"


def check_rows(plan: Plan, by_variant: Mapping[str, Sequence[Splits]]) -> None:
    """Variants are comparable, and the budgets are there, in every fold.

    Args:
        plan: whose budgets are drawn.
        by_variant: for each variant its rows, one entry a fold.

    Raises:
        UserError: other test rows or labels, or a budget above the rows there are.
    """
    first = by_variant[plan.main]
    for name, splits in by_variant.items():
        for ours, theirs in zip(first, splits, strict=True):
            if ours.labels != theirs.labels:
                raise UserError(f"{plan.main} and {name} have other labels: {listed(ours.labels)} and "
                                f"{listed(theirs.labels)}; compare recipes on the same data")  # fmt: skip
            if ours.test is not theirs.test and _rows(ours) != _rows(theirs):
                raise UserError(f"{plan.main} and {name} are judged by other test rows, so they cannot be compared; "
                                "give them the same data")  # fmt: skip
    numbers = [int(budget) for budget in plan.budgets if budget.isdigit()]
    if numbers and not first[0].labels:
        raise UserError(f"--budgets {max(numbers)}: regression has no classes; give shares of the rows, such as 0.25")
    for splits in by_variant.values():
        for part in splits:
            _check_enough(part, max(numbers, default=0))


def _check_enough(data: Splits, wanted: int) -> None:
    counts = class_counts(data.train, data.labels, data.problem_type)
    few = [f"{name} {count}" for name, count in counts.items() if 0 < count < wanted]
    if few:
        most = min(count for count in counts.values() if count)
        raise UserError(f"--budgets: {wanted} labels a class are more than there are; training rows besides validation "
                        f"and test rows: {listed(few)}. Give at most {most}, or all")  # fmt: skip


def _rows(data: Splits) -> tuple[list[str], list[Any]]:
    return (data.test["id"][:], data.test["label"][:]) if data.test is not None else ([], [])


def _budgets(recipes: Mapping[str, Recipe], given: Sequence[str] | None) -> tuple[str, ...]:
    """Budgets from small to large, each once."""
    if given is None:
        own = {name: budget_of(recipe.data) for name, recipe in recipes.items()}
        if len(set(own.values())) > 1:
            said = listed([f"{name}: {describe(budget)}" for name, budget in own.items()])
            raise UserError(
                f"the recipes learn from different numbers of rows ({said}); give --budgets for all of them"
            )
        return (next(iter(own.values())),)
    for budget in given:
        try:
            sound = budget == ALL or (0 < float(budget) < 1 if "." in budget else int(budget) > 0)
        except ValueError:
            sound = False
        if not sound:
            raise UserError(f"--budgets: expected labels a class such as 8, shares of the rows such as 0.25, or all; "
                            f"got {budget!r}")  # fmt: skip
    if len(set(given)) < len(given):
        raise UserError(f"--budgets: each budget once, got {listed(given)}")
    return tuple(sorted(given, key=lambda budget: (budget == ALL, "." not in budget, budget != ALL and float(budget))))


def recipe_names(files: Sequence[Path]) -> list[str]:
    """A name for each recipe file: its stem, with its folder where two have the same.

    Raises:
        UserError: a file is given twice.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"the same recipe is given twice: {listed([str(file) for file in files])}")
    stems = [file.stem for file in files]
    return [stem if stems.count(stem) == 1 else f"{file.resolve().parent.name}/{stem}"
            for stem, file in zip(stems, files, strict=True)]  # fmt: skip
