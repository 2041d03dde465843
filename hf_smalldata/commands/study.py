"""`hf-smalldata study`: recipes over seeds, label budgets or folds. Heavy libraries are imported once it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_smalldata.commands.publish import publish_unasked
from hf_smalldata.console import session
from hf_smalldata.errors import UserError


def study(
    words: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE]...",
                     help="Recipes to compare, the first with all others, and settings that override each.")],
    seeds: Annotated[str | None, typer.Option(metavar="N|LIST", help="5 is 0 to 4; or a list such as 0,7,13. "
                     "[default: the recipe's, or 5]")] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="What did each technique bring? Leaves out one by one, and "
                      "writes gated.yaml without what did not help.")] = False,
    sweep: Annotated[str | None, typer.Option(metavar="KEY=LIST", help="One setting at several values, e.g. "
                     "techniques.vae.keep.ratio=0.5,1,2, beside the recipe without that technique.")] = None,
    budgets: Annotated[str | None, typer.Option(metavar="LIST", help="A learning curve: labels a class, shares, or "
                       "all, e.g. 4,8,16,all.")] = None,
    more: Annotated[int | None, typer.Option(min=1, help="Further labelled rows to forecast. [default: as many "
                    "again]")] = None,
    folds: Annotated[int, typer.Option(min=0, help="Cross-validation in this many folds, where test rows are "
                     "few.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Of the cross-validation, each with other folds.")] = 1,
    refit: Annotated[bool, typer.Option("--refit", help="Train the winner on all labelled rows: an ordinary model in "
                     "OUTPUT/model.")] = False,
    soup: Annotated[bool, typer.Option("--soup", help="With --folds and --refit: average all seeds' weights, if not "
                    "worse out of fold.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    executor: Annotated[str, typer.Option(metavar="local|ray", help="Where Runs are made.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster. [default: Ray on this machine]")] = None,
    output: Annotated[Path | None, typer.Option(help="The study's folder; a study that is there goes on. [default: "
                      "runs/study-<recipe>]")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Begin a Run of each recipe and budget, say what all will take, "
                    "and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: Runs as they are done, then the "
                       "results.")] = False,
) -> None:  # fmt: skip
    """Run recipes over seeds, label budgets or folds on the same rows, and say what helped."""
    from hf_smalldata.catalogue import find_recipe
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.study.plan import make_plan, recipe_names
    from hf_smalldata.study.variants import sweep as swept

    names = [word for word in words if "=" not in word]
    if not names:
        raise UserError("give a recipe; `hf-smalldata list recipes` shows those that come with the package")
    files, settings = [find_recipe(name) for name in names], [word for word in words if "=" in word]
    with session(quiet=True) as (main, console):
        from rich.console import Console

        from hf_smalldata.planning import plan_study, told
        from hf_smalldata.publish.hub import ready
        from hf_smalldata.report.terminal import terminal
        from hf_smalldata.study.engine import study as run
        from hf_smalldata.study.executors import choose
        from hf_smalldata.study.progress import Lines, Progress, Quiet

        recipes = {name: Recipe.read(file, settings) for name, file in zip(recipe_names(files), files, strict=True)}
        if sweep is not None:
            if ablate or len(files) > 1:
                raise UserError("--sweep: of one recipe, and without --ablate")
            recipes = swept(files[0].stem, lambda more: Recipe.read(files[0], [*settings, *more]), sweep)
        goal = next(iter(recipes.values())).publish if refit else None
        if main and goal is not None:
            ready(goal)
        # Where a model goes changes nothing of what is studied.
        recipes = {name: recipe.model_copy(update={"publish": None}) for name, recipe in recipes.items()}
        if plan:
            planned = make_plan(recipes, _seeds(seeds), budgets.split(",") if budgets else None, folds, repeats, ablate)
            for line in told(plan_study(planned, jobs or 1)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        try:
            made = run(
                recipes,
                output or Path("runs") / f"study-{files[0].stem}",
                seeds=_seeds(seeds),
                budgets=budgets.split(",") if budgets else None,
                folds=folds,
                repeats=repeats,
                ablate=ablate,
                more=more,
                refit_model=refit,
                soup=soup,
                executor=choose(executor, jobs, address),
                progress=Lines() if as_json else Quiet() if quiet else Progress(),
            )
        except KeyboardInterrupt:
            print("stopped: the same command goes on; Runs that are finished are kept", file=sys.stderr)
            sys.exit(130)
        if main and as_json:
            print(json.dumps({"event": "results", **made.results}))
        elif main:
            for part in terminal(made.results):
                console.print(part, markup=False, highlight=False)
            for name in ("report.html", "gated.yaml", "model"):
                if (made.folder / name).exists():
                    console.print(f"{name}: {made.folder / name}", markup=False, highlight=False, soft_wrap=True)
        if main and goal is not None:
            publish_unasked(made.folder, goal, Console(stderr=True) if as_json else console)


def _seeds(text: str | None) -> list[int] | None:
    """`5` -> 0 to 4; `0,7,13` -> these."""
    if text is None:
        return None
    try:
        given = [int(part) for part in text.split(",") if part]
    except ValueError:
        given = []
    if not given or min(given) < 0 or ("," not in text and given == [0]):
        raise UserError(f"--seeds: expected how many, such as 5, or a list such as 0,1,2; got {text!r}")
    return given if "," in text else list(range(given[0]))
