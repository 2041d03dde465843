"""Checks of letters: texts saved with a wrong encoding, texts in several languages, sequences of unknown letters.

Languages are told by py3langid (97 of them, by the letters of a text; 0.1 ms each) and not by scripts alone, since a
set of English and German texts is the mix that is met most. Short texts tell too little: only longer ones are asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from hf_smalldata.data.holdout import key
from hf_smalldata.data.sequences import UNKNOWN, guess_alphabet
from hf_smalldata.doctor.findings import Finding, fine, of_all
from hf_smalldata.doctor.sample import Sample

TEXTS_ASKED = 400
SHORTEST_ASKED = 60  # letters
SURE = 0.99  # of the language, as py3langid says; among shorter or stranger texts it guesses
SECOND_LANGUAGE = 0.05  # share of the texts from which another language is said
FEWEST_TOLD = 20
MUCH_UNKNOWN = 0.1  # share of a sequence

_ODD = re.compile(r"[^\x00-\x7f]{2,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def characters(data: Sample) -> Finding:
    """Texts read with a wrong encoding ('Ã©' for 'é'), characters that were lost, control characters."""
    causes: dict[str, dict[str, str]] = {"mojibake": {}, "lost": {}, "control": {}}
    for row_id, text in _rows(data):
        if _ODD.search(text) and (found := _mojibake(text)):
            causes["mojibake"][row_id] = found
        if "\ufffd" in text:
            causes["lost"][row_id] = "\ufffd"
        if _CONTROL.search(text.replace("\0", "", 1)):
            causes["control"][row_id] = ""
    count, said, advice = data.count(), [], []
    if rows := causes["mojibake"]:
        said.append(f"{of_all(len(rows), count)} texts were read with a wrong encoding ({next(iter(rows.values()))})")
        advice.append("read the source again as utf-8, or run ftfy over it")
    if rows := causes["lost"]:
        said.append(f"{of_all(len(rows), count)} hold characters that were lost in an earlier conversion ('\ufffd')")
        advice.append("go back to the source")
    if rows := causes["control"]:
        said.append(f"{of_all(len(rows), count)} hold control characters")
        advice.append("remove control characters")
    if not said:
        return fine("characters", "no sign of a wrong encoding")
    ids = tuple(dict.fromkeys(row_id for rows in causes.values() for row_id in rows))
    return Finding("characters", "warn", "; ".join(said), ids, "; ".join(advice))


def languages(data: Sample) -> Finding:
    """The languages of a few hundred of the longer texts."""
    long = [(row_id, text) for row_id, text in _rows(data) if len(text) >= SHORTEST_ASKED]
    asked = sorted(long, key=lambda row: key(0, row[0]))[:TEXTS_ASKED]
    told: dict[str, list[str]] = {}
    for row_id, text in asked:
        language, confidence = _identifier().classify(text)
        if confidence >= SURE:
            told.setdefault(language, []).append(row_id)
    total = sum(map(len, told.values()))
    if total < FEWEST_TOLD:
        return fine("languages", "texts are too few or too short to tell")
    counts = Counter({language: len(rows) for language, rows in told.items()})
    (main, many), *others = counts.most_common()
    others = [(language, count) for language, count in others if count >= SECOND_LANGUAGE * total]
    if not others:
        return fine("languages", f"{main} ({many / total:.0%} of {total} texts looked at)")
    mix = ", ".join(f"{language} {count / total:.0%}" for language, count in [(main, many), *others])
    ids = tuple(row_id for language, _ in others for row_id in told[language])
    return Finding("languages", "warn", f"several languages: {mix} of {total} texts looked at", ids,
                   "take a multilingual model, or keep one language")  # fmt: skip


def letters(data: Sample) -> Finding:
    """The alphabet of sequences, and those with many unknown letters."""
    alphabet = guess_alphabet([text for _, text in _rows(data)])
    unknown = UNKNOWN[alphabet]
    ids = tuple(row_id for row_id, text in _rows(data) if text.count(unknown) > MUCH_UNKNOWN * len(text))
    if not ids:
        return fine("letters", f"{alphabet}, hardly any {unknown}")
    sentence = f"{alphabet}; {of_all(len(ids), data.count())} sequences are more than a tenth {unknown}"
    return Finding("letters", "warn", sentence, ids, f"{unknown} says nothing to a model: drop or shorten them")


def _rows(data: Sample) -> Iterator[tuple[str, str]]:
    for split, part in data.parts.items():
        yield from zip(part.ids, data.texts[split], strict=True)


def _mojibake(text: str) -> str | None:
    """`'Ã©' for 'é'` if a run of letters is utf-8 that was read as Windows-1252 or Latin-1: hardly ever by chance."""
    for run in _ODD.findall(text):
        for start in range(len(run) - 1):  # other letters may stand before it
            for length in (4, 3, 2):
                piece = run[start : start + length]
                meant = _reread(piece)
                if meant is not None and len(meant) == 1 and len(piece) == length:
                    return f"'{piece}' for '{meant}'"
    return None


def _reread(piece: str) -> str | None:
    try:
        return b"".join(_byte(letter) for letter in piece).decode("utf-8")
    except UnicodeError:
        return None


def _byte(letter: str) -> bytes:
    """Windows-1252, and Latin-1 for the five bytes that it leaves open."""
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")


@cache
def _identifier() -> Any:
    """Half a second to unpack: once a process, and not at all where no text is long enough to be asked."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped,unused-ignore]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
