"""What may be told of a recipe to others: of local paths only the last part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_smalldata.destination import public_name
from hf_smalldata.recipe import Recipe
from hf_smalldata.technique import Technique


def public_recipe(recipe: Recipe) -> Recipe:
    """The recipe with only the last part of local paths."""
    paths = ("name", "train", "validation", "test", "rows")
    given = {key: getattr(recipe.data, key) for key in paths}
    update: dict[str, Any] = {key: public_name(path) for key, path in given.items() if path is not None}
    for key in ("unlabelled", "source"):
        path = getattr(recipe.data, key)
        update[key] = tuple(map(public_name, path)) if isinstance(path, tuple) else path and public_name(path)
    data = recipe.data.model_copy(update=update)
    model = recipe.model.model_copy(update={"name": public_name(recipe.model.name)})
    techniques = tuple(_public_technique(each) for each in recipe.techniques)
    return recipe.model_copy(update={"data": data, "model": model, "techniques": techniques, "publish": None})


def hub_names(recipe: Recipe) -> list[str]:
    """Which of a recipe's model and data are on the Hub: what is no path here and does not come with a package.

    To be asked while it trains, for a path may be gone later.
    """
    given = [recipe.model.name, recipe.data.name, recipe.data.train]
    names = dict.fromkeys(name for name in given if name and not name.startswith("bundled/"))
    return [name for name in names if public_name(name) == name and not Path(name).expanduser().exists()]


def _public_technique(technique: Technique) -> Technique:
    given = {key: getattr(technique, key) for key in technique.paths}
    return technique.model_copy(update={key: public_name(path) for key, path in given.items() if path is not None})
