"""Tags of tokens: whatever scheme a source writes entities in, read to IOB2, and to one order of tag names.

O is outside. IOB2 begins every entity with B- and goes on with I-; IOB1 begins with I-, and with B- only where the
entity before it touches and is of the same type; IO has I- (or the bare type) alone and cannot part touching entities;
BILOU marks the last token (L-) and entities of one token (U-) too, and IOBES is the same with E- and S- (BMEWO with M-
and W-: read alike). Files often hold tags that their scheme does not know: they are named, and guessed at if asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from hf_smalldata.data.table import first_of
from hf_smalldata.errors import Problems, UserError, listed

Scheme = Literal["IOB1", "IOB2", "BILOU", "IOBES", "IO"]
Broken = Literal["refuse", "repair"]

_PREFIXED = re.compile(r"([BIESLUMW])[-_](.*\S)", re.IGNORECASE)
_LIKE_IOBES = {"L": "E", "U": "S", "M": "I", "W": "S"}
_REPAIR = "set data.tag_scheme if it is another scheme, or data.broken_tags: repair to read them as conlleval does"


class _Tag(NamedTuple):
    letter: str  # O, B, I, E or S; of a tag that is none, how a repair reads it
    type: str = ""
    is_tag: bool = True


_OUTSIDE = _Tag("O")


def detect(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of tags. Pass all training rows: one sentence often fits several schemes.

    Tags without a prefix, or with no other than I-, are IO; of BMEWO the answer is IOBES. Where neither IOB1 nor IOB2
    fits, it is the one that fits more of the places where an entity begins.
    """
    held = [list(sentence) for sentence in sentences]
    used = {tag for sentence in held for tag in sentence}
    if not _has_prefixes(used):
        return "IO"
    letters = {found[1].upper() for tag in used if (found := _PREFIXED.fullmatch(tag))}
    if letters & {"L", "U"}:
        return "BILOU"
    if letters & {"E", "S", "M", "W"}:
        return "IOBES"
    if "B" not in letters:
        return "IO"
    begun = Counter(
        now.letter
        for sentence in _parsed(held, prefixed=True)
        for before, now in pairwise([_OUTSIDE, *sentence])
        if now.type != before.type and now.type
    )
    return "IOB1" if begun["I"] > begun["B"] else "IOB2"


def to_iob2(
    sentences: Iterable[Sequence[str]],
    ids: Sequence[str],
    where: str,
    scheme: Scheme | None = None,
    broken: Broken = "refuse",
) -> tuple[list[list[str]], list[str]]:
    """Tags of any scheme in IOB2: `B-PER`, `I-PER`, `O`, whatever the case and the sign of their prefixes.

    Args:
        sentences: tags, a list a row.
        ids: of the rows.
        where: what messages call the source.
        scheme: of the tags; found when None. Held-out rows are to be read by the training rows' scheme. BILOU and IOBES
            are read alike, and so are IO and IOB1.
        broken: `repair` reads broken tags as conlleval and seqeval do: an I- with nothing to go on with begins an
            entity, and an entity ends where the next begins. An unknown prefix, or none, is I- if the type is known
            from other tags; anything else is O.

    Returns:
        Tags, and a warning if some were repaired.

    Raises:
        UserError: broken tags, all rows named up to 20: tags the scheme does not know, entities that are gone on with
            before they begin, or (BILOU, IOBES) are never ended.
    """
    held = [list(sentence) for sentence in sentences]
    found = scheme or detect(held)
    prefixed = found != "IO" or _has_prefixes({tag for sentence in held for tag in sentence})
    parsed = list(_parsed(held, prefixed))
    faults = [_faults(tags, sentence, found) for tags, sentence in zip(parsed, held, strict=True)]
    rows = [row_id for row_id, fault in zip(ids, faults, strict=True) if fault]
    warnings = []
    if rows:
        count = sum(map(len, faults))
        what = f"{count} {'tag' if count == 1 else 'tags'} in {len(rows)} of {len(held)} rows"
        if broken == "refuse":
            lines = [f"{row_id}: {listed(fault, 3)}" for row_id, fault in zip(ids, faults, strict=True) if fault]
            raise UserError(
                "\n  ".join(
                    [f"{where}: expected {found} tags, found {what} that are broken; {_REPAIR}", *first_of(lines)]
                )
            )
        warnings = [f"{where}: read {what} as conlleval does, since they break {found}: {listed(rows)}"]
    return [_in_iob2(sentence) for sentence in parsed], warnings


