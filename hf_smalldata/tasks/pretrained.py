"""Loading pretrained models and processors: safetensors only, and errors that say what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from torch import nn

from hf_smalldata.data.bundled import BUNDLED_MODELS, model_folder
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.nn.fold import keep_pooling
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.relabel import relabel
from hf_smalldata.tasks.task import ModelSpec

logger = logging.getLogger(__name__)

LONGEST_REASON = 200  # characters of another library's message
HEADS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForAudioClassification": "audio-classification",
    "AutoModelForZeroShotImageClassification": "zero-shot-image-classification",
    "AutoModelForSeq2SeqLM": "translation",
    "AutoModelForCausalLM": "text-generation",
}


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
    return str(path.resolve())  # what adapters remember of their base must hold in other folders too


def load_processor(auto_class: str, model_class: str, spec: ModelSpec, **settings: Any) -> Any:
    """The tokenizer or image processor of a model, of which the config is looked at first.

    Raises:
        UserError: not found, another modality, or no processor in it.
    """
    load_config(model_class, spec)
    with _told(spec):
        return getattr(transformers, auto_class).from_pretrained(locate(spec.name), **_source(spec), **settings)


def load_classifier(model_class: str, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
    """A pretrained body with a new head of the right size, in float32.

    Raises:
        UserError: not found, another modality, pickled weights, or weights that do not fit the architecture.
    """
    names = list(labels) or ["value"]
    before = load_config(model_class, spec).id2label
    config = load_config(
        model_class,
        spec,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        problem_type=None if problem_type == "token_classification" else problem_type,  # no name of transformers'
    )
    if hasattr(config, "label_names"):  # timm's own list, which a saved config would put before id2label
        config.label_names = names
    more = {"attn_implementation": spec.attn_implementation} if spec.attn_implementation else {}
    with _told(spec), _quiet():
        model, info = getattr(transformers, model_class).from_pretrained(
            locate(spec.name),
            config=config,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            **_source(spec),
            **more,
        )
    _check_fit(model, spec.name, [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    head = relabel(model, [before[at] for at in sorted(before)], names, info["missing_keys"])
    pools = keep_pooling(model)
    for told in (head, "its last block pools and stays as it is" if pools else ""):
        if told:
            logger.info("%s: %s", spec.name, told)
    loaded: nn.Module = model
    return loaded


def reloaded(model: Any) -> nn.Module:
    """The checkpoint of a loaded network once more, as far as it fits the network's config as it is now."""
    with _quiet():
        again: nn.Module = type(model).from_pretrained(
            model.name_or_path, config=model.config, ignore_mismatched_sizes=True, use_safetensors=True, dtype="float32"
        )
    return again


def load_whole(model_class: str, spec: ModelSpec) -> nn.Module:
    """A pretrained network as it is, with the head that it has, in float32.

    Raises:
        UserError: not found, or pickled weights.
    """
    with _told(spec), _quiet():
        loaded: nn.Module = getattr(transformers, model_class).from_pretrained(
            locate(spec.name), use_safetensors=True, dtype="float32", **_source(spec)
        )
    return loaded


def load_masked_lm(spec: ModelSpec) -> nn.Module:
    """The masked language model of a checkpoint, in float32.

    Raises:
        UserError: not found, or its checkpoint has no such head.
    """
    model, missing = masked_lm(spec)
    if missing:
        raise UserError(
            f"model.name: {spec.name} has no masked-language-model head ({missing[0]} is missing), as sentence "
            "encoders and classifiers have none; give a checkpoint as it was pretrained"
        )
    return model


def masked_lm(spec: ModelSpec) -> tuple[nn.Module, list[str]]:
    """The body of a checkpoint with a masked-language-model head, and names of the head's weights that it lacks.

    Raises:
        UserError: not found, or an architecture without such a head.
    """
    return pretraining_model("AutoModelForMaskedLM", spec)


def pretraining_model(auto_class: str, spec: ModelSpec, config: Any = None) -> tuple[nn.Module, list[str]]:
    """The body of a checkpoint with the head that it was pretrained with, and names of the head's weights it lacks.

    Args:
        auto_class: of transformers, which has such a head for the architecture.
        spec: of the checkpoint.
        config: its own, if given.

    Raises:
        UserError: not found, or an architecture without such a head.
    """
    more = {} if config is None else {"config": config}
    with _told(spec), _quiet():
        model, info = getattr(transformers, auto_class).from_pretrained(
            locate(spec.name), use_safetensors=True, dtype="float32", output_loading_info=True, **_source(spec), **more
        )
    missing = [key for key in info["missing_keys"] if not key.startswith(f"{model.base_model_prefix}.")]
    return model, missing


def load_config(model_class: str, spec: ModelSpec, **settings: Any) -> Any:
    """The config of a model that has a head of `model_class`, with `settings` put in.

    Raises:
        UserError: not found, or of another modality.
    """
    with _told(spec), _quiet():
        config = transformers.AutoConfig.from_pretrained(locate(spec.name), **_source(spec), **settings)
    if not has_head(config, model_class) and not spec.trust_remote_code:
        fitting = [task for other, task in HEADS.items() if has_head(config, other)]
        raise UserError(
            f"model.name: {spec.name} is a {config.model_type or 'nameless'} model, which has no "
            f"{HEADS[model_class]} head" + (f"; it is one for {' and '.join(fitting)}" if fitting else "")
        )
    return config


@contextlib.contextmanager
def told_of(settings: Mapping[str, str]) -> Iterator[None]:
    """Within: what is wrong with a checkpoint is said of other settings than the recipe's model.

    Args:
        settings: "model.name:" and the like, as errors have them, and what takes their place.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for name, other in settings.items():
            message = message.replace(name, other)
        raise UserError(message) from error


def has_head(config: Any, model_class: str) -> bool:
    """Whether transformers has a head of this Auto class for the architecture of a config."""
    return type(config) in getattr(transformers, model_class)._model_mapping


def _source(spec: ModelSpec) -> dict[str, Any]:
    return {"revision": spec.revision or "main", "trust_remote_code": spec.trust_remote_code}


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
    """What transformers raises of a broken or absent checkpoint, as one sentence with a way out."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, TypeError, RuntimeError, SafetensorError) as error:
        text = _first_sentence(error)
        if "safetensors" in text and ("no file named" in text or "does not appear" in text):
            raise UserError(
                f"model.name: {spec.name} has no model.safetensors; if its weights are pickled (pytorch_model.bin), "
                "they are not loaded: convert them with AutoModel.from_pretrained(…).save_pretrained(folder) in a "
                "place you trust"
            ) from error
        if "custom code" in text and not spec.trust_remote_code:
            raise UserError(
                f"model.name: {spec.name} brings code of its own, which is not run; where you have read it and trust "
                "it, set model.trust_remote_code: true"
            ) from error
        if Path(spec.name).expanduser().is_dir() or spec.name.startswith("bundled/"):
            raise UserError(f"model.name: {spec.name} could not be loaded: {text}") from error
        if "gated repo" in text:
            raise UserError(
                f"model.name: {spec.name} is gated; accept its terms on its page, then log in with `hf auth login` or "
                "set HF_TOKEN"
            ) from error
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"model.name: {spec.name} was not found: no such folder, and the Hub gave no such model{offline}; "
            f"give a folder, a Hub id that is reachable or cached (after `hf auth login` if it is private), or "
            f"{_bundled()}. The Hub said: {text}"
        ) from error


def _first_sentence(error: BaseException) -> str:
    """Of a message of many lines what can be read at a glance."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0].split(". ")[0], LONGEST_REASON, placeholder=" …")


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
