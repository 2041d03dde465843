"""The command line. Heavy libraries are imported by the command that needs them, so `--help` answers at once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hf_smalldata.commands.augment import augment
from hf_smalldata.commands.episodes import episodes
from hf_smalldata.commands.export import export
from hf_smalldata.commands.publish import publish, publish_unasked
from hf_smalldata.commands.study import study
from hf_smalldata.commands.synthesize import synthesize
from hf_smalldata.console import session
from hf_smalldata.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_smalldata.recipe import Recipe

app = typer.Typer(name="hf-smalldata", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `list recipes`.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. train.learning_rate=1e-3")]


# What a disk or its owner refuses: not a defect of ours.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST,
            errno.EISDIR, errno.ENAMETOOLONG, errno.EPERM)  # fmt: skip


# How torch says that another process does not answer: gloo, and NCCL.
LOST = ("gloo", "closed by peer", "caused pair closure", "NCCL")


@app.callback()
def about() -> None:
    """A few labelled rows and a pretrained model in; a model whose quality is honestly known out."""


@app.command()
def train(
    words: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...",
                     help="A recipe and settings that override it; without one, give --task, --model, --data.")] = None,
    task: Annotated[str | None, typer.Option(help="A pipeline tag, e.g. text-classification.")] = None,
    model: Annotated[str | None, typer.Option(help="A Hub id, a folder or a bundled name.")] = None,
    data: Annotated[str | None, typer.Option(help="A Hub id, a file, a folder or a bundled name.")] = None,
    output: Annotated[Path | None, typer.Option(help="The Run's folder. [default: runs/<recipe or data>]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a Run that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training that saved.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Time a few steps, say what all will take, and stop.")] = False,
) -> None:  # fmt: skip
    """Train, score beside baselines, save an ordinary model folder, and publish it if the recipe says where."""
    recipe, name = _recipe(list(words or []), {"task": task, "model.name": model, "data.name": data})
    with session(quiet=plan) as (main, console):
        if main and name is None:
            console.print("[dim]# the recipe that was made; keep it as a file to change it[/dim]")
            console.print(recipe.to_yaml(), markup=False, highlight=False)
        from hf_smalldata import pipeline
        from hf_smalldata.evaluation.report import comparisons, table
        from hf_smalldata.publish.hub import ready

        if plan:
            from hf_smalldata.planning import plan_training, told

            for line in told(plan_training(recipe)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        if main and recipe.publish is not None:
            ready(recipe.publish)
        place = output or (Path("runs") / Path(name).stem if name else pipeline.default_output(recipe))
        run = pipeline.train(recipe, place, overwrite=overwrite, resume=resume)
        if main:
            console.print(table(run.metrics))
            for sentence in comparisons(run.metrics):
                console.print(sentence, markup=False, highlight=False)
            console.print(f"saved and proven to reload: {place}", markup=False, highlight=False)
            console.print(f"  hf-smalldata predict {place} …", markup=False, highlight=False)
            console.print(f'  transformers.pipeline("{recipe.task}", model="{place}")', markup=False, highlight=False)
            if recipe.publish is not None:
                publish_unasked(place, recipe.publish, console)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A Run's folder.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Texts, image or audio files; or one table (csv, fasta, conll, …) or folder.")
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Labels shown for each input.")] = 1,
    coverage: Annotated[float | None, typer.Option(help="Sets of labels that hold the right one in this share of rows, "
                        "e.g. 0.9; for a model of `study --folds --refit`.")] = None,
    adapt: Annotated[Literal["statistics", "tent"] | None, typer.Option(help="To inputs of another camera, scanner or "
                     "room, all given together: statistics of BatchNorm, or tent, which also makes predictions surer."
                     )] = None,
    output: Annotated[Path | None, typer.Option(help="A .csv or .jsonl to write instead of printing.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that is there.")] = False,
) -> None:  # fmt: skip
    """Label new rows with a Run."""
    with session() as (_, console):
        from hf_smalldata.prediction import check_output_file, read_inputs, write_predictions
        from hf_smalldata.prediction import predict as label
        from hf_smalldata.run import Run
        from hf_smalldata.whole import alone

        opened = Run.open(run)
        with alone(output):
            if output is not None:
                check_output_file(output, overwrite)
            names, values = read_inputs(opened, inputs)
            answers = label(opened, values, top_k if coverage is None else None, coverage=coverage, adapt=adapt)
            if output is not None:
                write_predictions(output, names, answers)
        if output is not None:
            console.print(f"{len(answers)} rows written to {output}", markup=False, highlight=False)
            return
        for name, answer in zip(names, answers, strict=True):
            shown = "  ".join(
                f"{each['label']} {each['score']:.3f}" + (f" [{each['word']}]" if "word" in each else "")
                for each in answer
            )
            print(f"{shown}\t{name}")


@app.command("check")
def check_data(
    data: Annotated[str | None, typer.Argument(help="A file, a folder, a Hub id, a bundled name, or a recipe's "
                    ".yaml.")] = None,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. data.test=b.csv")] = None,
    source: Annotated[str | None, typer.Option(help="Labelled rows of one domain, to compare with --target.")] = None,
    target: Annotated[str | None, typer.Option(help="Rows of the domain a model is for, labelled or not.")] = None,
    task: Annotated[str | None, typer.Option(help="A task's name. [default: guessed by content]")] = None,
    model: Annotated[str | None, typer.Option(help="A Hub id or folder, to count its tokens.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with all row ids.")] = False,
    fix: Annotated[Path | None, typer.Option(metavar="OUT", help="A new folder for a cleaned copy.")] = None,
) -> None:  # fmt: skip
    """Examine labelled rows before training: leaks, duplicates, wrong labels, broken files. Exit code 1 on a fail.

    With --source and --target: how far two domains lie apart, in what, and what to try.
    """
    if source is not None or target is not None:
        from hf_smalldata.doctor.domains import compare, show_shift

        said = [word for word in (data, *(settings or [])) if word is not None]
        compared = compare(source, target, said, task)
        print(json.dumps(compared.as_dict(), ensure_ascii=False)) if as_json else show_shift(compared)
        return
    if data is None:
        raise UserError("check: expected a source such as reviews.csv, or --source and --target to compare two domains")
    from hf_smalldata.doctor.command import check, show

    found = check(data, settings or [], task, model, fix)
    print(json.dumps(found.as_dict(), ensure_ascii=False)) if as_json else show(found, fix)
    sys.exit(1 if found.report.level == "fail" else 0)


app.command()(study)
app.command()(episodes)
app.command()(augment)
app.command()(synthesize)
app.command()(publish)
app.command()(export)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDY", help="A folder of either.")],
    without_rows: Annotated[bool, typer.Option("--without-rows", help="Show no text or image, only ids: for a report "
                            "that is handed on.")] = False,
    plots: Annotated[bool, typer.Option("--plots", help="Each plot as a PNG as well, for a README.")] = False,
    output: Annotated[Path | None, typer.Option(help="Another folder to write to. [default: where it was]")] = None,
) -> None:  # fmt: skip
    """Write the report of a Run or a study again: one html file, and markdown."""
    with session() as (_, console):
        from hf_smalldata.reporting import write_report

        for file in write_report(folder, rows=not without_rows, output=output, plots=plots):
            console.print(str(file), markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_names(what: Annotated[str, typer.Argument(metavar="techniques|tasks|recipes")]) -> None:
    """Name the techniques, tasks or recipes that there are."""
    from rich.console import Console

    from hf_smalldata.catalogue import CATALOGUES

    if what not in CATALOGUES:
        raise UserError(f"cannot list '{what}'{did_you_mean(what, CATALOGUES)}")
    for name, text in CATALOGUES[what]():
        Console().print(f"[bold]{name}[/bold]  {text}", highlight=False, soft_wrap=True)


@app.command()
def show(recipe: RecipeName, settings: Settings = None) -> None:
    """Print a recipe with every default spelled out, and the hooks that each technique uses."""
    from hf_smalldata.catalogue import described

    found, _ = _recipe([recipe, *(settings or [])], {})
    print(described(found), end="")


@app.command()
def copy(
    recipe: RecipeName,
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a recipe, comments and all, to a file of your own."""
    from hf_smalldata.catalogue import find_recipe
    from hf_smalldata.whole import check_makeable

    source = find_recipe(recipe)
    place = target / source.name if target.is_dir() else target
    if place.exists() and not overwrite:
        raise UserError(f"{place} exists; choose another name or pass --overwrite")
    check_makeable(place, "TARGET")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    print(place)


