"""Loading pretrained models and processors: safetensors only, and errors that say what to do."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from hf_smalldata.data.bundled import BUNDLED_MODELS, model_folder
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.task import ModelSpec

logger = logging.getLogger(__name__)


def locate(name: str) -> str:
    """A model's name -> what `from_pretrained` takes: a folder for bundled names and paths, else the Hub id.

    Raises:
        UserError: a folder that is missing or holds no model.
    """
    if name.startswith("bundled/"):
        return str(model_folder(name))
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists()
    if not looks_local:
        return name
    if not path.is_dir():
        raise UserError(f"model.name: no folder {name}; give a folder with config.json, a Hub id or {_bundled()}")
    if not (path / "config.json").is_file():
        raise UserError(f"model.name: {name} holds no config.json, so it is not a saved transformers model")
    return str(path)


def load_processor(auto_class: str, spec: ModelSpec) -> Any:
    """The tokenizer or image processor of a model."""
    with _told(spec):
        return getattr(transformers, auto_class).from_pretrained(
            locate(spec.name), revision=spec.revision or "main", trust_remote_code=spec.trust_remote_code
        )


def load_classifier(
    auto_class: str, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType, other_task: str
) -> nn.Module:
    """A pretrained body with a new head of the right size, in float32.

    Raises:
        UserError: not found, another modality, pickled weights, or weights that do not fit the architecture.
    """
    names = list(labels) or ["value"]
    more = {"attn_implementation": spec.attn_implementation} if spec.attn_implementation else {}
    with _told(spec), _quiet():
        config = transformers.AutoConfig.from_pretrained(
            locate(spec.name),
            revision=spec.revision or "main",
            trust_remote_code=spec.trust_remote_code,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            problem_type=problem_type,
        )
        auto = getattr(transformers, auto_class)
        if type(config) not in auto._model_mapping and not spec.trust_remote_code:
            raise UserError(
                f"model.name: {spec.name} is a {config.model_type} model, which has no "
                f"{auto_class.removeprefix('AutoModelFor')} head; is this a task for {other_task}?"
            )
        model, info = auto.from_pretrained(
            locate(spec.name),
            config=config,
            revision=spec.revision or "main",
            trust_remote_code=spec.trust_remote_code,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            **more,
        )
    _check_fit(model, spec.name, [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    loaded: nn.Module = model
    return loaded


def _check_fit(model: nn.Module, name: str, fresh: Sequence[str]) -> None:
    """The body must come from the checkpoint; only a head may be new."""
    heads = tuple(head_names(model))
    body = {key for key, _ in model.named_parameters() if not key.startswith(heads)}
    lost = sorted(body.intersection(fresh))
    if len(lost) * 2 > len(body):
        raise UserError(
            f"model.name: the weights in {name} do not fit its config: {len(lost)} of {len(body)} tensors of the body "
            f"are missing (e.g. {lost[0]})"
        )
    if lost:
        logger.warning("%s: %d tensors of the body start from random values: %s", name, len(lost), ", ".join(lost[:5]))


@contextlib.contextmanager
def _told(spec: ModelSpec) -> Iterator[None]:
    """Transformers' own loading errors as one sentence with a way out."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        text = " ".join(str(error).split())
        if "safetensors" in text and ("bin" in text or "not found" in text or "does not appear" in text):
            raise UserError(
                f"model.name: {spec.name} has no safetensors weights, and pickled ones are not loaded; convert it with "
                "AutoModel.from_pretrained(…).save_pretrained(folder, safe_serialization=True) in a place you trust"
            ) from error
        if Path(spec.name).expanduser().is_dir() or spec.name.startswith("bundled/"):
            raise UserError(f"model.name: {spec.name} could not be loaded: {text}") from error
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"model.name: {spec.name} was not found: no such folder, and the Hub gave no such model{offline}. "
            f"Give a folder, a Hub id that is reachable or cached, or {_bundled()}. The Hub said: {text[:200]}"
        ) from error


def _bundled() -> str:
    return " or ".join(BUNDLED_MODELS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the list of new head weights: a new head is what was asked for."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
