"""Memory and time of drawing unlabelled rows from more rows than anyone wants to hold (`data.unlabelled_rows`).

    python scripts/bench/stream.py [--rows 100000 1000000 4000000] [--draw 20000]

For each size, shards of parquet of generated texts are written to a temporary folder, and read in a process of its own
by the function that training uses: each line is rows, megabytes on disk, seconds, and peak memory above that of the
imports.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARD = 100_000
WORDS = 15  # of a text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 4_000_000])
    parser.add_argument("--draw", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # one measurement, in a process of its own
    given = parser.parse_args()
    if given.folder is not None:
        measure(given.folder, given.draw)
        return
    print("rows\tMB on disk\tdrawn\tseconds\tpeak MB above imports")
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), rows)
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
            call = [sys.executable, __file__, "--folder", folder, "--draw", str(given.draw)]
            said = subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()
        print(f"{rows:,}\t{size:.0f}\t{said}", flush=True)


def write(folder: Path, rows: int) -> None:
    """Shards of texts of made words."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, words = np.random.default_rng(0), np.array([f"word{at}" for at in range(5000)])
    for at in range(0, rows, SHARD):
        texts = [" ".join(words[each]) for each in rng.integers(len(words), size=(min(SHARD, rows - at), WORDS))]
        pq.write_table(pa.table({"text": texts}), folder / f"part-{at:09}.parquet")


def measure(folder: Path, draw: int) -> None:
    from datasets import load_dataset

    from hf_smalldata.data.domains import table_of
    from hf_smalldata.data.spec import DataSpec

    assert callable(load_dataset)
    spec = DataSpec(train="labelled.csv", unlabelled=str(folder), unlabelled_rows=draw)
    before, begun = _peak(), time.perf_counter()
    table = table_of(str(folder), spec, "text")
    print(f"{len(table.ids):,}\t{time.perf_counter() - begun:.1f}\t{_peak() - before:.0f}")


def _peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
