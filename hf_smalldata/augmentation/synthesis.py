"""The rows that a recipe's generators make, as a set of its own, with where each comes from and how good they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import set_seed

from hf_smalldata.augmentation.family import Family, Row
from hf_smalldata.augmentation.files import write
from hf_smalldata.augmentation.pictures import contact_sheet, listening_folder
from hf_smalldata.augmentation.rows import FILES, Variants
from hf_smalldata.data.sample import draw_for
from hf_smalldata.data.strata import named
from hf_smalldata.destination import public_name
from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation import synthetic
from hf_smalldata.fitting import Fitting
from hf_smalldata.outcome import test_rows
from hf_smalldata.pipeline import read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import write_json
from hf_smalldata.tasks import get_task
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.techniques.fewshot.rows import pretrained_features
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.whole import check_makeable

Array = np.ndarray[Any, Any]

PROVENANCE = "provenance.jsonl"  # of every set that was written here, which alone may be overwritten
SHOWN = 10  # made rows of a class in a picture
MOST_TEST_ROWS = 1000  # that quality is measured by


@dataclass(frozen=True)
class MadeSet:
    """Kept rows of generators.

    Attributes:
        found: the made rows.
        train: the real ones that they were made from.
        facts: what the keeper counted, by technique.
        provenance: a line for each made row, kept or not.
        quality: of made rows, and of as many measures of the real ones, against the same test rows.
    """

    found: Variants
    train: Dataset
    facts: Mapping[str, Any]
    provenance: list[dict[str, Any]]
    quality: dict[str, Any]


def synthesise(
    recipe: Recipe, per_class: int, work: Path, seed: int | None = None, objects: Mapping[str, Any] | None = None
) -> MadeSet:
    """What the generators of a recipe make of its training rows, and what the keeper leaves of that.

    Args:
        recipe: with techniques that have a keeper; its other `rows` hooks are left out.
        per_class: made rows of each class to keep.
        work: a folder; what an interrupted call left there is not made again.
        seed: draws the rows and what is made. Default: the first of the recipe.
        objects: rows from Python, as `train` takes them.

    Raises:
        UserError: no generator, nothing kept, or something in the recipe or the rows has to be mended.
    """
    seed = recipe.seeds[0] if seed is None else seed
    generators = generators_of(recipe, per_class)
    data = read_rows(recipe, get_task(recipe.task), objects)
    drawn = draw_for(data, recipe.data, seed)
    work.mkdir(parents=True, exist_ok=True)
    fitting = Fitting.of(recipe, data, work)
    set_seed(seed)
    ctx, rows = fitting.context(drawn, seed, work), drawn
    try:
        for technique in generators:
            rows = technique.rows(rows, ctx)
    finally:
        if not any(work.iterdir()):  # refused before there was anything to go on from
            work.rmdir()
    made = rows.select(range(len(drawn), len(rows)))
    found = Variants(
        fitting.task, fitting.processor, data.labels, data.problem_type, rows, [],
        {"": range(len(drawn), len(rows))}, (), seed, 0, {}, frozenset(),
    )  # fmt: skip
    lines = [json.loads(line) for each in generators
             for line in (work / f"{each.name}.jsonl").read_text(encoding="utf-8").splitlines()]  # fmt: skip
    return MadeSet(found, drawn, dict(ctx.facts), lines, measured(ctx, drawn, made, test_rows(data), lines))


def generators_of(recipe: Recipe, per_class: int) -> list[Technique]:
    """The recipe's techniques that make new rows, set to so many of each class.

    Raises:
        UserError: there are none; those for its task are named.
    """
    found = [
        each.model_copy(update={"keep": keep.model_copy(update={"per_class": per_class, "ratio": None})})
        for each in recipe.techniques
        if isinstance(keep := getattr(each, "keep", None), Keep)
    ]
    if found:
        return found
    fitting = [
        name for name in REGISTRY if recipe.task in get_technique(name).tasks and _has_keeper(get_technique(name))
    ]
    given = listed([each.name for each in recipe.techniques]) or "none"
    raise UserError(
        f"techniques: expected one that makes new rows, found {given}; those for {recipe.task}: "
        f"{', '.join(fitting) or 'there is none'}"
    )


def measured(
    ctx: Context, train: Dataset, made: Dataset, test: Dataset, provenance: list[dict[str, Any]]
) -> dict[str, Any]:
    """Quality of made rows, and of the real training rows beside them, measured by test rows.

    Returns:
        features: which network's. test_rows: how many. made, real: {measure: value}. Copies and agreement are shares of
        all that was made, before the keeper; the other measures are of what it kept.
    """
    some = test.select(np.unique(np.linspace(0, len(test) - 1, min(len(test), MOST_TEST_ROWS)).astype(int)))
    judges = pretrained_features(ctx, some)
    single = ctx.problem_type == "single_label_classification"
    values = {}
    for name, rows in (("made", made), ("real", train)):
        z = pretrained_features(ctx, rows)
        precision, recall = synthetic.precision_and_recall(judges, z)
        values[name] = {
            "fréchet distance": synthetic.frechet_distance(judges, z),
            **({"kernel distance": synthetic.kernel_distance(judges, z)} if len(rows) > 1 else {}),
            "precision": precision,
            "recall": recall,
            **({"accuracy on test rows of a model of them": synthetic.accuracy_of(
                z, np.array(rows["label"][:]), judges, np.array(some["label"][:])
            )} if single else {}),
            **(_of_texts(rows["text"][:]) if "text" in rows.column_names else {}),
        }  # fmt: skip
    values["made"]["copies of training rows"] = np.mean([line["dropped"] == "copies" for line in provenance])
    agreed = [line["agreement"] for line in provenance if line["agreement"] is not None]
    if agreed:
        values["made"]["agreement of the teacher"] = np.mean(agreed)
    return {
        "features": f"{public_name(ctx.model.name)} as pretrained",
        "test_rows": len(some),
        **{who: {name: round(float(value), 4) for name, value in each.items()} for who, each in values.items()},
    }


def write_set(made: MadeSet, folder: Path) -> None:
    """A new folder: the made rows (rows.jsonl; images or sounds in class folders), provenance.jsonl, quality.json.

    For images a contact sheet too, a line a class: a real one, then made ones; for sounds a folder to listen to.
    """
    kind = made.found.task.kind
    folder.mkdir()
    write(made.found, folder / (f"{kind}s" if kind in FILES else "rows.jsonl"))
    with (folder / PROVENANCE).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in made.provenance)
    write_json(folder / "quality.json", {**made.quality, "kept": made.facts})
    if kind == "image":
        contact_sheet(_by_class(made), lambda row: _label(row, made.found), folder / "contact_sheet.png")
    elif kind == "audio":
        listening_folder(_by_class(made), lambda row: _label(row, made.found), folder / "listen")


def check_out(place: Path, overwrite: bool) -> None:
    """A set may be written there.

    Raises:
        UserError: something is there that was not written here or may not be replaced, or nothing can be made there.
    """
    check_makeable(place, "--out")
    if not place.exists():
        return
    if not overwrite:
        raise UserError(f"--out: {place} exists; choose another name or pass --overwrite")
    if not (place / PROVENANCE).is_file():
        raise UserError(f"--overwrite: {place} is no set that synthesize wrote, so it is left alone; choose another")


def _has_keeper(technique: type[Technique]) -> bool:
    field = technique.model_fields.get("keep")
    return field is not None and field.annotation is Keep


def _of_texts(texts: list[str]) -> dict[str, float]:
    return {"distinct 1": synthetic.distinct(texts, 1), "distinct 2": synthetic.distinct(texts, 2),
            "self-BLEU": synthetic.self_bleu(texts)}  # fmt: skip


def _by_class(made: MadeSet) -> list[Family]:
    """A family a class: a real row, and made ones."""
    (everything,) = made.found
    families = []
    for label in sorted({_label(each.row, made.found) for each in everything.variants}):
        own = [each for each in everything.variants if _label(each.row, made.found) == label][:SHOWN]
        real = next(row for row in made.train if _label(row, made.found) == label)
        decoded = {"source": None, "parent": None, **made.found.task.decode(real, made.found.processor)}
        families.append(Family(decoded, None, own))
    return families


def _label(row: Row, found: Variants) -> str:
    label = named(row["label"], found.labels, found.problem_type)
    return ", ".join(label) or "no label" if isinstance(label, list) else str(label)
