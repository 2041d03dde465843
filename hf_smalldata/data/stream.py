"""A random draw of rows out of a source that is too large to hold: read through once, a batch at a time.

Rows without labels come by the million, and training looks at a few thousand of them. Files are drawn from evenly, row
by row; of a Hub data set, which would have to be fetched whole for that, the shards and a buffer of rows are shuffled.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from datasets.utils import logging as datasets_logging
from tqdm.auto import tqdm

from hf_smalldata.data.bundled import is_bundled
from hf_smalldata.data.delimited import given_delimiter
from hf_smalldata.data.hub import first_line, quiet, stream_hub
from hf_smalldata.data.source import check_not_a_path
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, table_of_dataset
from hf_smalldata.errors import UserError, listed

logger = logging.getLogger(__name__)

BATCH = 10_000  # rows that are held at a time, beside those that are drawn
READERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".txt": "text"}


def draw_rows(source: str, count: int, spec: DataSpec) -> Table:
    """Some rows of a source, in their order.

    Args:
        source: a file, a folder of such files (shards), or a Hub data set.
        count: rows to draw; of a smaller source all.
        spec: encoding and delimiter of files, configuration and revision of the Hub.

    Raises:
        UserError: files of several kinds or of one that cannot be read in parts, or a broken file.
    """
    path = Path(source).expanduser()
    if is_bundled(source):
        raise UserError(f"data.unlabelled_rows: {source} is small; leave unlabelled_rows out")
    files = _files(path) if path.exists() else []
    if not files:
        check_not_a_path(source)
    where = path.name if files else source
    try:
        with quiet(datasets_logging, logging.CRITICAL):  # it logs what it then raises
            stream = _of_files(files, spec) if files else _of_the_hub(source, count, spec)
            rows, places, total = _evenly(stream, count, np.random.default_rng(spec.split_seed))
        table = table_of_dataset(rows, where, where)  # where texts are decoded
    except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"data.unlabelled: {source} cannot be read: {first_line(error)}") from error
    if not len(rows):
        raise UserError(f"data.unlabelled: {source} holds no rows")
    logger.info("%s: drew %s of %s unlabelled rows", where, f"{len(rows):,}", f"{total:,}" if files else "all")
    return Table(where, [f"{where}:{place}" for place in places], table.columns, table.label_names,
                 path.parent if path.is_file() else path if files else None, table.dataset)  # fmt: skip


def _evenly(stream: IterableDataset, count: int, rng: np.random.Generator) -> tuple[Dataset, list[int], int]:
    """`count` rows of which each was as likely as any other, their places, and how many there are.

    Each row gets a random key, and those with the smallest keys stay (Vitter 1985, "Random sampling with a reservoir",
    in the form of keys).
    """
    kept, keys, places, seen, enough = list[pa.Table](), np.zeros(0), np.zeros(0, dtype=np.int64), 0, 1.0
    bar = tqdm(desc="unlabelled rows", unit=" rows", leave=False, delay=1, disable=None)
    for batch in cast(Any, stream.with_format("arrow")).iter(batch_size=BATCH):
        drawn = rng.random(len(batch))
        near = np.flatnonzero(drawn < enough)
        kept.append(batch.take(near))
        keys, places = np.concatenate([keys, drawn[near]]), np.concatenate([places, seen + near])
        seen += len(batch)
        bar.update(len(batch))
        if len(keys) > count + BATCH:
            kept, keys, places = _smallest(kept, keys, places, count)
            enough = float(keys.max())
    bar.close()
    kept, keys, places = _smallest(kept, keys, places, count)
    rows = Dataset(pa.concat_tables(kept, promote_options="permissive")) if kept else Dataset.from_dict({})
    if stream.features is not None and len(rows) and rows.features != stream.features:
        rows = rows.cast(stream.features)  # tables of Arrow do not say which columns are images or classes
    return rows, places.tolist(), seen


def _smallest(
    kept: list[pa.Table], keys: np.ndarray, places: np.ndarray, count: int
) -> tuple[list[pa.Table], np.ndarray, np.ndarray]:
    """The rows of the smallest keys, in the order of their places."""
    if not kept:
        return kept, keys, places
    first = np.sort(np.argsort(keys, kind="stable")[:count])
    table = pa.concat_tables(kept, promote_options="permissive")
    return [table.take(first).combine_chunks()], keys[first], places[first]


def _files(path: Path) -> list[Path]:
    """A file, or the files of a folder, which must be of one kind."""
    if path.is_file():
        found = [path]
    else:
        found = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in READERS)
    endings = sorted({file.suffix.lower() for file in found})
    if len(endings) != 1 or endings[0] not in READERS:
        raise UserError(
            f"data.unlabelled_rows: {path}: expected a file, or files of one kind, that can be read in parts "
            f"({listed(list(READERS))}), found {listed(endings) or 'none'}"
        )
    full = [file for file in found if file.stat().st_size]
    if not full:
        raise UserError(f"data.unlabelled: {path} holds no rows")
    return full


def _of_files(files: list[Path], spec: DataSpec) -> IterableDataset:
    reader, more = READERS[files[0].suffix.lower()], dict[str, Any]()
    if reader != "parquet":
        more["encoding"] = spec.encoding
    if reader == "csv":
        more |= {"sep": given_delimiter(spec.delimiter, files[0].suffix.lower()) or ",", "keep_default_na": False}
    named = [str(file.resolve()) for file in files]
    return cast(IterableDataset, datasets.load_dataset(reader, data_files=named, split="train", streaming=True, **more))


def _of_the_hub(source: str, count: int, spec: DataSpec) -> IterableDataset:
    stream = stream_hub(source, spec.config, spec.revision)
    return stream.shuffle(seed=spec.split_seed, buffer_size=BATCH).take(count)
