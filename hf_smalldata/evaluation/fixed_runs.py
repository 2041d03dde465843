"""Episodes that others have drawn, so that figures can be compared with published ones: Omniglot's one-shot runs.

A folder of runs, each with `class_labels.txt`: a line `run01/test/item01.png run01/training/class08.png` says that the
first file is to be told to be of the class of the second, among all second files of the run; paths are from the folder
of runs on. Source: Lake et al. 2015, https://doi.org/10.1126/science.aab3050, github.com/brendenlake/omniglot.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_smalldata.errors import Problems, UserError, listed
from hf_smalldata.evaluation.episodes import Episode

LABELS = "class_labels.txt"


def read_runs(folder: Path) -> tuple[list[str], list[str], list[Episode]]:
    """Names of the runs, all their files by path from `folder` on, and an episode of one shot for each run.

    Raises:
        UserError: no runs, or a line that does not name two files.
    """
    lists = sorted(folder.glob(f"*/{LABELS}"))
    if not lists:
        raise UserError(f"--runs: expected folders with a {LABELS} in {folder}, found none")
    place: dict[str, int] = {}
    episodes, problems = [], []
    for file in lists:
        pairs = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        problems += _wrong(pairs, folder, file)
        if problems:
            continue
        known = sorted({of for _, of in pairs})
        for name in [*known, *(asked for asked, _ in pairs)]:
            place.setdefault(name, len(place))
        episodes.append(
            Episode(
                support=np.array([[place[name]] for name in known]),
                query=np.array([place[asked] for asked, _ in pairs]),
                target=np.array([known.index(of) for _, of in pairs]),
            )
        )
    if problems:
        raise Problems(f"--runs {folder}", problems)
    return [file.parent.name for file in lists], list(place), episodes


def _wrong(pairs: list[list[str]], folder: Path, file: Path) -> list[str]:
    where = f"{file.parent.name}/{LABELS}"
    strange = [" ".join(pair) for pair in pairs if len(pair) != 2]
    gone = [name for pair in pairs for name in pair if len(pair) == 2 and not (folder / name).is_file()]
    said = [f"{where}: expected a file to ask and one of its class, found {listed(strange, 3)}"] if strange else []
    said += [f"{where}: no such file in {folder}: {listed(gone, 3)}"] if gone else []
    return said if pairs else [f"{where}: holds no lines"]
