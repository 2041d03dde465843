"""Checks of the labels: how many rows each class has, and whether two names mean one class."""

from __future__ import annotations

from collections import Counter

from hf_smalldata.doctor.findings import Finding, fine, of_all, quoted
from hf_smalldata.doctor.sample import Sample

MOST_UNEVEN = 10  # largest class over smallest
FEW = {"rows": 4, "entities": 8}  # below: a class that no model learns
FEW_TEST_ROWS = 50
TYPO_SHARE = 0.1  # a misspelling has at most this share of the rows of the right spelling
_WORDS = (("classes", "rows", "row"), ("types", "entities", "entity"))
SHORTEST_TYPO = 5  # letters: 'cat' and 'car' are two words


def rows(data: Sample) -> Finding:
    """Rows and classes of each split."""
    counts = ", ".join(f"{len(part.labels):,} {split}" for split, part in data.parts.items())
    classes = f"; {len(data.names)} {_noun(data)}" if data.names else ""
    sentence = f"{counts}{classes}"
    test = data.parts.get("test")
    if "train" not in data.parts:
        return Finding("rows", "fail", "no training row is left", advice="add rows to learn from")
    if test is not None and len(test.labels) < FEW_TEST_ROWS:
        return Finding("rows", "warn", f"{sentence}: so few test rows tell good from better only roughly",
                       advice="use `study --folds 5`, which judges by every row")  # fmt: skip
    return fine("rows", sentence)


def classes(data: Sample) -> list[Finding]:
    """Class balance, classes that no training row has, and types of few entities."""
    if not data.names:
        return [_values(data)]
    counts = {split: _counts(data, split) for split in data.parts}
    train = Counter({name: counts.get("train", Counter())[name] for name in data.names})
    present = {name: count for name, count in train.items() if count}
    if len(present) < 2 and data.problem == "single_label_classification":
        return [Finding("classes", "fail", f"every training row has one class, {quoted(list(present))}",
                        advice="add rows of the other classes, or name another data.label_column")]  # fmt: skip
    return [_balance(data, train), *_unseen(data, counts)]


def label_names(data: Sample) -> Finding:
    """Names that differ in case and blanks only, or in a letter or two where one of them is rare."""
    if not data.names:
        return fine("label names", "labels are numbers")
    counts = sum((_counts(data, split) for split in data.parts), Counter[str]())
    alike = renames(data)
    suspects = [pair for pair in _misspelt(counts) if not set(pair) & set(alike)]
    blank = [name for name in data.names if name != name.strip()]
    if not alike and not suspects and not blank:
        return fine("label names", "no two names look like one")
    said = [f"{name!r} ({counts[name]:,} rows) beside {other!r} ({counts[other]:,} rows)"
            for name, other in [*alike.items(), *suspects]
            if other in counts]  # fmt: skip
    said += [f"{name!r} has blanks at its ends" for name in blank if alike.get(name) not in counts]
    wrong = {*alike, *(name for name, _ in suspects)}
    ids = [row_id for part in data.parts.values() for row_id, label in zip(part.ids, part.labels, strict=True)
           if data.classes(label) & wrong]  # fmt: skip
    advice = "give each class one spelling" + ("; --fix does where only case or blanks differ" if alike else "")
    return Finding("label names", "warn", "classes that may be one: " + "; ".join(said), tuple(ids), advice)


def renames(data: Sample) -> dict[str, str]:
    """Names to write otherwise: to the most frequent of those that differ in case and blanks only, without blanks."""
    counts = sum((_counts(data, split) for split in data.parts), Counter[str]())
    alike: dict[str, list[str]] = {}
    for name in data.names:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    best = {name: max(names, key=lambda each: (counts[each], each == each.strip())).strip()
            for names in alike.values() for name in names}  # fmt: skip
    return {name: right for name, right in best.items() if name != right}


