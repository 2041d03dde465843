"""What a card must be before it goes up: valid front matter, and no figure that the Run does not hold.

A figure that somebody typed is one that nobody measured. The Hub checks front matter once more when it gets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from hf_smalldata.tasks import TASKS, get_task

FIGURE = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*\.\d+(?:e[-+]?\d+)?(?![\w]|\.\d)")  # a decimal number; not 5.24.0
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")


def lint(content: str, sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Sentences of what is wrong with a card; none if it may go up.

    Args:
        content: README.md.
        sources: what its figures may be read from: metrics.json, environment.json, results.json.
    """
    try:
        card: Any = ModelCard(content)
    except ValueError as error:
        return [f"front matter: {' '.join(str(error).split())}"]
    known = set(_numbers(list(sources)))
    found = dict.fromkeys(FIGURE.findall(CODE.sub("", card.text)))
    typed = [f"{figure}: in no file of the Run" for figure in found if not _is_read(figure, known)]
    return [*_front_matter(card.data.to_dict()), *typed]


def _front_matter(data: Mapping[str, Any]) -> Iterator[str]:
    """What the Hub would refuse, or show nowhere."""
    tags = {get_task(name).pipeline_tag for name in TASKS}
    if data.get("pipeline_tag") not in tags:
        yield f"pipeline_tag: expected one of {', '.join(sorted(tags))}, got {data.get('pipeline_tag')}"
    names = [data.get("base_model"), *(data.get("datasets") or [])]
    for name in filter(None, names):
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            yield f"{name}: no id of the Hub: {error}"
    languages = data.get("language") or []
    for language in [languages] if isinstance(languages, str) else languages:
        if not LANGUAGE.fullmatch(language):
            yield f"language: expected a code such as da, got {language}"


def _is_read(figure: str, known: set[float]) -> bool:
    """Whether a number rounds to it: as it is, in per cent, in MB or in GB."""
    digits, _, exponent = figure.replace(",", "").replace("−", "-").partition("e")
    value, scale = float(digits), 10.0 ** int(exponent or 0)
    limit = 0.5000001 * 10.0 ** -len(digits.partition(".")[2])
    forms = (form for each in known for form in (each, 100 * each, each / 1e6, each / 1e9))
    return any(abs(form / scale - value) <= limit for form in forms)


def _numbers(value: Any) -> Iterator[float]:
    """All numbers of nested mappings and lists, those within texts as well: a forecast is a sentence."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _numbers(each)
            if name == "threshold" and each is not None:
                yield 1 - each  # cards tell a threshold as the probability from which a label is in a set
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, str):
        yield from (float(figure.replace(",", "").replace("−", "-")) for figure in FIGURE.findall(value))
