"""What goes up: an ordinary model folder, its card, and of ours what tells no rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, constants

from hf_smalldata.destination import PublishSpec, public_name
from hf_smalldata.errors import Problems, UserError, listed
from hf_smalldata.public import public_recipe
from hf_smalldata.publish.card import inherited, model_card, recipe_of
from hf_smalldata.publish.licence import licence_of
from hf_smalldata.publish.lint import lint
from hf_smalldata.run import OURS, Run, read_json

# What `save_pretrained` and `export` write. All else in a Run's folder is somebody's own and stays there.
MODEL_FILES = ("*config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt",
               "special_tokens_map.json", "added_tokens.json", "*.model", "*.jinja", "*.py")  # fmt: skip
EXPORTED = "onnx"
EXPORTED_FILES = ("*.onnx", "*.onnx.data", "*.json", "*.txt", "tokenizer*")
ROW_IDS = ("rows.json", "predictions.parquet")  # ids, labels and predictions; no inputs
REPORT = "report.html"  # with the texts or images of rows that were labelled wrong


@dataclass(frozen=True)
class Item:
    """A file of the repository and what it is made of."""

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


@dataclass(frozen=True)
class Shipment:
    """All that goes up, and what stays here with the reason."""

    spec: PublishSpec
    items: tuple[Item, ...]
    card: ModelCard
    notes: tuple[str, ...]

    @property
    def licence(self) -> str:
        """As the card has it."""
        return str(
            self.card.data.get("license") or "none: the base model's card is not on this machine; pass --license"
        )


def pack(folder: str | Path, spec: PublishSpec, card: str | Path | None = None) -> Shipment:
    """What would go up of a Run, or of the model in a study's folder. No network is touched.

    Args:
        folder: of a Run, or of a study with a refit.
        spec: where it goes, and how much of it.
        card: a README.md of one's own instead of the one that is made.

    Raises:
        UserError: no Run, no adapter where only that is wanted, or a card that may not go up.
    """
    run, study = opened(folder)
    made = model_card(run, spec, study) if card is None else _own(Path(card).expanduser(), run, spec)
    sources = [run.metrics, read_json(run.part("environment.json")), *([study] if study else [])]
    problems = lint(str(made), sources)
    if problems:
        raise Problems(f"{card or 'the card'}; write no figure by hand", problems)
    items, notes = _model(run, spec)
    parts = [*items, Item(constants.REPOCARD_NAME, str(made).encode()), *_ours(run, spec)]
    _check_paths(run, parts)
    return Shipment(spec, tuple(parts), made, tuple(notes))


def opened(folder: str | Path) -> tuple[Run, dict[str, Any] | None]:
    """The Run of a folder; of a study that of its refit, with what the study says.

    Raises:
        UserError: neither, or a study without a model.
    """
    place = Path(folder).expanduser()
    if not (place / "results.json").is_file():
        return Run.open(place), None
    if not (place / "model").is_dir():
        raise UserError(f"{folder}: this study has no model; run it again with --refit")
    return Run.open(place / "model"), read_json(place / "results.json")


def _own(file: Path, run: Run, spec: PublishSpec) -> ModelCard:
    """A card of one's own, whose licence is one that the base model's leaves room for."""
    if not file.is_file():
        raise UserError(f"--card: no file {file}")
    try:
        card: ModelCard = ModelCard.load(file)
    except ValueError as error:
        raise UserError(f"--card: {file} has no valid front matter: {' '.join(str(error).split())}") from error
    recipe, told = recipe_of(run), card.data.get("license")
    for licence in (spec.license, *(told if isinstance(told, list) else [told])):
        licence_of(licence, inherited(run, recipe), public_name(recipe.model.name))
    return card


def _model(run: Run, spec: PublishSpec) -> tuple[list[Item], list[str]]:
    adapter, base = run.folder / "adapter", recipe_of(run).model.name
    hub = base in read_json(run.part("environment.json")).get("on_hub", ())
    if spec.adapter_only:
        if not adapter.is_dir():
            raise UserError(f"--adapter-only: {run.folder} has no adapter/; publish the whole model")
        if not hub:
            raise UserError(f"--adapter-only: its base model {base} is not on the Hub, so nobody else could load the "
                            "adapter; publish the whole model")  # fmt: skip
        return list(_files(adapter, MODEL_FILES)), []
    items, notes = list(_files(run.folder, MODEL_FILES)), []
    if adapter.is_dir() and hub:
        items += _files(adapter, MODEL_FILES, "adapter/")
    elif adapter.is_dir():
        notes.append(f"adapter/ stays here: its base model {public_name(base)} is not on the Hub")
    if (run.folder / EXPORTED).is_dir():
        items += _files(run.folder / EXPORTED, EXPORTED_FILES, f"{EXPORTED}/")
    known = {item.content for item in items}
    others = [file.name for file in sorted(run.folder.iterdir())
              if file.is_file() and file not in known and file.name != constants.REPOCARD_NAME]  # fmt: skip
    return items, [*notes, *([f"no part of a model, so it stays here: {listed(others)}"] if others else [])]


def _files(folder: Path, patterns: tuple[str, ...], prefix: str = "") -> Iterator[Item]:
    for file in sorted(folder.iterdir()):
        if file.is_file() and any(fnmatch(file.name, pattern) for pattern in patterns):
            yield Item(prefix + file.name, file)


def _ours(run: Run, spec: PublishSpec) -> Iterator[Item]:
    """What makes the repository a Run again that `predict` and `report` open; ids and errors only where asked for."""
    metrics, environment = run.metrics, read_json(run.part("environment.json"))
    metrics["model"] = public_name(metrics["model"])
    environment.pop("command")
    if not spec.row_ids:
        metrics |= {"notes": [], "label_errors": None}  # both name rows
    yield Item(f"{OURS}/recipe.yaml", public_recipe(recipe_of(run)).to_yaml().encode())
    for name, content in (("metrics.json", metrics), ("environment.json", environment)):
        yield Item(f"{OURS}/{name}", _json(content))
    for name in [*(ROW_IDS if spec.row_ids else ()), *([REPORT] if spec.errors else ())]:
        yield Item(f"{OURS}/{name}", run.part(name))


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _check_paths(run: Run, items: list[Item]) -> None:
    """No text that goes up tells where things lie on this machine."""
    recipe = recipe_of(run)
    given = [recipe.model.name, recipe.data.name, recipe.data.train, str(run.folder.resolve())]
    secret = [path.encode() for path in given if path and Path(path).is_absolute()]
    for item in items:
        if item.path.endswith((".json", ".yaml", ".md", ".html")):
            text = item.content.read_bytes() if isinstance(item.content, Path) else item.content
            if found := next((path for path in secret if path in text), None):
                raise UserError(f"{item.path}: tells the local path {found.decode()}; take it out, then publish")
