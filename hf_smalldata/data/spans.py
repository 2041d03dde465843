"""Entities given as spans of characters, to words with tags: the form that most annotation tools export."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from hf_smalldata.data.table import first_of
from hf_smalldata.data.tags import Broken
from hf_smalldata.errors import Problems, listed

_LABEL_KEYS = ("label", "type", "tag", "entity", "entity_group")
_JOINERS = "\u200c\u200d"  # of Persian, of the scripts of India and of emoji
_UNSPACED = re.compile(  # Thai, Lao, Burmese, Khmer, kana, Han: written without blanks between words
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class _Span(NamedTuple):
    start: int  # of characters; of words in what `_placed` returns
    end: int
    label: str


def words(text: str) -> list[tuple[int, int]]:
    """Character spans of words: runs of letters and digits; every other sign but blanks stands alone.

    So hyphens and apostrophes part words ("HIV-1-positive", "Ann's"), as entities often end there. In scripts without
    blanks between words every letter stands alone, as it does for BERT in Chinese. Accents and joiners stay with the
    sign before them.
    """
    spans: list[tuple[int, int]] = []
    in_run = False
    for at, sign in enumerate(text):
        touches = bool(spans) and spans[-1][1] == at
        is_joined = unicodedata.category(sign)[0] == "M" or sign in _JOINERS
        is_run = sign.isalnum() and not _UNSPACED.match(sign)
        if touches and (is_joined or (is_run and in_run)):
            spans[-1] = (spans[-1][0], at + 1)
        elif not sign.isspace():
            spans.append((at, at + 1))
            in_run = is_run
    return spans


def tags_of_spans(
    texts: Sequence[str], spans: Sequence[Any], ids: Sequence[str], where: str, broken: Broken = "refuse"
) -> tuple[list[list[str]], list[list[int]], list[list[str]], list[str]]:
    """Words of texts and their IOB2 tags. Blanks at either end of a span are no part of the entity.

    Args:
        texts: N.
        spans: of each text, a list of `{start, end, label}` (or type, tag, entity, entity_group for label) or of
            `[start, end, label]`, in any order. Offsets count characters, not bytes, end exclusive.
        ids: of the texts.
        where: what messages call the source.
        broken: `repair` widens a span that cuts a word to whole words.

    Returns:
        Words, the offset of each word's first character, tags, and a warning if spans were widened.

    Raises:
        UserError: spans without start, end or label, outside the text, empty or blank, that overlap, or that cut a
            word; all named up to 20.
    """
    problems: list[str] = []
    widened: list[str] = []
    tokens, starts, tags = [], [], []
    for text, given, row_id in zip(texts, spans, ids, strict=True):
        cut = words(text)
        read, wrong = _read(text, given)
        placed, cutting = _placed(text, read, cut)
        if broken == "repair" and cutting:
            widened.append(row_id)
            cutting = []
        over = [
            f"{_shown(text, a)} and {_shown(text, b)} overlap or share a word; keep one"
            for a, b, in_words in zip(read, read[1:], pairwise(placed), strict=False)
            if b.start < a.end or (not cutting and in_words[1].start < in_words[0].end)
        ]
        problems += [f"{row_id}: {problem}" for problem in (*wrong, *over, *cutting)]
        tokens.append([text[start:end] for start, end in cut])
        starts.append([start for start, _ in cut])
        tags.append(_tagged(placed, len(cut)))
    if problems:
        raise Problems(where, first_of(problems))
    warnings = [f"{where}: widened spans that cut a word in {len(widened)} rows: {listed(widened)}"] if widened else []
    return tokens, starts, tags, warnings


def _read(text: str, given: Any) -> tuple[list[_Span], list[str]]:
    """Spans in order and without blanks around them, and what is wrong with the others."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [], [f"expected a list of spans, found {given!r:.80}"]
    found, problems = [], []
    for one in given:
        span = _span(one)
        if span is None:
            problems.append(f"expected a span such as {{start: 0, end: 5, label: PER}}, found {one!r:.80}")
        elif not 0 <= span.start < span.end <= len(text):
            problems.append(f"{_shown(text, span)} is empty or outside the text of {len(text)} characters")
        elif not (inner := text[span.start : span.end]).strip():
            problems.append(f"{_shown(text, span)} is nothing but blanks")
        else:
            start = span.end - len(inner.lstrip())
            found.append(_Span(start, start + len(inner.strip()), span.label))
    return sorted(found), problems


def _span(given: Any) -> _Span | None:
    if isinstance(given, Mapping):
        label = next((given[key] for key in _LABEL_KEYS if given.get(key) is not None), None)
        given = [given.get("start"), given.get("end"), label]
    if not isinstance(given, (list, tuple)) or len(given) != 3:
        return None
    start, end, label = given
    whole = all(isinstance(offset, int) and not isinstance(offset, bool) for offset in (start, end))
    return _Span(start, end, label.strip()) if whole and isinstance(label, str) and label.strip() else None


def _placed(text: str, spans: Sequence[_Span], cut: Sequence[tuple[int, int]]) -> tuple[list[_Span], list[str]]:
    """Spans of words instead of characters, and the spans that cut one."""
    starts, ends = [start for start, _ in cut], [end for _, end in cut]
    placed, cutting = [], []
    for span in spans:
        first, last = bisect_right(starts, span.start) - 1, bisect_left(ends, span.end)
        placed.append(_Span(first, last + 1, span.label))
        if (starts[first], ends[last]) != (span.start, span.end):
            whole = text[starts[first] : ends[last]]
            cutting.append(
                f"{_shown(text, span)} cuts a word of {whole!r:.80}; "
                "set data.broken_tags: repair to widen spans to whole words"
            )
    return placed, cutting


def _tagged(spans: Sequence[_Span], length: int) -> list[str]:
    tags = ["O"] * length
    for start, end, label in spans:
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags


def _shown(text: str, span: _Span) -> str:
    return f"span {span.start}:{span.end} {span.label} {text[max(0, span.start) : max(0, span.end)]!r:.60}"
