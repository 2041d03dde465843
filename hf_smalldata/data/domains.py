"""Rows beside the labelled ones: rows without labels, and labelled rows of other domains.

Labels are dear, rows mostly are not: thousands without labels, and labelled ones of a related domain, often lie beside
the few that a model is wanted for. They are learnt from, so none of them may be a row that judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Value, concatenate_datasets

from hf_smalldata.data.columns import find_input
from hf_smalldata.data.files import read_lines
from hf_smalldata.data.load import LABEL_FEATURES, Splits, load
from hf_smalldata.data.modality import Kind, get_modality, modality_of
from hf_smalldata.data.source import read
from hf_smalldata.data.spec import DataSpec, ProblemType
from hf_smalldata.data.stream import draw_rows
from hf_smalldata.data.table import Table, is_missing
from hf_smalldata.errors import Problems, UserError, did_you_mean, listed

REST = "rest"  # as a source of unlabelled rows: the training rows that are not drawn
FEWEST = 8  # unlabelled rows that tell anything of their domain
TRANSDUCTIVE = "these are results of transductive learning"  # how a note of them ends


def with_domains(splits: Splits, spec: DataSpec, kind: Kind, fewest_classes: int = 2) -> Splits:
    """Splits with the rows of `data.unlabelled` and `data.source`, where these are given.

    Args:
        splits: of the target.
        spec: of all rows.
        kind: what the task reads.
        fewest_classes: that each source must have.

    Raises:
        UserError: sources that cannot be read, too few rows, or labels that are not those of the target.
    """
    if spec.unlabelled == REST and spec.labels_per_class is None and spec.fraction is None:
        raise UserError("data.unlabelled: 'rest' is what labels_per_class or fraction does not draw; give one of them")
    warnings = [*splits.warnings]
    if spec.unlabelled not in (None, REST):
        unlabelled, said = _unlabelled(spec, kind)
        splits, warnings = replace(splits, unlabelled=unlabelled), warnings + said
    if spec.source is not None:
        source, own, said = _labelled(splits, spec, kind, fewest_classes)
        splits, warnings = replace(splits, source=source, source_labels=own), warnings + said
    return replace(splits, warnings=tuple(warnings))


def apart(splits: Splits, spec: DataSpec) -> Splits:
    """Splits of which no row that judges is learnt from: after test and validation rows are held out.

    Rows that were held out of the training rows are taken out of the others; with `data.transductive` unlabelled ones
    stay.

    Raises:
        UserError: unlabelled or source rows are in a test or validation set that was given.
    """
    said: list[str] = []
    source = _without_judges("source", splits.source, splits, spec, said)
    unlabelled = _without_judges("unlabelled", splits.unlabelled, splits, spec, said)
    _check_count(unlabelled)
    return replace(splits, source=source, unlabelled=unlabelled, warnings=(*splits.warnings, *said))


def _without_judges(name: str, rows: Dataset | None, splits: Splits, spec: DataSpec, said: list[str]) -> Dataset | None:
    """Rows without those that judge; what was found is added to `said`."""
    for split, held in (("test", splits.test), ("validation", splits.validation)):
        if rows is None or held is None:
            continue
        theirs = set(modality_of(held).ties(held))
        mine = modality_of(rows).ties(rows)
        both = [at for at, tie in enumerate(mine) if tie in theirs]
        found = f"{len(both)} of {len(rows)} {name} rows are {split} rows"
        if both and name == "unlabelled" and spec.transductive:
            said.append(f"{found}, without their labels: {TRANSDUCTIVE}")
        elif both and (getattr(spec, split) is not None or spec.name is not None):
            ways = "" if name == "source" else ", or say data.transductive: true, which the card then tells"
            shown = listed(rows.select(both)["id"][:], 5)
            raise UserError(f"data.{name}: {found} ({shown}): a model must not learn from what judges it; take them out"
                            + ways)  # fmt: skip
        elif both:
            said.append(f"{found} and are left out")
            rows = rows.select([at for at, tie in enumerate(mine) if tie not in theirs])
    return rows


def rest(pool: Dataset, drawn: Dataset) -> Dataset:
    """The rows of a pool that were not drawn, without their labels."""
    taken = set(drawn["id"][:])
    rows = pool.select([at for at, row_id in enumerate(pool["id"][:]) if row_id not in taken])
    rows = rows.remove_columns([name for name in ("label", "group") if name in rows.column_names])
    _check_count(rows)
    return rows.add_column("domain", ["rest"] * len(rows), feature=Value("string"))


def with_labels(rows: Dataset, labels: tuple[str, ...], problem_type: ProblemType) -> Dataset:
    """Rows that have no labels with some of no meaning, for what carries labels along; others as they are."""
    if "label" in rows.column_names:
        return rows
    if problem_type == "token_classification":
        given: list[Any] = [[0] * len(words) for words in rows["tokens"][:]]
    else:
        one = {"multi_label_classification": [0.0] * len(labels), "regression": 0.0}.get(problem_type, 0)
        given = [one] * len(rows)
    return rows.add_column("label", given, feature=LABEL_FEATURES[problem_type])


def at_most(rows: Dataset, most: int, seed: int) -> Dataset:
    """Rows, in their order; where there are more than `most` a draw of so many."""
    if len(rows) <= most:
        return rows
    drawn = np.random.default_rng([seed, 5]).choice(len(rows), most, replace=False)
    return rows.select(np.sort(drawn).tolist())


def _check_count(rows: Dataset | None) -> None:
    if rows is not None and len(rows) < FEWEST:
        raise UserError(f"data.unlabelled: expected {FEWEST} rows or more, found {len(rows)}; so few say nothing of a "
                        "domain, leave them out")  # fmt: skip


def _unlabelled(spec: DataSpec, kind: Kind) -> tuple[Dataset, list[str]]:
    """Rows with an input: columns id, domain and input; and what was left out."""
    modality, parts, warnings = get_modality(kind), list[Dataset](), list[str]()
    sources = named(spec.unlabelled or ())
    for source, domain in sources:
        table = table_of(source, spec, kind, len(sources))
        of_files = modality.a_file_each and Path(source).expanduser().is_dir()
        column = kind if of_files else find_input(table, spec, kind)
        if spec.text_pair_column is not None and spec.text_pair_column not in table.columns:
            raise UserError(f"data.unlabelled: {table.where} has no column '{spec.text_pair_column}' for the second "
                            f"text; found {listed(list(table.columns))}")  # fmt: skip
        columns = [table.columns[name] for name in (column, spec.text_pair_column) if name is not None]
        rows = [at for at in range(len(table.ids)) if not any(is_missing(cells[at]) for cells in columns)]
        if len(rows) < len(table.ids):
            warnings.append(f"{table.where}: {len(table.ids) - len(rows)} unlabelled rows have no input; left out")
        if not rows:
            raise UserError(f"data.unlabelled: {table.where} has no row with an input")
        settled = modality.settled(spec, [table.columns[column]])
        inputs, changed = modality.inputs(table, column, spec.text_pair_column, rows, settled)
        names = [domain] * len(rows)
        if spec.domain is not None and spec.domain in table.columns:
            names = [str(table.columns[spec.domain][at]) for at in rows]
        made = _with_domain(inputs, [f"unlabelled/{domain}/{table.ids[at]}" for at in rows], names)
        warnings += [*table.warnings, *changed, *modality.check(made, table.where)]
        parts.append(made)
    return concatenate_datasets(parts), warnings


def table_of(source: str, spec: DataSpec, kind: Kind, sources: int = 1) -> Table:
    """Rows of a source, labelled or not: a folder of files at any depth, lines of a .txt, or what `load` reads.

    All of them, or an even share of `data.unlabelled_rows` where there are `sources` of them.
    """
    path, modality = Path(source).expanduser(), get_modality(kind)
    share = None if spec.unlabelled_rows is None else -(-spec.unlabelled_rows // sources)
    if path.is_dir() and modality.a_file_each:
        files = sorted(file for file in path.rglob("*") if file.is_file() and modality.accepts(file))
        if not files:
            raise UserError(f"data.unlabelled: {path} holds no {modality.a_file_each}")
        if share is not None and share < len(files):
            drawn = np.random.default_rng(spec.split_seed).choice(len(files), share, replace=False)
            files = [files[at] for at in np.sort(drawn)]
        ids = [file.relative_to(path).as_posix() for file in files]
        return Table(str(path), ids, {kind: [str(file) for file in files]}, origin=path.resolve())
    if path.suffix.lower() == ".txt" and path.is_file() and not modality.of_text:
        raise UserError(f"data.unlabelled: {path} holds texts, and the task reads {kind}s; name a file of these")
    if share is not None:
        return draw_rows(source, share, spec)
    if path.suffix.lower() == ".txt" and path.is_file():
        return read_lines(path, spec.encoding)
    tables = read(source, spec, kind, alone=True)
    if "train" not in tables and len(tables) > 1:
        raise UserError(f"data.unlabelled: {source} holds {listed(sorted(tables))} and no train split; name one file")
    return tables.get("train") or next(iter(tables.values()))


def _labelled(
    splits: Splits, spec: DataSpec, kind: Kind, fewest_classes: int
) -> tuple[Dataset, tuple[str, ...], list[str]]:
    """Rows of other domains: columns id, domain, input and label; class names where they are not the target's."""
    parts, warnings, problems, own = list[Dataset](), list[str](), list[str](), list[str]()
    renames = {} if spec.source_labels == "own" else spec.source_labels
    seen = dict[str, None]()
    if spec.source_labels == "own" and splits.problem_type != "single_label_classification":
        raise UserError("data.source_labels: own labels are for rows of one class each; train on the source alone, and "
                        "give that Run's folder as model.name")  # fmt: skip
    for source, domain in named(spec.source or ()):
        alone = {"name": None, "train": source, "validation": None, "test": None, "group": spec.domain}
        try:
            found = load(spec.model_copy(update=alone), kind, splits.problem_type, fewest_classes=fewest_classes)
        except UserError as error:
            raise UserError(f"data.source: {str(error).replace('data.group', 'data.domain')}") from error
        warnings += [f"source: {warning}" for warning in found.warnings]
        if spec.source_labels == "own":
            own += [name for name in found.labels if name not in own]
        wanted = tuple(own) if spec.source_labels == "own" else splits.labels
        seen |= dict.fromkeys(found.labels)
        place, wrong = _places(found.labels, wanted, renames, source)
        problems += wrong
        if wrong:
            continue
        rows = found.train
        if splits.problem_type == "single_label_classification":
            labels = [place[label] for label in rows["label"][:]]
            kept = [at for at, label in enumerate(labels) if label is not None]
            if not kept:
                raise UserError(f"data.source: data.source_labels leaves no row of {source}; map one of its labels, or "
                                "leave this source out")  # fmt: skip
            rows = rows.select(kept).remove_columns("label").add_column(
                "label", [labels[at] for at in kept], feature=splits.train.features["label"]
            )  # fmt: skip
        elif list(found.labels) != list(splits.labels):
            raise UserError(f"data.source: labels of {source} must be those of the target in their order, as rows have "
                            f"several; found {listed(found.labels)}, expected {listed(splits.labels)}")  # fmt: skip
        names = rows["group"][:] if spec.domain is not None else [domain] * len(rows)
        if splits.problem_type == "single_label_classification":
            warnings += _one_class(names, rows["label"][:], wanted)
        ids = [f"source/{domain}/{row_id}" for row_id in rows["id"][:]]
        gone = [name for name in ("id", "group") if name in rows.column_names]
        parts.append(_with_domain(rows.remove_columns(gone), ids, names))
    problems = [_no_label(name, list(seen)) for name in renames if name not in seen] + list(dict.fromkeys(problems))
    if problems:
        raise Problems("data.source", problems)
    return concatenate_datasets(parts), tuple(own), warnings


