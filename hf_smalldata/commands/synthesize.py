"""`hf-smalldata synthesize`: the rows that generators make. Heavy libraries are imported once the command runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_smalldata.console import session


def synthesize(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `list recipes`.")],
    out: Annotated[Path, typer.Option(help="The folder to write: made rows, provenance.jsonl, quality.json, and for "
                   "images a contact sheet.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. "
                        "techniques.language_model.epochs=10")] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Made rows of each class; of tagged rows, in all.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Of rows and draws. [default: the recipe's first]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a set that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """Write the rows that a recipe's generators make, with where each comes from and how good they are.

    The same command goes on where it was interrupted.
    """
    from hf_smalldata.augmentation.synthesis import check_out, generators_of, synthesise, write_set
    from hf_smalldata.catalogue import find_recipe
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.whole import alone, whole

    read = Recipe.read(find_recipe(recipe), settings or [])
    place = out.expanduser().resolve()
    with session(quiet=as_json) as (main, console):
        if not main:
            return
        generators_of(read, per_class)
        work = place.with_name(f".{place.name}.work")
        with alone(place):
            check_out(place, overwrite)
            made = synthesise(read, per_class, work, seed)
            with whole(place) as partial:
                write_set(made, partial)
            shutil.rmtree(work)
        if as_json:
            print(json.dumps({"out": str(out), **made.quality, "kept": made.facts}, ensure_ascii=False))
            return
        console.print(_table(made.quality))
        for sentence in sentences(made.facts, str(out)):
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def sentences(facts: Mapping[str, Any], out: str) -> Iterator[str]:
    """What each generator made, and where it lies."""
    for name, found in facts.items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in found["dropped"].items() if count)
        by_class = ", ".join(f"{label} {count}" for label, count in found["kept_by_class"].items())
        yield f"{name}: kept {found['kept']} of {found['made']} ({by_class}); dropped: {dropped or 'none'}"
    yield f"written: {out} (rows, provenance.jsonl, quality.json)"


def _table(quality: Mapping[str, Any]) -> Any:
    """Measures of made rows beside those of the real ones."""
    from rich.table import Table

    table = Table(title=f"features of {quality['features']}; {quality['test_rows']} test rows", title_justify="left")
    for column in ("measure", "made rows", "real training rows"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, value in quality["made"].items():
        real = quality["real"].get(name)
        table.add_row(name, f"{value:.3f}", "" if real is None else f"{real:.3f}")
    return table
