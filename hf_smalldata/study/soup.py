"""A soup: the average of the weights of several trainings, which costs no more to serve than one of them.

Wortsman et al. 2022, https://arxiv.org/abs/2203.05482: models fine-tuned from the same pretrained weights often average
to a better one. Fold models cannot be averaged with each other and then be judged: together they have learnt from every
row. So the seeds of each fold are averaged and judged by that fold's rows, and where that is not worse than a single
seed, the refits of all seeds are averaged in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hf_smalldata.evaluation.comparison import Comparison, corrected_difference
from hf_smalldata.evaluation.metrics import score
from hf_smalldata.evaluation.report import show
from hf_smalldata.evaluation.summary import MODEL, plain
from hf_smalldata.study.judged import Judged


def souped(one: Judged) -> Judged:
    """The same folds, judged by the average of their seeds instead of by each seed."""
    places = [at for at, table in enumerate(one.soups) if table is not None]
    tables = tuple(table for table in one.soups if table is not None)
    metrics = []
    for at, table in zip(places, tables, strict=True):
        _, references, predictions = one.arrays(table)
        values = {name: {"value": value} for name, value in score(predictions, references, one.problem_type).items()}
        before = one.metrics[at]
        metrics.append({**before, "results": {**before["results"], MODEL: values}})
    first = one.cells[0].seed
    cells = tuple(replace(one.cells[at], seed=first) for at in places)
    return Judged(cells, tuple(metrics), tables)


def compare(one: Judged) -> Comparison:
    """The average of the seeds minus the mean of single seeds, in the score of a row, over folds."""
    single: dict[tuple[int, int], list[float]] = {}
    for cell, scores in zip(one.cells, one.row_scores(), strict=True):
        single.setdefault((cell.repeat, cell.fold), []).append(float(scores.mean()))
    mixed = souped(one)
    differences = [
        scores.mean() - np.mean(single[cell.repeat, cell.fold])
        for cell, scores in zip(mixed.cells, mixed.row_scores(), strict=True)
    ]
    return corrected_difference(differences, one.test_share, rows=one.rows)


def soup_content(one: Judged) -> Mapping[str, Any]:
    """What results.json says of the soup: its difference out of fold, and whether it is kept."""
    difference = compare(one).difference
    kept = difference.value >= 0
    said = "so the model is the average of all seeds" if kept else "so it is not used"
    seeds = len({cell.seed for cell in one.cells})
    found = show(plain(difference), sign=True)
    sentence = f"The average of {seeds} seeds' weights against one seed, out of fold: {found}; {said}."
    return {"difference": plain(difference), "kept": bool(kept), "sentence": sentence}
