"""The front matter of a card: what the Hub filters by, and the results as its model-index has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_smalldata.data.bundled import BUNDLED_MODELS
from hf_smalldata.destination import PublishSpec, public_name
from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.evaluation.summary import MODEL
from hf_smalldata.publish.licence import language_of, licence_of
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task

# Our metric -> the Hub's name of it, and the arguments that make it ours.
HUB_METRICS: dict[str, tuple[str, dict[str, str]]] = {
    "accuracy": ("accuracy", {}), "macro_f1": ("f1", {"average": "macro"}), "micro_f1": ("f1", {"average": "micro"}),
    "mcc": ("matthews_correlation", {}), "log_loss": ("log_loss", {}), "ece": ("ece", {}), "rmse": ("rmse", {}),
    "spearman": ("spearmanr", {}), "entity_f1": ("f1", {"of": "entities"}),
    "entity_precision": ("precision", {"of": "entities"}), "entity_recall": ("recall", {"of": "entities"}),
    "token_accuracy": ("accuracy", {"of": "words"}),
}  # fmt: skip


def metadata(
    metrics: Mapping[str, Any],
    recipe: Recipe,
    hub: Collection[str],
    base: ModelCardData | None,
    spec: PublishSpec | None,
    title: str,
) -> ModelCardData:
    """Front matter of a Run's card; local paths are not told.

    Args:
        metrics: metrics.json.
        recipe: what was trained.
        hub: its model and data that are on the Hub.
        base: front matter of the base model's card, where there is one.
        spec: where it goes; None for the card that lies in the Run.
        title: of the model, in the model-index.
    """
    adapter, model = spec is not None and spec.adapter_only, recipe.model.name
    found = [name for name in TITLES if name in metrics["results"][MODEL]]
    more: dict[str, Any] = licence_of(spec.license if spec else None, base, public_name(model))
    known = model if model in hub else BUNDLED_MODELS[model].hub_id if model in BUNDLED_MODELS else None
    if known is not None:
        more |= {"base_model": known, "base_model_relation": "adapter" if adapter else "finetune"}
    return ModelCardData(
        **more,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=get_task(recipe.task).pipeline_tag,
        language=language_of(spec.language if spec else None, base),
        datasets=sorted({name for name in (recipe.data.name, recipe.data.train) if name and name in hub}) or None,
        metrics=list(dict.fromkeys(HUB_METRICS[name][0] for name in found)),
        tags=["hf_smalldata", "few-shot", *(each.name for each in recipe.techniques)],
        model_name=title,
        eval_results=[_result(name, metrics, recipe, hub) for name in found],
    )


def _result(name: str, metrics: Mapping[str, Any], recipe: Recipe, hub: Collection[str]) -> EvalResult:
    """One metric with its interval, on the test rows."""
    value, data = metrics["results"][MODEL][name], recipe.data
    kind, arguments = HUB_METRICS[name]
    bounds = {key: value[key] for key in ("low", "high") if value[key] is not None}
    source = data.name or data.train or ""
    return EvalResult(
        task_type=get_task(recipe.task).pipeline_tag,
        dataset_type=source if source in hub else "custom",
        dataset_name=public_name(source),
        dataset_config=data.config,
        dataset_revision=data.revision,
        dataset_split=metrics.get("judged_by", "test"),
        metric_type=kind,
        metric_name=TITLES[name],
        metric_value=value["value"],
        metric_args={**arguments, **bounds, "interval": metrics["interval"]},
    )