def main() -> None:
    """Run the command line: exit code 2 and one message for what the user can mend."""
    try:
        app()
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # every process meets it, one says it
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"error: cannot write {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # torch has no class of its own for what gloo says
        if os.environ.get("WORLD_SIZE", "1") == "1" or not any(sign in str(error) for sign in LOST):
            raise
        print(f"error: another process of this command was lost or hangs ({' '.join(str(error).split())[:200]}); train "
              "with --resume goes on from the last checkpoint", file=sys.stderr)  # fmt: skip
        sys.exit(1)


def _recipe(words: list[str], options: dict[str, str | None]) -> tuple[Recipe, str | None]:
    """Words and options -> a recipe and its file's name, None when it was made from options alone."""
    from hf_smalldata.catalogue import find_recipe
    from hf_smalldata.recipe import Recipe, override

    name = words.pop(0) if words and "=" not in words[0] else None
    stray = [word for word in words if "=" not in word]
    if stray:
        raise UserError(f"expected KEY=VALUE after the recipe, got {' '.join(stray)}")
    # Quoted, so that a folder named 2024 stays a text.
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    if name is not None:
        return Recipe.read(find_recipe(name), given + words), name
    missing = [f"--{key.split('.')[0]}" for key, value in options.items() if value is None]
    stated = {word.partition("=")[0] for word in words}
    wanted = [flag for flag in missing if not any(key.split(".")[0] == flag[2:] for key in stated)]
    if wanted:
        raise UserError(f"give a recipe, or {', '.join(wanted)} as well")
    return Recipe.parse(override({}, given + words), "the command line"), None
