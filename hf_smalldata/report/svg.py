"""A matplotlib figure as an inline SVG that follows the page, or as a PNG file.

In the SVG text stays text in the page's font, colours are CSS custom properties, and ids carry the plot's name, for one
page holds many plots and a reference to `#m1` means the first of them.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from hf_smalldata.report.colours import LIGHT

_LINK = "{http://www.w3.org/1999/xlink}href"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_smalldata",
    "text.parse_math": False,  # a name with two $ is a name
    "font.size": 12.5,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["rule"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.linewidth": 1.0,
    "xtick.color": LIGHT["rule"],
    "ytick.color": LIGHT["rule"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.75,
    "lines.solid_capstyle": "butt",
}


def inline(draw: Callable[[], Figure], name: str, description: str) -> str:
    """The SVG element, one CSS pixel a point; the same figure gives the same bytes.

    Args:
        draw: makes the figure; called here, where settings of the user's own matplotlib do not reach.
        name: unique within the page.
        description: what a reader who cannot see it is told.
    """
    stream = StringIO()
    with _settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's browser has the font
        draw().savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())
    for element in root.iter():
        _follow_page(element, name)
    for child in root.findall("metadata") + [each for each in root.findall("defs") if each.find("style") is not None]:
        root.remove(child)  # matplotlib's address, and a style for all elements of the page
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"role": "img", "aria-label": description, "width": width, "height": height}
    return ElementTree.tostring(root, encoding="unicode")


def png(draw: Callable[[], Figure], file: Path, scale: float = 2.0) -> None:
    """The figure on white paper, `scale` pixels a point."""
    with _settings():
        figure = draw()
        figure.savefig(
            file, format="png", dpi=scale * figure.dpi, facecolor=LIGHT["paper"], metadata={"Software": None}
        )


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Our settings within, the user's again after."""
    with matplotlib.style.context("default"), matplotlib.rc_context(_SETTINGS):
        yield


def _follow_page(element: ElementTree.Element, name: str) -> None:
    """Roles for colours, the page's font, ids that no other plot has, and names as HTML knows them."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = element.attrib
    if "style" in attributes:
        style = re.sub(r"font-family: [^;]*;? ?", "", attributes["style"])
        attributes["style"] = re.sub(r"#[0-9a-f]{6}", lambda found: _ROLES[found[0]], style)
    if "d" in attributes:
        attributes["d"] = " ".join(attributes["d"].split())
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{name}-")
    if _LINK in attributes:
        attributes["href"] = f"#{name}-{attributes.pop(_LINK)[1:]}"


_ROLES = {colour: f"var(--{role})" for role, colour in LIGHT.items()}