def _values(data: Sample) -> Finding:
    values = [value for part in data.parts.values() for value in part.labels]
    lowest, highest = min(values), max(values)
    sentence = f"values from {lowest:g} to {highest:g}"
    if lowest == highest:
        return Finding("classes", "fail", f"{sentence}: nothing to learn", advice="name another data.label_column")
    return fine("classes", sentence)


def _balance(data: Sample, train: Counter[str]) -> Finding:
    noun, unit, one = _WORDS[data.problem == "token_classification"]
    present = Counter({name: count for name, count in train.items() if count})
    if not present:
        return Finding("classes", "fail", f"no training row has a label of the {len(data.names)} {noun}")
    (most, largest), (least, smallest) = present.most_common(1)[0], present.most_common()[-1]
    counts = f"{smallest:,} ({least}) to {largest:,} ({most})" if smallest < largest else f"{largest:,}"
    sentence = f"{counts} training {unit if largest > 1 else one} a {_noun(data, one=True)}"
    few = [name for name, count in present.items() if count < FEW[unit]]
    if few:
        return Finding("classes", "warn", f"{sentence}; fewer than {FEW[unit]}: {quoted(few)}",
                       advice=f"label more of them, or merge or drop these {noun}")  # fmt: skip
    if unit == "rows" and largest >= MOST_UNEVEN * smallest:
        return Finding("classes", "warn", f"{sentence}: uneven",
                       advice="read macro F1, not accuracy; try data.class_weights: auto")  # fmt: skip
    return fine("classes", sentence)


def _unseen(data: Sample, counts: dict[str, Counter[str]]) -> list[Finding]:
    found = []
    known = set(counts.get("train", Counter()))
    for split, part in data.parts.items():
        missing = [name for name in counts[split] if name not in known]
        if split == "train" or not missing:
            continue
        ids = [row_id for row_id, label in zip(part.ids, part.labels, strict=True)
               if data.classes(label) & set(missing)]  # fmt: skip
        hopeless = not set(counts[split]) & known
        sentence = (
            f"{of_all(len(ids), len(part.ids))} {split} rows have one of {len(missing)} {_noun(data)} that no training "
            f"row has: {quoted(missing)}"
        )
        advice = "they count as errors: label some for training, or drop them"
        if hopeless:
            advice = "no figure can mean anything: split the rows anew"
        found.append(Finding("classes", "fail" if hopeless else "warn", sentence, tuple(ids), advice))
    return found


def _counts(data: Sample, split: str) -> Counter[str]:
    if data.problem == "token_classification":
        return Counter(tag[2:] for label in data.parts[split].labels for tag in label if tag.startswith("B-"))
    return Counter(name for label in data.parts[split].labels for name in data.classes(label))


def _misspelt(counts: Counter[str]) -> list[tuple[str, str]]:
    """Pairs (rare, frequent) a letter or two apart."""
    found = []
    for rare, few in counts.items():
        near = [name for name, many in counts.items() if few <= TYPO_SHARE * many and _one_slip(rare, name)]
        if near:
            found.append((rare, max(near, key=lambda name: counts[name])))
    return found


def _one_slip(a: str, b: str) -> bool:
    """Whether one is the other with a letter left out, added, replaced, or two neighbours swapped; digits never."""
    short, long = sorted((a.casefold(), b.casefold()), key=len)
    if len(short) < SHORTEST_TYPO or len(long) - len(short) > 1 or short == long:
        return False
    at = next((place for place, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if any(letter.isdigit() for letter in short[at : at + 1] + long[at : at + 1]):
        return False  # class1 and class2
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[:at] + short[at : at + 2][::-1] + short[at + 2 :]
    return short[at + 1 :] == long[at + 1 :] or swapped == long


def _noun(data: Sample, one: bool = False) -> str:
    kinds = "types" if data.problem == "token_classification" else "classes"
    return {"types": "type", "classes": "class"}[kinds] if one or len(data.names) == 1 else kinds
