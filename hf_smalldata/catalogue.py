"""What there is to choose from: techniques, tasks, and the recipes that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from hf_smalldata.errors import UserError, did_you_mean
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import TASKS, get_task
from hf_smalldata.technique import Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.training.prefix_cache import inputs_change

Entries = Iterator[tuple[str, str]]


def recipes_folder() -> Path:
    """The recipes: inside an installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "recipes"


def recipe_files() -> dict[str, Path]:
    """Name, such as `text/reviews_lora`, -> file."""
    folder = recipes_folder()
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """A file of the user's, or a recipe that comes with the package.

    Raises:
        UserError: neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = recipe_files()
    short = name.removeprefix("recipes/").removesuffix(".yaml").removesuffix(".yml")
    if short not in known:
        raise UserError(
            f"no recipe '{name}': no such file, nor one that comes with the package{did_you_mean(short, known)}"
        )
    return known[short]


def described(recipe: Recipe) -> str:
    """A recipe with every default spelled out; as comments the hooks of its techniques and the prefix cache."""
    hooks = [f"# {each.name}: {', '.join(each.hooks())}  {each.paper}\n" for each in recipe.techniques]
    why = inputs_change(recipe.techniques)
    cache = f"off: {why}" if why else "on where the bottom of the network is frozen"
    return f"{recipe.to_yaml()}{''.join(hooks)}# prefix cache: {cache}\n"


def techniques() -> Entries:
    """Each technique with the first sentence of its card, its tasks, hooks and paper."""
    for name in REGISTRY:
        kind = get_technique(name)
        hooks = ", ".join(kind.model_construct().hooks())
        yield (
            name,
            f"{summary(kind)}  [{_tasks(kind)}; hooks: {hooks}] {kind.paper}".replace("[", r"\[", 1),
        )


def techniques_table() -> str:
    """The techniques as a markdown table, as README.md shows it."""
    lines = ["| technique | what it is | tasks | hooks | paper |", "| --- | --- | --- | --- | --- |"]
    for name in REGISTRY:
        kind = get_technique(name)
        hooks = ", ".join(kind.model_construct().hooks())
        first = summary(kind).partition(". ")[0].rstrip(".")
        what = first.partition(": ")[2] or first
        lines.append(f"| `{name}` | {what} | {_tasks(kind)} | {hooks} | [paper]({kind.paper}) |")
    return "\n".join(lines)


def tasks() -> Entries:
    """Each task with the first line of its card."""
    for name in TASKS:
        yield name, summary(type(get_task(name)))


def recipes() -> Entries:
    """Each recipe with its first comment."""
    for name, file in recipe_files().items():
        first = file.read_text(encoding="utf-8").splitlines()[0]
        kind = yaml.safe_load(file.read_text(encoding="utf-8"))["task"]
        yield name, f"{first.lstrip('# ')}  \\[{kind}]"


def _tasks(kind: type[Technique]) -> str:
    return "all tasks" if kind.tasks == set(TASKS) else ", ".join(sorted(kind.tasks))


def summary(kind: type) -> str:
    """The first sentence of the card (the docstring of a class's module)."""
    import sys

    card = sys.modules[kind.__module__].__doc__ or ""
    return " ".join(card.strip().split("\n\n")[0].split())


CATALOGUES: dict[str, Callable[[], Entries]] = {"techniques": techniques, "tasks": tasks, "recipes": recipes}
