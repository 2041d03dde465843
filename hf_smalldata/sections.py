"""Sections of a recipe checked by their models, and what is wrong with them in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hf_smalldata.errors import did_you_mean

Section = TypeVar("Section", bound=BaseModel)


def section(kind: type[Section], content: Any, where: str, problems: list[str]) -> Section | None:
    """One section checked by its model; what is wrong is added to `problems`."""
    if not isinstance(content, Mapping):
        example = "{name: …}" if where in ("data", "model") else "{…}"
        problems.append(f"{where}: missing; expected {example}" if content is None
                        else f"{where}: expected settings such as {example}, got {content!r}")  # fmt: skip
        return None
    try:
        return kind(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for each in error.errors():
            key, known = _setting(kind, each["loc"])
            if each["type"] == "extra_forbidden":
                text = f"unknown setting{did_you_mean(key.rpartition('.')[2], known)}"
            elif each["type"] == "missing":
                text = "missing"
            else:
                text = _told_range(kind, each) or each["msg"].removeprefix("Value error, ")
                text = f"{text[0].lower()}{text[1:]}" + (f", got {each['input']!r}" if key else "")
            found.setdefault(key, []).append(text)
        problems += [f"{where}.{key}: {' or '.join(texts)}" if key else f"{where}: {texts[0]}"
                     for key, texts in found.items()]  # fmt: skip
        return None


def _told_range(kind: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Both ends of what a setting may be, where its value lies beyond one of them: `expected 0 to 1`."""
    ends = {"greater_than_equal": Ge, "greater_than": Gt, "less_than_equal": Le, "less_than": Lt}
    if error["type"] not in ends:
        return ""
    field = _field(kind, error["loc"])
    limits = list(_constraints(field))
    low = next((each for each in limits if isinstance(each, Ge | Gt)), None)
    high = next((each for each in limits if isinstance(each, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f"expected {low.ge} to {high.le}"
    told = [] if low is None else [f"at least {low.ge}" if isinstance(low, Ge) else f"above {low.gt}"]
    told += [] if high is None else [f"at most {high.le}" if isinstance(high, Le) else f"below {high.lt}"]
    return f"expected {' and '.join(told)}" if told else ""


def _field(kind: type[BaseModel], loc: tuple[int | str, ...]) -> FieldInfo:
    """The field that an error speaks of, which may be of a section within another."""
    field = kind.model_fields[str(loc[0])]
    for inner in (field.annotation, *get_args(field.annotation)):
        if len(loc) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel) and loc[1] in inner.model_fields:
            return inner.model_fields[str(loc[1])]
    return field


def _constraints(field: Any) -> Iterator[Any]:
    """Limits that an annotation holds anywhere: those of a tuple's numbers too."""
    if isinstance(field, FieldInfo):
        yield from field.metadata
        yield from _constraints(field.annotation)
        return
    for each in (*getattr(field, "__metadata__", ()), *get_args(field)):
        if isinstance(each, FieldInfo):
            yield from each.metadata
        elif isinstance(each, Ge | Gt | Le | Lt):
            yield each
        else:
            yield from _constraints(each)


def _setting(kind: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, Iterable[str]]:
    """A setting as one writes it, such as `keep.ratio` within another, and the names that are known there."""
    inner = kind.model_fields[str(loc[0])].annotation if len(loc) > 1 and loc[0] in kind.model_fields else None
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return f"{loc[0]}.{loc[1]}", inner.model_fields
    return str(loc[0]) if loc else "", kind.model_fields
