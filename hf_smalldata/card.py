"""README.md of a Run: a model card whose every figure is read from the Run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from hf_smalldata.evaluation.report import made_rows, markdown
from hf_smalldata.public import public_name, public_recipe
from hf_smalldata.recipe import Recipe

BODY = """# {task} from {train} labelled rows

{model} adapted with hf_smalldata: {techniques}.

```python
from transformers import pipeline

classify = pipeline("{task}", model="THIS_FOLDER_OR_REPOSITORY")
```

## Results

{results}

{made}{calibration}Labels: {labels}. The saved weights are those of seed {seed}. Reloaded by `transformers.pipeline`
in a fresh process, its scores on test rows differed from those after training by at most {difference:.1e}.

## Recipe

```yaml
{recipe}```
"""


def model_card(metrics: Mapping[str, Any], recipe: Recipe) -> ModelCard:
    """The card of a Run; local paths are not told.

    Args:
        metrics: metrics.json.
        recipe: what was trained.
    """
    name = public_name(recipe.model.name)
    base = name if "/" in name and not name.startswith("bundled/") else None
    data = ModelCardData(
        library_name="transformers", pipeline_tag=recipe.task, base_model=base, tags=["hf_smalldata", "few-shot"]
    )
    body = BODY.format(
        task=recipe.task,
        train=metrics["rows"]["train"],
        model=name,
        techniques=" + ".join(each.name for each in recipe.techniques if each.trains) or "full fine-tuning",
        results=markdown({**metrics, "model": name}),
        made="".join(f"Made rows: {sentence}.\n\n" for sentence in made_rows(metrics)),
        calibration=_calibration(metrics.get("calibration")),
        labels=", ".join(metrics["labels"]) or "one value",
        seed=metrics["seeds"][0],
        difference=max(metrics["runs"][0]["reload"].values()),
        recipe=public_recipe(recipe).to_yaml(),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def _calibration(found: Mapping[str, Any] | None) -> str:
    """What the scores are worth, where cross-validation told."""
    if found is None:
        return ""
    place = "is part of the saved weights" if found["in_weights"] else "has to be applied to the logits"
    return (
        f"Scores are calibrated on {found['rows']} out-of-fold rows: a temperature of {found['temperature']:.2f}, "
        f"which {place}, takes the expected calibration error from {found['ece_before']:.3f} to "
        f"{found['ece_after']:.3f}.\n\n"
    )
