"""Rows whose tags training would refuse, told apart from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from hf_smalldata.data import spans, tags
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor.findings import Finding, fine, of_all
from hf_smalldata.errors import UserError

Rows = dict[str, Dataset]
Cells = dict[str, list[Any]]


def sound_tags(
    inputs: Mapping[str, Dataset], cells: Mapping[str, list[Any]], spec: DataSpec
) -> tuple[Rows, Cells, list[Finding]]:
    """Rows whose tags or spans can be read, their cells, and findings on the others and on those that need a repair."""
    given = {split: [_parsed(cell) for cell in each] for split, each in cells.items()}
    scheme = spec.tag_scheme or tags.detect([each for each in given["train"] if _are_tags(each)])
    unfit, broken = dict[str, str](), list[str]()
    kept, left = Rows(), Cells()
    for split, rows in inputs.items():
        fits = []
        columns = zip(rows["id"][:], rows["text"][:], rows["tokens"][:], given[split], strict=True)
        for at, (row_id, text, tokens, mine) in enumerate(columns):
            if _are_tags(mine):
                why, is_broken = _of_tags(tokens, mine, scheme)
            elif all(isinstance(one, int) for one in mine):  # indices of names
                why, is_broken = _of_numbers(tokens, mine), False
            else:
                why, is_broken = _of_spans(text, mine)
            if why is not None:
                unfit[row_id] = why
                continue
            fits.append(at)
            if is_broken:
                broken.append(row_id)
        kept[split], left[split] = rows.select(fits), [cells[split][at] for at in fits]
    return kept, left, _findings(unfit, broken, sum(map(len, cells.values())), scheme, spec.broken_tags == "repair")


def _findings(
    unfit: Mapping[str, str], broken: Sequence[str], total: int, scheme: str, is_repaired: bool
) -> list[Finding]:
    found = []
    if unfit:
        first, why = next(iter(unfit.items()))
        found.append(Finding("tags", "fail", f"{of_all(len(unfit), total)} rows have misfit tags; {first}: {why}",
                             tuple(unfit), "mend or drop them", unfit))  # fmt: skip
    if broken:
        sentence = f"{of_all(len(broken), total)} rows have tags that break {scheme}, or spans that cut words"
        found.append(
            Finding("tags", "warn", sentence, tuple(broken), "data.broken_tags repairs them")
            if is_repaired
            else Finding("tags", "fail", sentence, tuple(broken), "mend them, or set data.broken_tags: repair")
        )
    return found or [fine("tags", "every word has a tag that fits")]


def _parsed(cell: Any) -> list[Any]:
    """A list; of a text its words or what JSON it holds, as tables write it."""
    if isinstance(cell, str):
        return list(json.loads(cell)) if cell.lstrip().startswith("[") else cell.split()
    return list(cell)


def _are_tags(given: Sequence[Any]) -> bool:
    return bool(given) and all(isinstance(one, str) for one in given)


def _of_tags(tokens: Sequence[str], given: Sequence[str], scheme: tags.Scheme) -> tuple[str | None, bool]:
    """Why tags do not fit their tokens, and whether they break their scheme."""
    if why := _of_numbers(tokens, given):
        return why, False
    try:
        tags.to_iob2([given], [""], "", scheme)
    except UserError:
        return None, True
    return None, False


def _of_numbers(tokens: Sequence[str], given: Sequence[Any]) -> str | None:
    return f"{len(given)} tags for {len(tokens)} tokens" if given and len(given) != len(tokens) else None


def _of_spans(text: str, given: Sequence[Any]) -> tuple[str | None, bool]:
    """Why spans do not fit their text, and whether they cut words."""
    try:
        spans.tags_of_spans([text], [given], [""], "")
    except UserError:
        try:
            spans.tags_of_spans([text], [given], [""], "", "repair")
        except UserError as error:
            return str(error).splitlines()[1].strip().removeprefix(": "), False
        return None, True
    return None, False
