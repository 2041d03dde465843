"""The HTML page: content and plots put into `template.html`. jinja2 escapes all that users and rows bring in."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from functools import cache, partial
from io import BytesIO
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from hf_smalldata.evaluation.report import TITLES
from hf_smalldata.report import formats, tables, words
from hf_smalldata.report.colours import DARK, LIGHT
from hf_smalldata.report.plots import PLOTS
from hf_smalldata.report.svg import inline

THUMBNAIL = 160  # px, the longest side
_LONGEST = 400  # characters of a row's text


class Shown(NamedTuple):
    """A row's input as the page shows it: texts, or the address of an image or a sound."""

    texts: tuple[str, ...] = ()
    image: str = ""
    sound: str = ""


def html(content: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The whole page; arguments as in `report.write`."""
    return _template().render(
        c=content,
        tables=tables,
        words=words,
        titles=TITLES,
        sections=_sections(content),
        light=LIGHT,
        dark=DARK,
        plot=lambda name, description: _plot(content, name, description),
        inputs={row: _shown(inputs[row]) for row in _rows_shown(content) if row in inputs},
    )


def thumbnail(image: Image.Image) -> str:
    """The image as a data address, its longest side near 160 px; tiny ones are enlarged, each pixel a square."""
    small = image.convert("RGB")
    small.info = {}  # a comment would go along
    longest = max(small.size)
    if 2 * longest <= THUMBNAIL:
        factor = THUMBNAIL // longest
        small = small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)
    else:
        small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = BytesIO()
    small.save(stream, "JPEG", quality=85)
    return _address("image/jpeg", stream.getvalue())


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("hf_smalldata.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plural": formats.plural, "sentence": formats.sentence, "names": _names}
    return environment.get_template("template.html")


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _sections(content: Mapping[str, Any]) -> dict[str, str]:
    """Id -> heading of every section that has something to say, in order."""
    found = content["diagnosis"] or {}
    calibration = content["calibration"] or {}
    wanted: dict[str, tuple[str, object]] = {
        "setting": ("Setting", True),
        "notes": ("Read this first", content["notes"]),
        "results": ("Results", True),
        "differences": ("Paired differences", content["comparisons"]),
        "gate": ("What to keep", content["gate"]),
        "curves": ("Learning curve", content["curves"]),
        "classes": ("Classes", found.get("per_class")),
        "confusion": ("Confusions", found.get("confusion")),
        "calibration": ("Calibration", calibration or found.get("reliability")),
        "conformal": ("Labels with a promise: conformal sets", calibration.get("conformal")),
        "errors": ("Worst errors", found.get("errors")),
        "label-errors": ("Labels to look at again", content["label_errors"]),
        "cost": ("Time and memory", True),
        "repeat": ("To repeat this", True),
    }
    return {name: title for name, (title, content_of_it) in wanted.items() if content_of_it}


def _plot(content: Mapping[str, Any], name: str, description: str) -> dict[str, Markup]:
    """The plot for a page and for a phone; its SVG is our own, with all texts escaped by its writer."""
    return {
        form: Markup(inline(partial(PLOTS[name], content, form == "wide"), f"{name}-{form}", description))
        for form in ("wide", "narrow")
    }


def _rows_shown(content: Mapping[str, Any]) -> Iterator[str]:
    if content["diagnosis"]:
        yield from (each["id"] for each in content["diagnosis"]["errors"])
    yield from (each["id"] for each in content["label_errors"] or ())


def _shown(value: Any) -> Shown:
    if isinstance(value, Image.Image):
        return Shown(image=thumbnail(value))
    if isinstance(value, bytes):
        return Shown(sound=_address("audio/wav", value))
    texts = (value,) if isinstance(value, str) else tuple(value)
    return Shown(texts=tuple(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for text in texts))


def _names(value: Any) -> str:
    """A label, a number, or the labels of a multi-label row."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "no label"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