def tag_names(sentences: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """`("O", "B-a", "I-a", "B-b", ...)` for IOB2 tags: types by alphabet, each with both its tags."""
    types = sorted({tag[2:] for sentence in sentences for tag in sentence} - {""})
    return ("O", *(f"{letter}-{name}" for name in types for letter in "BI"))


def check_lengths(
    tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[object]], ids: Sequence[str], where: str
) -> None:
    """Check that every row has a tag for each token.

    Raises:
        UserError: rows with more or fewer tags than tokens, named up to 20.
    """
    problems = [
        f"{row_id}: expected a tag a token, found {len(given)} tags for {len(words)} tokens"
        for row_id, words, given in zip(ids, tokens, tags, strict=True)
        if len(words) != len(given)
    ]
    if problems:
        raise Problems(where, first_of(problems))


def _has_prefixes(used: Iterable[str]) -> bool:
    """Whether tags carry prefixes; bare types may look like one or the other, such as E-mail."""
    types = [tag for tag in used if tag not in ("O", "o")]
    letters = [found[1].upper() if (found := _PREFIXED.fullmatch(tag)) else "" for tag in types]
    return bool({"B", "I"} & set(letters)) or (bool(letters) and all(letters))


def _parsed(sentences: Sequence[Sequence[str]], prefixed: bool) -> Iterator[list[_Tag]]:
    used = {tag for sentence in sentences for tag in sentence}
    known = {found[2] for tag in used if (found := _PREFIXED.fullmatch(tag))}
    tags = {tag: _parse(tag, prefixed, known) for tag in used}
    return ([tags[tag] for tag in sentence] for sentence in sentences)


def _parse(tag: str, prefixed: bool, known: set[str]) -> _Tag:
    if tag in ("O", "o"):
        return _OUTSIDE
    if not prefixed:
        return _Tag("I", tag) if tag.strip() else _Tag("O", is_tag=False)
    if found := _PREFIXED.fullmatch(tag):
        letter = found[1].upper()
        return _Tag(_LIKE_IOBES.get(letter, letter), found[2])
    kind = next((kind for kind in (tag, tag[2:]) if kind in known), "")
    return _Tag("I" if kind else "O", kind, is_tag=False)


def _faults(tags: Sequence[_Tag], written: Sequence[str], scheme: Scheme) -> list[str]:
    """`I-PER (token 3)` for each tag that the scheme does not allow where it stands; tokens count from 1."""
    faults = [
        f"{name!r} (token {at})"
        for at, (name, (before, now)) in enumerate(zip(written, pairwise([_OUTSIDE, *tags]), strict=True), start=1)
        if not _is_allowed(before, now, scheme)
    ]
    if scheme in ("BILOU", "IOBES") and tags and tags[-1].letter in "BI":
        faults.append(f"{written[-1]!r} (the last token) is never ended")
    return faults


def _is_allowed(before: _Tag, now: _Tag, scheme: Scheme) -> bool:
    if not now.is_tag:
        return False
    if scheme in ("BILOU", "IOBES"):
        is_open, goes_on = before.letter in "BI", now.letter in "IE"
        return is_open == goes_on and (not goes_on or before.type == now.type)
    if now.letter in "ES":
        return False
    begins = "I" if scheme == "IOB2" else "B"  # the prefix that must not stand where nothing of its type precedes
    return now.letter != begins or before.type == now.type


def _in_iob2(tags: Sequence[_Tag]) -> list[str]:
    return [
        f"{'B' if now.letter in 'BS' or now.type != before.type or before.letter in 'ES' else 'I'}-{now.type}"
        if now.type
        else "O"
        for before, now in pairwise([_OUTSIDE, *tags])
    ]