def _places(
    found: Sequence[str], wanted: Sequence[str], renames: Mapping[str, str | None], source: str
) -> tuple[list[int | None], list[str]]:
    """For each label of a source its index in the target, None where its rows are left out; and what does not match."""
    problems = [
        f"source_labels: '{name}' is no label of the target{did_you_mean(name, wanted)}"
        for name in dict.fromkeys(renames.values())
        if name is not None and name not in wanted
    ]
    called = [renames.get(name, name) for name in found]
    strange = [name for name in called if name is not None and name not in wanted]
    if strange and not problems:
        near = "".join(f"; '{name}'{did_you_mean(name, wanted)[1:]}" for name in strange[:3])
        problems.append(
            f"{source} has the labels {listed(found)}; the target has {listed(wanted)}{near}; set data.source_labels, "
            "such as {pos: positive, neutral: null}, or own for source_then_target"
        )
    return [wanted.index(name) if name in wanted else None for name in called], problems


def _no_label(name: str, found: Sequence[str]) -> str:
    """That a label to be renamed is one of no source; to YAML `{pos:positive}` is such a name."""
    before, colon, after = name.partition(":")
    hint = f"; a pair is written with a space, '{before}: {after}'" if colon else did_you_mean(name, found)
    return f"source_labels: '{name}' is no label of any source{hint}"


