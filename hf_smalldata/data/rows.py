"""rows.json: the ids of every split and draw of a run, so that another run can use the very same rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from pydantic import BaseModel, ConfigDict, ValidationError

from hf_smalldata.data.load import Splits
from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.strata import named
from hf_smalldata.errors import Problems, UserError, listed


class RowsRecord(BaseModel):
    """What rows.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[int, list[str]]  # ids of the rows drawn, by seed
    validation: list[str]
    test: list[str]
    digest: dict[str, str]  # sha256 of a held-out split, of source and unlabelled rows: equal ones mean equal rows
    content: dict[str, str]  # first 16 hex digits of each row's sha256, by id


def rows_record(splits: Splits, draws: Mapping[int, Dataset]) -> dict[str, Any]:
    """What a run writes to rows.json.

    Args:
        splits: after `split`.
        draws: the training rows by seed, before any technique adds to them.
    """
    validation, test = contents(splits.validation, splits), contents(splits.test, splits)
    beside = [
        ("source", contents(splits.source, replace(splits, labels=splits.source_labels or splits.labels))),
        ("unlabelled", _inputs(splits.unlabelled)),
    ]
    content = {**validation, **test}
    for drawn in draws.values():
        content.update(contents(drawn, splits))
    return RowsRecord(
        train={seed: drawn["id"][:] for seed, drawn in draws.items()},
        validation=list(validation),
        test=list(test),
        digest={name: _sha(rows) for name, rows in (("validation", validation), ("test", test), *beside) if rows},
        content={row_id: digest[:16] for row_id, digest in content.items()},
    ).model_dump(mode="json")


def apply_rows(splits: Splits, spec: DataSpec) -> Splits:
    """Cut freshly loaded splits (in place of `split`) as the rows.json at `spec.rows` says.

    Validation and test rows are the recorded ones, `draws` the recorded training rows by seed, train all other rows.

    Raises:
        UserError: no such file, or not of this form; recorded rows that are gone or have other content now; rows that
            the record both learns from and judges by.
    """
    if spec.rows is None:
        raise UserError("data.rows: expected the rows.json of a run, found none")
    file = Path(spec.rows).expanduser()
    record = _read(file)
    pool = concatenate_datasets([rows for rows in (splits.train, splits.validation, splits.test) if rows is not None])
    at = {row_id: row for row, row_id in enumerate(pool["id"][:])}
    problems = _overlaps(record)
    recorded = dict.fromkeys([*record.validation, *record.test, *(i for ids in record.train.values() for i in ids)])
    gone = [row_id for row_id in recorded if row_id not in at]
    now = contents(pool.select([at[row_id] for row_id in recorded if row_id in at]), splits)
    changed = [row_id for row_id, digest in now.items() if record.content.get(row_id) != digest[:16]]
    if gone:
        problems.append(f"{len(gone)} of {len(recorded)} rows are no longer in the data: {listed(gone)}")
    if changed:
        problems.append(f"{len(changed)} of {len(recorded)} rows have another input or label now: {listed(changed)}")
    if problems:
        raise Problems(f"{file} (use the data it was written for, or leave data.rows out)", problems)

    def pick(ids: Sequence[str]) -> Dataset:
        return pool.select([at[row_id] for row_id in ids])

    held = {*record.validation, *record.test}
    return replace(
        splits,
        train=pick([row_id for row_id in at if row_id not in held]),
        validation=pick(record.validation) if record.validation else None,
        test=pick(record.test) if record.test else None,
        draws={seed: pick(ids) for seed, ids in record.train.items()},
    )


def _read(file: Path) -> RowsRecord:
    if not file.is_file():
        raise UserError(f"data.rows: no such file: {file}; expected the smalldata/rows.json of a run")
    try:
        return RowsRecord.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"data.rows: {file} is not JSON ({error}); expected the rows.json of a run") from None
    except ValidationError as error:
        said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:20]]
        raise Problems(f"{file} (expected the rows.json of a run)", said) from None


def _overlaps(record: RowsRecord) -> list[str]:
    train = {row_id for ids in record.train.values() for row_id in ids}
    pairs = [
        ("validation", "train", [i for i in record.validation if i in train]),
        ("test", "train", [i for i in record.test if i in train]),
        ("test", "validation", [i for i in record.test if i in set(record.validation)]),
    ]
    return [
        f"{len(both)} {one} rows are {other} rows as well: {listed(both)}; keep each row in one of them"
        for one, other, both in pairs
        if both
    ]


def contents(rows: Dataset | None, splits: Splits) -> dict[str, str]:
    """sha256 of input and label by row id. Labels go in by name: a class more does not change the other rows."""
    if rows is None or not len(rows):
        return {}
    inputs = modality_of(rows).contents(rows)
    labels = [named(label, splits.labels, splits.problem_type) for label in rows["label"][:]]
    return {
        row_id: hashlib.sha256(json.dumps([given, label]).encode()).hexdigest()
        for row_id, given, label in zip(rows["id"][:], inputs, labels, strict=True)
    }


def _inputs(rows: Dataset | None) -> dict[str, str]:
    return {} if rows is None else dict(zip(rows["id"][:], modality_of(rows).contents(rows), strict=True))


def _sha(rows: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(list(rows.items())).encode()).hexdigest()
