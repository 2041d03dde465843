"""Images and sounds, each decoded once: what cannot be read, what shows or sounds nothing, and of what sizes they are.

Decoding is nearly all of the cost, so near-duplicates are looked for in the same pass.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from PIL import Image

from hf_smalldata.data import audio, images
from hf_smalldata.data.similar import Pair, groups
from hf_smalldata.doctor.findings import Finding, fine, of_all
from hf_smalldata.doctor.sample import Sample
from hf_smalldata.errors import UserError

HASH_RATE_HZ = 8000
AT_ONCE = 8  # decoded at the same time
SMALL_SIDE = 32  # pixels; smaller ones hold less than what near copies are told by: digits of one class seem the same
VERY_DIFFERENT = 4  # largest side of an image over the smallest of another

_COULD_NOT = re.compile(r"expected .*, could not \w+ it \((.*)\); mend or remove it", re.DOTALL)


class Facts(NamedTuple):
    """What one file is like."""

    unreadable: str | None = None
    blank: str | None = None  # why nobody could see or hear anything in it
    doubt: str | None = None  # what is odd, though there is something in it
    size: tuple[int, int] = (0, 0)  # of images
    seconds: float = 0.0  # of sounds
    rate_hz: int = 0
    properties: tuple[str, ...] = ()


def look(kind: str, rows: Dataset) -> tuple[list[Facts], list[int]]:
    """The facts of each row, and a number a row that nearly equal rows share.

    Args:
        kind: image or audio.
        rows: with the column of that name.
    """
    facts: list[Facts] = []
    read: list[int] = []

    def decoded() -> Iterator[Any]:
        for at, (found, content) in enumerate(_decode_all(_image if kind == "image" else _sound, kind, rows)):
            facts.append(found)
            if found.unreadable is None:
                read.append(at)
                yield content

    pairs = _pairs(kind, decoded())
    large = {at for at, each in enumerate(facts) if kind != "image" or min(each.size) >= SMALL_SIDE}
    back = [Pair(read[pair.first], read[pair.second], pair.similarity) for pair in pairs]
    back = [pair for pair in back if {pair.first, pair.second} <= large]
    return facts, groups(back, len(rows))


def unreadable(facts: Mapping[str, Facts]) -> Finding:
    """Files that cannot be decoded; `facts` by row id."""
    bad = {row_id: each.unreadable for row_id, each in facts.items() if each.unreadable is not None}
    if not bad:
        return fine("unreadable", f"all {len(facts):,} files can be read")
    reasons = "; ".join(f"{row_id}: {reason}" for row_id, reason in list(bad.items())[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    return Finding("unreadable", "fail", f"{of_all(len(bad), len(facts))} files can't be read: {reasons}{more}",
                   tuple(bad), "mend them or take them out", bad)  # fmt: skip


def blank(facts: Mapping[str, Facts]) -> Finding:
    """Files of one colour, nearly black, silent, or clipped."""
    empty = {row_id: each.blank for row_id, each in facts.items() if each.blank is not None}
    odd = {row_id: each.doubt for row_id, each in facts.items() if each.doubt is not None}
    if not empty and not odd:
        return fine("blank", "no file is blank")
    reasons = Counter([_kind_of(reason) for reason in [*empty.values(), *odd.values()]])
    said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return Finding("blank", "warn", f"{of_all(len(empty) + len(odd), len(facts))} files look or sound wrong: {said}",
                   (*empty, *odd), "look at them; take out what holds nothing",
                   {row_id: str(reason) for row_id, reason in empty.items()})  # fmt: skip


def sizes(facts: Mapping[str, Facts]) -> Finding:
    """Sides of images in pixels, and their mix."""
    sides = sorted((min(each.size), max(each.size), row_id) for row_id, each in facts.items())
    smallest, largest = sides[0][0], max(side for _, side, _ in sides)
    common, count = Counter(each.size for each in facts.values()).most_common(1)[0]
    sentence = f"sides of {smallest:,} to {largest:,} pixels"
    if count == len(facts):
        sentence = f"all are {common[0]:,} x {common[1]:,} pixels"
    tiny = tuple(row_id for side, _, row_id in sides if side < SMALL_SIDE)
    if len(tiny) == len(facts):
        return fine("sizes", f"{sentence}: too small to look for near copies")
    if tiny:
        return Finding("sizes", "warn", f"{sentence}; {of_all(len(tiny), len(facts))} have a side below {SMALL_SIDE}",
                       tiny, "thumbnails, or icons that were saved with the pictures: look at them")  # fmt: skip
    short_sides = [short for short, _, _ in sides]
    spread = short_sides[int(0.95 * (len(sides) - 1))] / max(short_sides[int(0.05 * len(sides))], 1)
    if spread >= VERY_DIFFERENT:
        return Finding("sizes", "warn", f"{sentence}; of very different sizes", (),
                       "all are scaled to one size: make sure that size says nothing of the class")  # fmt: skip
    return fine("sizes", sentence)


def rates(facts: Mapping[str, Facts]) -> Finding:
    """Sampling rates of sounds, and their mix."""
    counts = Counter(each.rate_hz for each in facts.values())
    said = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in counts.most_common())
    rare = {rate for rate, count in counts.items() if rate != counts.most_common(1)[0][0]}
    if not rare:
        low = next(iter(counts)) < audio.LOWEST_RATE_HZ
        return Finding("sampling rates", "warn" if low else "pass", f"all at {next(iter(counts)):,} Hz",
                       advice="most pretrained models heard 16,000 Hz" if low else "")  # fmt: skip
    ids = tuple(row_id for row_id, each in facts.items() if each.rate_hz in rare)
    return Finding("sampling rates", "warn", f"several sampling rates: {said}", ids,
                   "low rates lack high tones, which tells recordings apart: resample all to the lowest")  # fmt: skip


def in_train(data: Sample, facts: Mapping[str, Facts]) -> list[tuple[str, ...]]:
    """The properties of each training row."""
    return [facts[row_id].properties for row_id in data.parts["train"].ids]


def _pairs(kind: str, decoded: Iterator[Any]) -> list[Pair]:
    if kind == "image":
        from hf_smalldata.data.similar_images import similar_images

        return similar_images(decoded)
    from hf_smalldata.data.similar_sounds import similar_sounds

    return similar_sounds(decoded, HASH_RATE_HZ)


def _decode_all(
    decode: Callable[[Any, Any], tuple[Facts, Any]], kind: str, rows: Dataset
) -> Iterator[tuple[Facts, Any]]:
    """In order, a few at a time: decoders let go of Python's lock, so two cores are used."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            windows = some.get("window", [None] * len(some[kind]))
            yield from threads.map(decode, some[kind], windows)


