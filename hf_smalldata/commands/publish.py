"""`hf-smalldata publish`: a Run or a study's model onto the Hub. Heavy libraries are imported once it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_smalldata.console import session
from hf_smalldata.errors import Problems, UserError

if TYPE_CHECKING:
    from hf_smalldata.destination import PublishSpec
    from hf_smalldata.publish.shipment import Shipment


def publish(
    folder: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDY", help="A Run, or a study with a refit.")],
    repo: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="[default: the recipe's]")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    adapter_only: Annotated[bool, typer.Option("--adapter-only", help="The adapter, no merged weights.")] = False,
    row_ids: Annotated[bool, typer.Option("--row-ids", help="Also ids, labels and predictions of rows.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Also the report, with rows labelled wrong.")] = False,
    license: Annotated[str | None, typer.Option(help="e.g. mit. [default: the base model's]")] = None,
    language: Annotated[str | None, typer.Option(help="e.g. da. [default: the base model's, if it has one]")] = None,
    card: Annotated[Path | None, typer.Option(help="A README.md of your own. [default: made from the Run]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go up; touch no network.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:  # fmt: skip
    """Show what goes up to the Hub, ask, and upload it as one commit. Rows never go up."""
    given = {"repo": repo, "private": private, "adapter_only": adapter_only, "row_ids": row_ids, "errors": errors,
             "license": license, "language": language}  # fmt: skip
    with session() as (main, console):
        from hf_smalldata.publish.hub import fetch_card, ready
        from hf_smalldata.publish.shipment import opened, pack

        if not main:
            return
        run, _ = opened(folder)
        spec = _spec(run, given)
        if not dry_run:
            ready(spec)
            fetch_card(run)
        shipment = pack(folder, spec, card)
        show(shipment, console)
        if dry_run:
            console.print(str(shipment.card), markup=False, highlight=False, soft_wrap=True)
            return
        upload(shipment, console, ask=not yes)


def publish_unasked(folder: Path, spec: PublishSpec, console: Any) -> None:
    """What a recipe's `publish:` asks for: shown and uploaded."""
    from hf_smalldata.publish.hub import fetch_card
    from hf_smalldata.publish.shipment import opened, pack

    fetch_card(opened(folder)[0])
    shipment = pack(folder, spec)
    show(shipment, console)
    upload(shipment, console, ask=False)


def upload(shipment: Shipment, console: Any, ask: bool) -> None:
    """Upload what was shown, after a yes."""
    from hf_smalldata.publish.hub import send, stale, standing

    repo = shipment.spec.repo
    files = standing(repo)
    if files:
        gone = stale(files, shipment)
        also = f", and these are taken away: {', '.join(gone)}" if gone else ""
        line = f"{repo} is there already; its files of these names are replaced{also}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if ask:
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked; pass --yes to upload")
        if not typer.confirm(f"Upload to {repo}?"):
            console.print("nothing was uploaded")
            return
    console.print(f"published: {send(shipment, files)}", markup=False, highlight=False, soft_wrap=True)


def show(shipment: Shipment, console: Any) -> None:
    """Files, sizes and licence."""
    from rich.table import Table

    from hf_smalldata.report.formats import kilobytes

    spec, total = shipment.spec, sum(item.size for item in shipment.items)
    table = Table(title=f"goes up to {spec.repo}" + (" (private)" if spec.private else ""), title_justify="left")
    table.add_column("file")
    table.add_column("size", justify="right")
    for item in shipment.items:
        table.add_row(item.path, kilobytes(item.size))
    table.add_row("all", kilobytes(total))
    console.print(table)
    for line in (f"licence: {shipment.licence}", *shipment.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _spec(run: Any, given: dict[str, Any]) -> PublishSpec:
    """The recipe's section with what the command line adds to it."""
    from pydantic import ValidationError

    from hf_smalldata.destination import PublishSpec
    from hf_smalldata.publish.card import recipe_of

    planned = recipe_of(run).publish
    told = {key: value for key, value in given.items() if value not in (None, False)}
    settings = {**(planned.model_dump() if planned else {}), **told}
    if "repo" not in settings:
        raise UserError("give --repo owner/name, or publish: {repo: owner/name} in the recipe")
    try:
        return PublishSpec(**settings)
    except ValidationError as error:
        raise Problems("the command line", [f"--{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}"
                                            for each in error.errors()]) from None  # fmt: skip
