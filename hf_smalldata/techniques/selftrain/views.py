"""Two views of an unlabelled row: as it is, and strongly changed by a technique that augments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from hf_smalldata.data.modality import Kind
from hf_smalldata.errors import UserError
from hf_smalldata.technique import Technique
from hf_smalldata.techniques import get_technique

Settings = Mapping[str, Any]
DEFAULTS: dict[Kind, dict[str, Settings]] = {
    "text": {"eda": {"alpha_synonym": 0.2, "alpha_deletion": 0.2}},
    "image": {"rand_augment": {"operations": 2, "magnitude": 0.5}},
    "audio": {"waveform": {}},
    "sequence": {"mutation": {}},
}


def strong_view(given: Mapping[str, Settings] | None, kind: Kind) -> Technique:
    """The technique that a recipe names, such as `{mlm_substitution: {n_aug: 2}}`, or the usual one of the modality."""
    ((name, settings),) = (DEFAULTS[kind] if given is None else given).items()
    return get_technique(name)(**settings)


def _checked(given: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]] | None:
    if given is None:
        return None
    if len(given) != 1:
        raise ValueError("expected one technique, such as {eda: {n_aug: 4}}")
    ((name, settings),) = given.items()
    try:
        technique = get_technique(name)(**settings)
    except UserError as error:
        raise ValueError(f"{name}: {error}") from None
    if not {"rows", "example"} & set(technique.hooks()):
        raise ValueError(f"{name} changes no rows; use one of augmentation, such as eda or rand_augment")
    return given


# A technique by its name, with its settings; None: eda for texts, rand_augment, waveform, mutation
Strong = Annotated[dict[str, dict[str, Any]] | None, AfterValidator(_checked)]