def _image(value: Mapping[str, Any], window: Sequence[float] | None) -> tuple[Facts, Any]:
    try:
        shown = images.open_image(value, window)
        blank = images.image_problems(shown) if _may_be_blank(shown) else None
        deep = _bits_unlike_a_picture(value)
        doubt = images.image_problems(value, window) if deep and blank is None else None
    except UserError as error:
        return Facts(unreadable=_reason(error, value)), None
    kinds = (f"{shown.width} x {shown.height} pixels", f"a {_suffix(value)} file")
    return Facts(blank=blank, doubt=doubt, size=shown.size, properties=kinds), shown


def _sound(value: Mapping[str, Any], _: Any) -> tuple[Facts, Any]:
    try:
        facts = audio.sound_facts(value)
        if facts.seconds < audio.SHORTEST_S:
            return Facts(unreadable=f"expected at least {audio.SHORTEST_S} seconds, found {facts.seconds:.3g}"), None
        heard = audio.open_audio(value, facts.rate_hz)
    except UserError as error:
        return Facts(unreadable=_reason(error, value)), None
    problem = audio.sound_problems(heard)
    silent = problem if problem is not None and "clipped" not in problem else None
    small = heard if silent else audio.open_audio({"array": heard, "sampling_rate": facts.rate_hz}, HASH_RATE_HZ)
    kinds = (f"{facts.rate_hz} Hz", f"{facts.channels} channels", f"a {_suffix(value)} file")
    found = Facts(blank=silent, doubt=None if silent else problem, seconds=facts.seconds, rate_hz=facts.rate_hz,
                  properties=kinds)  # fmt: skip
    return found, small


def _may_be_blank(image: Image.Image) -> bool:
    """False of nearly every image, by its histograms, ten times as fast as `image_problems` looks at its pixels."""
    pixels, counts = image.width * image.height, image.histogram()
    bands = [counts[at : at + 256] for at in range(0, len(counts), 256)]
    return all(max(b) == pixels or sum(b[: images.NEARLY_BLACK]) >= images.MOST_BLACK * pixels for b in bands)


def _bits_unlike_a_picture(value: Mapping[str, Any]) -> bool:
    """Whether a file may be 16-bit: only these can hold 12 bits that come out dark."""
    name = str(value.get("path") or "").lower()
    return name.endswith((".png", ".tif", ".tiff", ".pgm")) and _mode(value).startswith("I")


def _mode(value: Mapping[str, Any]) -> str:
    with Image.open(BytesIO(value["bytes"]) if value.get("bytes") is not None else value["path"]) as image:
        return str(image.mode)


def _suffix(value: Mapping[str, Any]) -> str:
    return Path(str(value.get("path") or "")).suffix.lower() or "nameless"


def _reason(error: UserError, value: Mapping[str, Any]) -> str:
    """The message less the path that it begins with and the advice that it ends with."""
    message = str(error).removeprefix(f"{value.get('path')}: ")
    inner = _COULD_NOT.fullmatch(message)
    return inner[1] if inner else message


def _kind_of(reason: str) -> str:
    return reason.partition(":")[0].removeprefix("is ")
