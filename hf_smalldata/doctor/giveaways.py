"""Signs that give the class away and have nothing to do with it: a signature, the label itself, a size of picture.

A scanner's stamp on all images of the ill, a category that was left in the text: a model learns these first, looks
perfect on the test rows, and fails where they are missing. A word may of course belong to its class, so all that is
said is: look.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hf_smalldata.doctor.findings import Finding, fine
from hf_smalldata.doctor.sample import Label, Sample

FEWEST = 8  # rows of a class, below which anything tells it by chance
NEARLY_ALL = 0.9  # of the rows of a class
MUCH = 0.5  # of them, where the sign is never wrong
OF_ALL_ROWS = 0.05  # a sign of many rows; words of one small class are mostly its own
NEVER_WRONG = 0.995
HARDLY_WRONG = 0.98
NAMES_GIVEN = 0.5  # of the classes: in one or two of many, the name is just the word for it
_WORD = re.compile(r"\w+")


class Sign(NamedTuple):
    """What tells a class."""

    sign: str
    name: str
    of_class: float  # share of the class's rows that have it
    right: float  # share of the rows with it that are of the class


def words(data: Sample) -> Finding:
    """A word that tells a class, or the names of classes in their texts."""
    texts, labels = data.texts["train"], data.parts["train"].labels
    plain = [_plain(text) for text in texts]
    named = names_in(plain, labels, data)
    if named:
        shares = ", ".join(f"'{each.sign}' in {each.of_class:.0%}" for each in named[:3])
        return Finding("giveaways", "warn", f"texts hold the name of their class, and others' texts do not: {shares}",
                       advice="if it was left in by mistake, take it out")  # fmt: skip
    return _said([set(text.split()) for text in plain], labels, data, "the word")


def properties(data: Sample, found: Sequence[Iterable[str]]) -> Finding:
    """The same of files: `found` are the properties of each training row, such as '640 x 480 pixels'."""
    return _said([set(each) for each in found], data.parts["train"].labels, data, "the property")


def paths(data: Sample, given: Mapping[str, str], column: str) -> list[Finding]:
    """Paths of training rows, by id, that hold their class."""
    part = data.parts["train"]
    texts = [_plain(given.get(row_id, "").replace("_", " ")) for row_id in part.ids]
    found = names_in(texts, part.labels, data)
    if not found:
        return []
    names = [each.name for each in found][:5]
    return [Finding("giveaways", "warn", f"paths in '{column}' hold the label: {', '.join(names)}",
                    advice="a model reads the files and not their names: keep names out of other inputs")]  # fmt: skip


def names_in(texts: Sequence[str], labels: Sequence[Label], data: Sample) -> list[Sign]:
    """Names that stand in most texts of their class and in hardly any other, if that is so for half of the classes.

    Args:
        texts: in lower case, words parted by single blanks.
        labels: one a text.
        data: what knows the classes of a label.
    """
    classes = [data.classes(label) for label in labels]
    sizes = Counter(name for each in classes for name in each)
    large = [name for name, size in sizes.items() if size >= FEWEST and name in data.names]
    found = []
    for name in large:
        wanted = _plain(name.replace("_", " "))
        if not wanted:
            continue
        holds = [f" {wanted} " in f" {text} " for text in texts]
        inside = sum(has and name in each for has, each in zip(holds, classes, strict=True))
        right = inside / max(sum(holds), 1)
        if inside >= NEARLY_ALL * sizes[name] and right >= HARDLY_WRONG:
            found.append(Sign(wanted, name, inside / sizes[name], right))
    return found if len(found) >= NAMES_GIVEN * len(large) else []


def signs(tokens: Sequence[set[str]], labels: Sequence[Label], data: Sample) -> list[Sign]:
    """Tokens that tell a class: nearly always there and hardly ever wrong, or often there and never wrong."""
    classes = [data.classes(label) for label in labels]
    sizes = Counter(name for each in classes for name in each)
    total = Counter(token for each in tokens for token in each)
    pairs = zip(tokens, classes, strict=True)
    both = Counter((token, name) for each, names in pairs for token in each for name in names)
    found = []
    for (token, name), count in both.items():
        of_class, right = count / sizes[name], count / total[token]
        if count < FEWEST or sizes[name] > NEARLY_ALL * len(labels):  # most rows are of this class anyway
            continue
        whole = of_class >= NEARLY_ALL and right >= HARDLY_WRONG
        part = of_class >= MUCH and right >= NEVER_WRONG and count >= max(OF_ALL_ROWS * len(labels), 2 * FEWEST)
        if whole or part:
            found.append(Sign(token, name, of_class, right))
    return sorted(found, key=lambda each: (-each.of_class, each.sign))


def _said(tokens: Sequence[set[str]], labels: Sequence[Label], data: Sample, what: str) -> Finding:
    found = signs(tokens, labels, data)
    if not found:
        return fine("giveaways", f"{what.replace('the', 'no')} tells a class by itself")
    said = [f"'{each.sign}' in {each.of_class:.0%} of {each.name!r}, {each.right:.1%} right" for each in found]
    shown = "; ".join(said[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return Finding("giveaways", "warn", f"{what} alone tells the class: {shown}{more}",
                   advice="if it has nothing to do with the class (a signature, a source), take it out")  # fmt: skip


def _plain(text: str) -> str:
    """Words in lower case, parted by single blanks."""
    return " ".join(_WORD.findall(text.casefold()))
