"""`hf-smalldata augment`: originals beside their variants. Heavy libraries are imported once the command runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_smalldata.console import session
from hf_smalldata.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text

    from hf_smalldata.augmentation import Family, Variants
    from hf_smalldata.recipe import Recipe

SHOW = 5  # rows, where nothing is written


def augment(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `list recipes`.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. "
                        "techniques.random_crop.seconds=0.5")] = None,
    show: Annotated[int | None, typer.Option(min=0, max=50, help="Training rows to show, of every class in turn. "
                    "[default: 5, or none with --out]")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Draws of each row, for techniques that draw anew each "
                      "epoch.")] = 3,
    seed: Annotated[int | None, typer.Option(min=0, help="Of rows and draws. [default: the recipe's first]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all training rows and their variants: a .csv or .jsonl; a "
                   "folder for images and sounds.")] = None,
    output: Annotated[Path, typer.Option(help="The folder of pictures: <recipe>-variants.png, or for sounds a folder "
                      "<recipe>-variants.")] = Path("runs"),
    audit: Annotated[bool, typer.Option("--audit", help="Say how many variants the pretrained model, which has not "
                     "seen them, would label otherwise.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """Look at what augmentation makes of the training rows, before training on it; or keep it as a data set."""
    from hf_smalldata.catalogue import find_recipe
    from hf_smalldata.recipe import Recipe

    file = find_recipe(recipe)
    read = Recipe.read(file, settings or [])
    count = show if show is not None else SHOW if out is None else 0
    if count == 0 and out is None:
        raise UserError("--show 0: nothing to do without --out; name a file or a folder to write")
    with session(quiet=as_json) as (main, console):
        if not main:
            return
        told, families, found = _made(read, file.stem, count, (seed, epochs, audit), (out, output), overwrite)
        if as_json:
            print(json.dumps(told, ensure_ascii=False))
            return
        for family in families if told["picture"] is None else []:
            for line in shown(family, found, colours=console.is_terminal and not console.no_color):
                console.print(line, highlight=False, soft_wrap=True)
        for sentence in sentences(told):
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _made(
    recipe: Recipe,
    name: str,
    count: int,
    drawn: tuple[int | None, int, bool],
    places: tuple[Path | None, Path],
    again: bool,
) -> tuple[dict[str, Any], list[Family], Variants]:
    """What was asked, written -> what there is to tell, and the families to show."""
    from hf_smalldata.augmentation import Tally, variants
    from hf_smalldata.augmentation.files import check_target, write
    from hf_smalldata.augmentation.rows import check_augments, on_batches
    from hf_smalldata.tasks import get_task
    from hf_smalldata.whole import alone

    check_augments(recipe)
    (seed, epochs, audit), (out, output), kind = drawn, places, get_task(recipe.task).kind
    picture = _picture(output, name, kind) if count else None
    with alone(out), alone(picture):
        if picture is not None:
            _check_picture(picture, kind, again)
        if out is not None:
            check_target(out, kind, again)
        found = variants(recipe, seed=seed, epochs=epochs, audit=audit)
        families = list(found.some(count)) if count else []
        tally = write(found, out) if out is not None else Tally.of(families)
        heard = _draw(families, found, picture) if picture is not None else {}
    told = {"task": recipe.task, "seed": found.seed, "epochs": epochs, "rows": len(found) if out else len(families),
            "counts": tally.counts, "lost": dict(found.lost), "sifted": dict(found.sifted),
            "label_audit": found.audit, "batches": on_batches(recipe),
            "picture": str(picture) if picture else None, "out": str(out) if out else None,
            "shown": [_as_dict(each, found, heard) for each in families]}  # fmt: skip
    return told, families, found


def shown(family: Family, found: Variants, colours: bool) -> Iterator[Text]:
    """Lines of a row and its variants, of which only the neighbourhood of what changed."""
    from rich.text import Text

    from hf_smalldata.augmentation.difference import AROUND, Piece, brief, difference, parts_of, written

    kind, names = found.task.kind, found.labels
    if family.original is not None:
        yield Text.assemble((str(family.original["id"]), "bold"), ("" if kind == "tokens" else
                            f"  {_named(family.original, found)}", "cyan"))  # fmt: skip
        yield written([Piece("same", parts_of(family.original, kind, names))], kind, colours)
    for variant in family.variants:
        title = Text.assemble("  ", (" ".join(variant.caption), "dim"), "  ")
        if family.original is None:
            yield title + written([Piece("new", parts_of(variant.row, kind, names))], kind, colours)
        elif variant.left_out != "unchanged":
            pieces = brief(difference(family.original, variant.row, kind, names), AROUND[kind])
            yield title + written(pieces, kind, colours)
        else:
            yield title
    yield Text()


def sentences(told: Mapping[str, Any]) -> Iterator[str]:
    """Where things lie, and last how many variants each technique made."""
    if told["picture"]:
        yield f"pictures: {told['picture']}"
    if told["out"]:
        yield f"rows and variants: {told['out']} (data.group=group keeps them in one split)"
    for name, count in told["lost"].items():
        if count:
            yield f"{name}: left out {count} training rows"
    for name, reasons in told["sifted"].items():
        parts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        yield f"{name}: variants of all training rows that were left out: {parts}"
    counts = [f"{name} {each['made']} made, {each['unchanged']} unchanged, {each['dropped']} dropped"
              for name, each in told["counts"].items()]  # fmt: skip
    batches = f"; {told['batches']}" if told["batches"] else ""
    yield f"{told['rows']} training rows: {'; '.join(counts) or 'no variants'}{batches}"


def _picture(output: Path, name: str, kind: str) -> Path | None:
    """Where a picture of the variants goes, if their kind has one."""
    return output / f"{name}-variants{'.png' if kind == 'image' else ''}" if kind in ("image", "audio") else None


def _check_picture(place: Path, kind: str, overwrite: bool) -> None:
    """What lies there must be a picture of variants already."""
    from hf_smalldata.whole import check_makeable

    check_makeable(place)
    if not place.exists():
        return
    if not overwrite:
        raise UserError(f"--output: {place} exists; choose another folder or pass --overwrite")
    if place.is_dir() != (kind == "audio") or (place.is_dir() and not (place / "spectrograms.png").is_file()):
        raise UserError(f"--overwrite: {place} holds no variants, so it is left alone; choose another folder")


def _draw(families: Sequence[Family], found: Variants, place: Path) -> dict[str, str]:
    """Write the picture -> files to listen to by the ids of their rows."""
    from hf_smalldata.augmentation.pictures import contact_sheet, listening_folder
    from hf_smalldata.whole import whole

    with whole(place) as partial:
        if found.task.kind == "image":
            contact_sheet(families, lambda row: _named(row, found), partial)
            return {}
        files = listening_folder(families, lambda row: _named(row, found), partial)
    return {row["id"]: str(place / file.name) for family, own in zip(families, files, strict=True)
            for row, file in zip(family.rows, own, strict=True)}  # fmt: skip


def _named(row: Mapping[str, Any], found: Variants) -> str:
    """The label as a reader has it."""
    from hf_smalldata.data.strata import named

    label = named(row["label"], found.labels, found.problem_type)
    return ", ".join(label) or "no label" if isinstance(label, list) else str(label)


def _as_dict(family: Family, found: Variants, files: Mapping[str, str]) -> dict[str, Any]:
    """A row and its variants for programs."""
    from hf_smalldata.augmentation.files import lines

    told = [{**line, **({"file": files[line["id"]]} if files else {})} for line in lines(family, found)]
    count = len(told) - len(family.variants)
    after = [{**line, "left_out": each.left_out} for line, each in zip(told[count:], family.variants, strict=True)]
    return {**(told[0] if count else {}), "variants": after}