def named(sources: str | Sequence[str]) -> list[tuple[str, str]]:
    """Each source with the name of its domain: the last part of it, numbered where two are called alike."""
    given = [sources] if isinstance(sources, str) else list(sources)
    stems = [Path(source.rstrip("/")).stem for source in given]
    seen: Counter[str] = Counter()
    names = []
    for stem in stems:
        seen[stem] += 1
        names.append(stem if stems.count(stem) == 1 else f"{stem}-{seen[stem]}")
    return list(zip(given, names, strict=True))


def _with_domain(rows: Dataset, ids: Sequence[str], domains: Sequence[str]) -> Dataset:
    told = rows.add_column("id", list(ids), feature=Value("string"))
    return told.add_column("domain", list(domains), feature=Value("string"))


def _one_class(domains: Sequence[str], labels: Sequence[int], names: tuple[str, ...]) -> list[str]:
    """A warning for each domain whose rows are all of one class."""
    found = {domain: {label for one, label in zip(domains, labels, strict=True) if one == domain}
             for domain in dict.fromkeys(domains)}  # fmt: skip
    return [f"source: all rows of domain {domain} are {names[next(iter(own))]}: what tells the domain tells the class"
            for domain, own in found.items() if len(own) == 1 < len(names)]  # fmt: skip
