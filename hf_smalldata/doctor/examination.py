"""The examination: every check on every row, in a fixed order. Cheap enough to come before each training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hf_smalldata.data.load import Splits
from hf_smalldata.data.modality import Modality
from hf_smalldata.data.ties import near_duplicates, remember
from hf_smalldata.doctor import files, giveaways, labels, texts, twins
from hf_smalldata.doctor.findings import Finding, Report, fine
from hf_smalldata.doctor.lengths import Lengths, judged, lengths
from hf_smalldata.doctor.sample import MOST_ROWS, Sample, sample_of

ORDER = (
    "rows", "reading", "missing", "unreadable", "labels", "tags", "classes", "label names", "leaks", "near leaks",
    "groups", "conflicts", "duplicates", "near duplicates", "blank", "lengths", "sizes", "sampling rates", "letters",
    "characters", "languages", "giveaways",
)  # fmt: skip


def examine(splits: Splits, modality: Modality, model: Lengths | None = None) -> Report:
    """Examine rows that `load` read, before anything is held out of them or drawn.

    Of splits above 20,000 rows as many are drawn for what looks at contents or at pairs; leaks, duplicates and
    conflicts of texts are looked for in all rows.

    Args:
        splits: the rows.
        modality: of their inputs.
        model: how a model measures them, to say what is cut off.
    """
    return examined(sample_of(splits, modality), model)


def examined(data: Sample, model: Lengths | None = None, before: Sequence[Finding] = ()) -> Report:
    """The same of rows in the form that the checks see; `before` is what reading them found."""
    counts = {split: len(part.labels) for split, part in data.parts.items()}
    is_files = bool(data.modality.a_file_each)
    small = data.capped()
    found = [*before]
    if small is not data:
        found.append(_sampled(data, is_files))
    if is_files:
        data, made = _of_files(small, model)
        found += made
    elif "train" in data.parts:
        found += _of_letters(data, small, model)
    found += _of_all_kinds(data)
    ordered = sorted(found, key=lambda finding: ORDER.index(finding.name))
    return Report(tuple(ordered), counts, labels.renames(data))


def _of_all_kinds(data: Sample) -> list[Finding]:
    if "train" not in data.parts:
        return [labels.rows(data)]
    return [
        labels.rows(data), *labels.classes(data), labels.label_names(data), *twins.leaks(data), *twins.groups(data),
        twins.conflicts(data), twins.duplicates(data),
    ]  # fmt: skip


def _of_letters(data: Sample, small: Sample, model: Lengths | None) -> list[Finding]:
    kind = data.modality.kind
    near = _parted(small, near_duplicates(small.pool()))
    found = [*twins.near_leaks(small, near), twins.near_duplicates(small, near), lengths(small, model)]
    if kind == "sequence":
        return [*found, texts.letters(small)]
    found += [texts.characters(small), texts.languages(small)]
    return [*found, giveaways.words(small)] if kind == "text" and small.names else found


def _of_files(data: Sample, model: Lengths | None) -> tuple[Sample, list[Finding]]:
    """Rows that can be read, and what was found."""
    pool = data.pool()
    facts, numbers = files.look(data.modality.kind, pool)
    if all(each.unreadable is None for each in facts):
        remember(data.modality.contents(pool), numbers)
    by_id = dict(zip(pool["id"][:], facts, strict=True))
    near_by_id = dict(zip(by_id, numbers, strict=True))
    found = [files.unreadable(by_id)]
    data = data.without(found[0].ids)
    read = {row_id: each for row_id, each in by_id.items() if each.unreadable is None}
    if "train" not in data.parts:
        return data, found
    near = {split: [near_by_id[row_id] for row_id in part.ids] for split, part in data.parts.items()}
    found += [files.blank(read), *twins.near_leaks(data, near), twins.near_duplicates(data, near)]
    if data.names:
        found.append(giveaways.properties(data, files.in_train(data, read)))
    if data.modality.kind == "image":
        return data, [*found, files.sizes(read)]
    seconds = judged([each.seconds for each in read.values()], list(read), "seconds", model)
    return data, [*found, files.rates(read), seconds]


def _parted(data: Sample, numbers: Sequence[int]) -> Mapping[str, Sequence[int]]:
    """Numbers of the pool's rows by split."""
    parted, start = {}, 0
    for split, part in data.parts.items():
        parted[split] = numbers[start : start + len(part.labels)]
        start += len(part.labels)
    return parted


def _sampled(data: Sample, is_files: bool) -> Finding:
    large = ", ".join(split for split, part in data.parts.items() if len(part.labels) > MOST_ROWS)
    what = "all checks" if is_files else "checks of contents and of near-duplicates"
    return fine("rows", f"{what} looked at {MOST_ROWS:,} rows of {large}, drawn at random")
