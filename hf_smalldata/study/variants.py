"""Variants of one recipe that a study compares: without each technique, with each alone, with values of a setting."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

import yaml

from hf_smalldata.errors import UserError, listed
from hf_smalldata.recipe import Recipe
from hf_smalldata.training.arguments import DEFAULTS
from hf_smalldata.yaml_text import parse_yaml

logger = logging.getLogger(__name__)

PLAIN = "plain"  # the recipe without any technique


def ablation(name: str, recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, it without each technique, without any, and with each alone; each only once.

    Raises:
        UserError: the recipe has no technique.
    """
    techniques = trained_by(recipe)
    if not techniques:
        raise UserError(f"--ablate: {name} has no techniques to leave out; add some under techniques:")
    found = {name: recipe}
    if len(techniques) > 1:
        for left_out in techniques:
            found[f"without {left_out}"] = keeping(recipe, [each for each in techniques if each != left_out])
    found[PLAIN] = keeping(recipe, ())
    if len(techniques) > 2:  # of two, each alone is the recipe without the other
        found |= {f"only {each}": keeping(recipe, [each]) for each in techniques}
    return told(found, recipe)


def sweep(name: str, read: Callable[[list[str]], Recipe], setting: str) -> dict[str, Recipe]:
    """The recipe with each value of one setting, after what they are compared with.

    That is the recipe without the technique whose setting it is; for other settings the recipe as it stands.

    Args:
        name: of the recipe.
        read: overrides -> the recipe with them.
        setting: `key=value,value`, such as techniques.vae.keep.ratio=0.5,1,2; values are YAML.

    Raises:
        UserError: not so written, or fewer than two values.
    """
    key, separator, text = setting.partition("=")
    try:
        values = parse_yaml(f"[{text}]")
    except yaml.YAMLError:
        values = []
    if not separator or len(values) < 2:
        raise UserError("--sweep: expected a setting and two values of it or more, such as "
                        f"techniques.vae.keep.ratio=0.5,1,2; got {setting!r}")  # fmt: skip
    section, *rest = key.split(".")
    shown = ".".join(rest) if section == "techniques" else key
    found = {
        f"{shown}={value if isinstance(value, str) else json.dumps(value)}": read([f"{key}={json.dumps(value)}"])
        for value in values
    }
    if section != "techniques":
        plain = read([])
        return {name: plain, **{title: made for title, made in found.items() if made != plain}}
    first = next(iter(found.values()))
    others = [each for each in trained_by(first) if each != rest[0]]
    return told({f"without {rest[0]}": keeping(first, others), **found}, first)


def told(variants: dict[str, Recipe], recipe: Recipe) -> dict[str, Recipe]:
    """The variants; a line in the log for those that are fine-tuned since nothing else would fill their head."""
    epochs = "num_train_epochs"
    tuned = [name for name, each in variants.items() if each.train[epochs] != recipe.train[epochs]]
    if tuned:
        logger.info(
            "%s: fine-tuned for %g epochs, as nothing else would fill the head", listed(tuned), DEFAULTS[epochs]
        )
    return variants


def trained_by(recipe: Recipe) -> list[str]:
    """Techniques that have a say in the model: the others only stand beside it."""
    return [each.name for each in recipe.techniques if each.trains]


def keeping(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with these alone of the techniques that have a say in the model.

    Where the recipe trains no epoch and none of these fills the head, it is fine-tuned: with a head of random weights
    it would be no rival.
    """
    found = recipe.with_techniques([each for each in recipe.techniques if each.name in names or not each.trains])
    if learns_head(found) or not learns_head(recipe):
        return found
    return found.model_copy(update={"train": {**found.train, "num_train_epochs": DEFAULTS["num_train_epochs"]}})


def learns_head(recipe: Recipe) -> bool:
    """Whether something gives the head weights that know the classes."""
    steps = recipe.train["num_train_epochs"] > 0 or recipe.train.get("max_steps", -1) > 0
    return steps or any(each.fills_head for each in recipe.techniques)
