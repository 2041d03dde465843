"""Licence and language of a base model, as its own card has them, and whether another licence may take their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, constants, try_to_load_from_cache

from hf_smalldata.data.bundled import BUNDLED_MODELS
from hf_smalldata.errors import UserError

# What is made of a model under one of these may be given on under another licence.
PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense", "isc",
                        "cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "0bsd", "zlib", "wtfpl", "afl-3.0", "pddl"})  # fmt: skip


def base_card(name: str) -> ModelCardData | None:
    """The front matter of a base model's card, where it lies on this machine: in its folder or in the Hub's cache."""
    if name in BUNDLED_MODELS:
        bundled = BUNDLED_MODELS[name]
        return ModelCardData(license=bundled.licence.lower(), language=bundled.language)
    beside = Path(name).expanduser() / constants.REPOCARD_NAME
    cached = None if beside.is_file() or name.count("/") > 1 else try_to_load_from_cache(name, constants.REPOCARD_NAME)
    file = beside if beside.is_file() else cached
    if not isinstance(file, str | Path):
        return None
    try:
        loaded: ModelCardData = ModelCard.load(file, ignore_metadata_errors=True).data
    except (ValueError, yaml.YAMLError):  # a card that the Hub would not take either tells nothing
        return None
    return loaded


def licence_of(given: str | None, base: Any | None, name: str) -> dict[str, str]:
    """Front matter of the licence: the base model's, or another that it leaves room for.

    Args:
        given: what the user wants; None to inherit.
        base: front matter of the base model's card; None where there is none.
        name: of the base model.

    Raises:
        UserError: the base model's licence is kept by what is made of it, and another was given.
    """
    inherited = base.get("license") if base is not None else None
    if isinstance(inherited, list):  # several: each holds
        inherited = inherited[0] if len(inherited) == 1 else "other"
    if given is None or given == inherited:
        more = {key: base.get(key) for key in ("license_name", "license_link")} if base is not None else {}
        return {"license": inherited, **{key: value for key, value in more.items() if value}} if inherited else {}
    if inherited is not None and inherited not in PERMISSIVE:
        raise UserError(
            f"license: {name} is under {inherited}, which what is made of it keeps; got {given}. Leave it out"
        )
    return {"license": given}


def language_of(given: str | None, base: Any | None) -> str | None:
    """The language that was given, else the base model's, where it has just one."""
    told = base.get("language") if base is not None and given is None else given
    told = told[0] if isinstance(told, list) and len(told) == 1 else told
    return told if isinstance(told, str) and told not in ("multilingual", "code") else given
