"""What a card must be before it goes up: valid front matter, and no figure that the Run does not hold.

A figure that somebody typed is one that nobody measured. Read as figures, outside code: decimals; whole numbers with a
percent sign, but for those of intervals (`95 % interval`, `95 %, Student's t`); all numbers of the model-index, where a
metric that the Run has must be the Run's. Years, counts, versions and other whole numbers are not looked at. The Hub
checks front matter once more when it gets it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from hf_smalldata.evaluation.summary import MODEL
from hf_smalldata.publish.metadata import HUB_METRICS
from hf_smalldata.tasks import TASKS, get_task

FIGURE = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*\.\d+(?:e[-+]?\d+)?(?![\w]|\.\d)")  # a decimal number; not 5.24.0
SHARE = re.compile(  # a whole number of per cent, not `a%20b`
    r"(?<![\w.,])\d+(?=[\s*_\\]*(?:%(?!(?!25)[\dA-Fa-f]{2})|per\s?cent\b)"
    r"(?!,?\s+(?:confidence|credible|prediction|interval|CI\b|Student|corrected|Wilson|bootstrap)))"
)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")


def lint(content: str, sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences of what is wrong with a card; none if it may go up.

    Args:
        content: README.md.
        sources: what its figures may be read from: metrics.json, then environment.json and results.json.
    """
    try:
        card: Any = ModelCard(content)
    except ValueError as error:
        return [f"front matter: {' '.join(str(error).split())}"]
    known, shares, text = set(_numbers(list(sources))), set(_shares(list(sources))), CODE.sub("", card.text)
    typed = [figure for figure in dict.fromkeys(FIGURE.findall(text)) if not _is_read(figure, known)]
    typed += [f"{figure} %" for figure in dict.fromkeys(SHARE.findall(text)) if not _rounds(figure, shares)]
    wrong = _model_index(card.data.eval_results or (), sources[0]["results"][MODEL] if sources else {}, known)
    return [*_front_matter(card.data.to_dict()), *wrong, *(f"{figure}: in no file of the Run" for figure in typed)]


def _model_index(results: Iterable[EvalResult], own: Mapping[str, Any], known: set[float]) -> Iterator[str]:
    """Values that are not those of the Run's metrics, and other numbers beside them that are in no file."""
    for each in results:
        ours = [interval["value"] for name, interval in own.items() if HUB_METRICS[name][0] == each.metric_type]
        for figure in NUMBER.findall(str(each.metric_value)):
            if not _equals(figure, ours or known):
                told = f"the Run has {' or '.join(map(str, ours))}" if ours else "in no file of the Run"
                yield f"model-index: {each.metric_type} {figure}: {told}"
        for name, value in (each.metric_args or {}).items():
            if isinstance(value, int | float) and not _equals(str(value), known):
                yield f"model-index: {name} of {each.metric_type} {value}: in no file of the Run"


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
    return _rounds(figure, (form for each in known for form in (each, 100 * each, each / 1e6, each / 1e9)))


def _rounds(figure: str, values: Iterable[float]) -> bool:
    """Whether one of the values rounds to a figure."""
    digits, _, exponent = figure.replace(",", "").replace("−", "-").partition("e")
    value, scale = float(digits), 10.0 ** int(exponent or 0)
    limit = 0.5000001 * 10.0 ** -len(digits.partition(".")[2])
    return any(abs(each / scale - value) <= limit for each in values)


def _equals(figure: str, values: Collection[float]) -> bool:
    """Whether a value is a figure, or rounds to it: a decimal as it is, a whole number in per cent alone."""
    shares = (100 * value for value in values)
    return float(figure) in values or ("." in figure and _rounds(figure, values)) or _rounds(figure, shares)


def _shares(value: Any) -> Iterator[float]:
    """All shares of nested mappings and lists in per cent, those that texts tell as well; counts are none."""
    if isinstance(value, float) and abs(value) <= 1:
        yield 100 * value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _shares(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _shares(each)
    elif isinstance(value, str):
        yield from map(float, SHARE.findall(value))


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
