"""`hf-smalldata episodes`: a model judged on new classes. Heavy libraries are imported once the command runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_smalldata.console import session
from hf_smalldata.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from hf_smalldata.recipe import Recipe

METRICS = ("cosine", "euclidean")
POOLED = ("text-classification", "sequence-classification")  # first tokens are poor embeddings without training
LEARN = "prototypical"


def episodes(
    words: Annotated[list[str] | None, typer.Argument(metavar="[DATA] [KEY=VALUE]...",
                     help="Labelled rows of classes that the model was not trained on, and settings such as "
                     "model.image_size=64, data.label_column=intent or techniques.prototypical.episodes=300.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|RUN", help="A Hub id, a folder, a bundled name, or a "
                     "Run.")] = None,
    background: Annotated[str | None, typer.Option(metavar="DATA", help="Labelled rows of other classes: train on "
                          "episodes of them first.")] = None,
    runs: Annotated[Path | None, typer.Option(metavar="DIR", help="Fixed one-shot runs, each with a "
                    "class_labels.txt.")] = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes of an episode.")] = 5,
    shots: Annotated[str, typer.Option(metavar="LIST", help="Rows of each to learn from, e.g. 1,5.")] = "1,5",
    queries: Annotated[int, typer.Option(min=1, help="Other rows of each to ask.")] = 15,
    number: Annotated[int, typer.Option("--episodes", min=2, help="Episodes to draw.")] = 600,
    metric: Annotated[str, typer.Option(metavar="cosine|euclidean", help="By which the nearest prototype is "
                      "found.")] = "cosine",
    seed: Annotated[int, typer.Option(min=0, help="Of draws and training.")] = 0,
    task: Annotated[str | None, typer.Option(help="A task's name. [default: the Run's, else guessed]")] = None,
    output: Annotated[Path | None, typer.Option(help="A new folder for results.json and the episodes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """How well does a model tell NEW classes apart, from 1 or 5 rows of each? Mean over many episodes."""
    given = list(words or [])
    data = given.pop(0) if given and "=" not in given[0] else None
    if data is None and runs is None:
        raise UserError("give DATA, labelled rows of classes that the model was not trained on, or --runs")
    if model is None:
        raise UserError("give --model: a Hub id, a folder, a bundled name or a Run")
    if metric not in METRICS:
        raise UserError(f"--metric: unknown metric '{metric}'{did_you_mean(metric, METRICS)}")
    counts = _counts(shots)
    with session() as (main, console):
        from hf_smalldata import episodes as trunk
        from hf_smalldata.whole import alone

        recipe = _recipe(given, data or str(runs), model, task, background is not None)
        protocol = trunk.Protocol(ways, counts, queries, number) if data is not None else None
        with alone(output, main):
            found = trunk.evaluate(
                recipe, protocol, background=background, runs=runs, seed=seed, output=output,
                metric="cosine" if metric == "cosine" else "euclidean",
            )  # fmt: skip
        if not main:
            return
        if as_json:
            print(json.dumps(found, ensure_ascii=False))
            return
        console.print(table(found))
        for sentence in sentences(found):
            console.print(sentence, markup=False, highlight=False)
        if output is not None:
            console.print(f"results and episodes: {output}", markup=False, highlight=False, soft_wrap=True)


def table(found: Mapping[str, Any]) -> Table:
    """A line for whoever answered, a column for each number of shots; of fixed runs the error, as it is published."""
    from rich.markup import escape
    from rich.table import Table

    from hf_smalldata.evaluation.report import show

    protocol = found["protocol"]
    fixed: Mapping[str, float] = next(iter(found["errors_by_run"].values()), {})
    parts = [f"accuracy: mean of {protocol['episodes']} episodes of {found['classes']} classes"] if protocol else []
    parts += [f"error: mean of {len(fixed)} fixed runs"] if fixed else []
    caption = f"{', '.join(parts)}, 95 % intervals, which say nothing of other classes; nearest prototype by "
    shown = Table(caption=caption + found["metric"], caption_justify="left")
    results = found["results"]
    titles = list(next(iter(results.values())))
    shown.add_column(escape(Path(found["model"]).name))
    for title in titles:
        shown.add_column(f"{title}, error" if title == "fixed runs" else title, justify="right")
    for name, values in results.items():
        shown.add_row(escape(name), *(show(_error(values[title]) if title == "fixed runs" else values[title])
                                      for title in titles))  # fmt: skip
    return shown


def sentences(found: Mapping[str, Any]) -> list[str]:
    """One a comparison: how much better the network is, and whether that is more than chance."""
    from hf_smalldata.evaluation.report import show, verdict

    return [
        f"{each['title']}: accuracy of {each['a']} against {each['b']}: {show(each['difference'], sign=True)} - "
        f"{verdict(each['difference'])}"
        for each in found["versus"]
    ]


def _error(interval: Mapping[str, float | None]) -> dict[str, float | None]:
    turned = {"value": interval["value"], "low": interval["high"], "high": interval["low"]}
    return {name: None if value is None else 1 - value for name, value in turned.items()}


def _recipe(settings: list[str], data: str, model: str, task: str | None, learns: bool) -> Recipe:
    """The options as a recipe: the new classes' rows, the network, and what makes its embedding."""
    from hf_smalldata.recipe import Recipe, override

    name = task or _task(model, data)
    techniques = [*(["pooling"] if name in POOLED else []), *([LEARN] if learns else [])]
    content = {"task": name, "data": {"name": data}, "model": {"name": model}, "techniques": techniques}
    stray = [word for word in settings if "=" not in word]
    if stray:
        raise UserError(f"expected KEY=VALUE after the data, got {' '.join(stray)}")
    return Recipe.parse(override(content, settings), "the command line")


def _task(model: str, data: str) -> str:
    """A Run's own task; else by the content of the rows."""
    from hf_smalldata.data.spec import DataSpec
    from hf_smalldata.doctor.command import NAMES
    from hf_smalldata.doctor.guess import read_and_guess
    from hf_smalldata.run import OURS, read_json

    metrics = Path(model) / OURS / "metrics.json"
    if metrics.is_file():
        return str(read_json(metrics)["task"])
    kind, _ = read_and_guess(DataSpec(name=data))
    return NAMES[kind]


def _counts(text: str) -> tuple[int, ...]:
    """`1,5` -> (1, 5)."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"--shots: expected a list such as 1,5, got {text!r}")
    return tuple(sorted({int(part) for part in parts}))
