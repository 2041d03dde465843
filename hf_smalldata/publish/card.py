"""README.md of a Run: a model card whose every figure is read from the Run, or from the study that favoured it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, constants
from jinja2 import Environment, StrictUndefined, Template

from hf_smalldata.data.domains import TRANSDUCTIVE
from hf_smalldata.destination import PublishSpec, public_name
from hf_smalldata.evaluation.report import disclosed, made_rows, markdown, show
from hf_smalldata.public import public_recipe
from hf_smalldata.publish.licence import base_card
from hf_smalldata.publish.metadata import metadata
from hf_smalldata.recipe import Recipe
from hf_smalldata.report import markdown as study_markdown
from hf_smalldata.report.card import escape
from hf_smalldata.report.formats import duration, plural, size
from hf_smalldata.run import Run, read_json
from hf_smalldata.tasks import get_task

WEAKEST = 3  # classes named among the limits

PROCESSORS = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
}


def model_card(
    run: Run,
    spec: PublishSpec | None = None,
    study: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
) -> ModelCard:
    """The card of a Run; local paths and rows are not told.

    Args:
        run: finished, but for its card.
        spec: where it goes; None for the card that lies in the Run.
        study: results.json of the study whose refit this is.
        recipe: what was trained, with techniques that are in no registry; default: as it is written in the Run.
    """
    metrics, environment, recipe = run.metrics, read_json(run.part("environment.json")), recipe or recipe_of(run)
    base = inherited(run, recipe)
    title = spec.repo.rpartition("/")[2] if spec else f"{recipe.task} from {plural(metrics['rows']['train'], 'row')}"
    data = metadata(metrics, recipe, environment.get("on_hub", ()), base, spec, title)
    task, model = get_task(recipe.task), public_name(recipe.model.name)
    body = _template().render(
        title=title,
        place=spec.repo if spec else "THIS_FOLDER_OR_REPOSITORY",
        adapter=spec is not None and spec.adapter_only,
        task=task,
        auto_processor=PROCESSORS[task.processor_argument],
        model=model,
        techniques=" + ".join(each.name for each in recipe.techniques if each.trains) or "full fine-tuning",
        metrics=metrics,
        classes=_table(["label", "rows learnt from", "test rows"],
                       [[name, each["train"], each["test"]] for name, each in metrics["classes"].items()]),
        results=markdown({**metrics, "model": model}),
        calibration=_calibration(metrics.get("calibration")),
        made=made_rows(metrics),
        disclosed=disclosed(metrics),
        transductive=[note for note in metrics.get("notes", ()) if note.endswith(TRANSDUCTIVE)],
        own_test=recipe.data.test is not None and "judged_by" not in metrics,
        beside={name: metrics["rows"][name] for name in ("unlabelled", "source") if name in metrics["rows"]},
        unproven=any((found["over_rows_and_seeds"]["low"] or 0) <= 0 for found in metrics["versus"].values()),
        weakest=_weakest(metrics.get("per_class") or {}),
        epoch=f", of {epoch}" if (epoch := metrics["runs"][0].get("weights_of")) else "",
        difference=f"{max(metrics['runs'][0]['reload'].values()):.1e}",
        study=_below(study_markdown({**study, "notes": []})) if study else "",
        digest=run.rows["digest"],
        cost=_cost(metrics, environment),
        versions=environment["versions"],
        environment=environment,
        recipe=public_recipe(recipe).to_yaml(),
    )  # fmt: skip
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def recipe_of(run: Run) -> Recipe:
    """What was trained."""
    return Recipe.parse(yaml.safe_load(run.part("recipe.yaml").read_text(encoding="utf-8")))


@cache
def _template() -> Template:
    text = files("hf_smalldata.publish").joinpath("card.md").read_text(encoding="utf-8")
    signs = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    signs.filters["safe_line"] = escape
    return signs.from_string(text)


def inherited(run: Run, recipe: Recipe) -> ModelCardData | None:
    """Front matter of the base model's card; where it is gone by now, what training wrote when it was at hand."""
    if found := base_card(recipe.model.name):
        return found
    file = run.folder / constants.REPOCARD_NAME
    return ModelCard.load(file, ignore_metadata_errors=True).data if file.is_file() else None


def _below(text: str) -> str:
    """Markdown with its headings of the second level on the third."""
    return re.sub("^## ", "### ", text, flags=re.MULTILINE)


def _table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    cells = [header, ["---"] * len(header), *([escape(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _weakest(per_class: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes that are most often wrong, by their F1."""
    order = sorted(per_class, key=lambda label: per_class[label]["f1"]["value"])[:WEAKEST]
    return [{"label": label, "support": per_class[label]["support"],
             **{name: show(per_class[label][name]) for name in ("precision", "recall", "f1")}}
            for label in order]  # fmt: skip


def _cost(metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Time and memory of the trainings, and where that was."""
    runs = metrics["runs"]
    parts = [f"{plural(len(runs), 'training')}, {duration(max(each['train_seconds'] for each in runs))} at most",
             f"at most {size(metrics['peak_memory_bytes'])} of memory"]  # fmt: skip
    peaks = [each["peak_gpu_bytes"] for each in runs if each.get("peak_gpu_bytes") is not None]
    parts += [f"{size(max(peaks))} of GPU memory"] if peaks else []
    energy = [each["energy_kwh"] for each in runs if "energy_kwh" in each]
    parts += [f"{sum(energy):.2g} kWh in all (codecarbon)"] if energy else []
    where = ", ".join(environment["gpus"]) or plural(environment["cpu_cores"], "CPU core")
    return f"{'; '.join(parts)}; on {where}, {environment['date']}"


def _calibration(found: Mapping[str, Any] | None) -> str:
    """What the scores are worth, where cross-validation told."""
    if found is None:
        return ""
    place = "is part of the saved weights" if found["in_weights"] else "has to be applied to the logits"
    return (
        f"Scores are calibrated on {found['rows']} out-of-fold rows: a temperature of {found['temperature']:.2f}, "
        f"which {place}, takes the expected calibration error from {found['ece_before']:.3f} to "
        f"{found['ece_after']:.3f}."
    )
