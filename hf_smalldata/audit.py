"""Label audit: how many made rows a model would label otherwise that has seen neither them nor what they were made of.

A variant that no longer says what its label says teaches a mistake, and nobody reads thousands of them. A share far
above that of wrong real rows (`relabelled_real`) means weaker settings. It is no proof: hard classes and a weak model
relabel sound rows too, so both numbers stand side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from hf_smalldata.data.made import real
from hf_smalldata.errors import UserError
from hf_smalldata.nn.logistic_heads import PENALTY, folds
from hf_smalldata.technique import Context
from hf_smalldata.techniques.fewshot.rows import pretrained_features

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
MOST_STEPS = 2000


def audit_labels(train: Dataset, ctx: Context) -> None:
    """What the run's pretrained model, as it is, makes of the rows that `rows` hooks made, into `ctx.facts`.

    {"by": {technique: {"made": rows, "relabelled": share}}} and `relabelled_real`, the share of real rows by the same
    judges; or {"skipped": why}. The main process does it and logs one line. Torch's generator goes on as before.

    Args:
        train: after all `rows` hooks; without made rows nothing is said.
        ctx: of the run.
    """
    if "source" not in train.column_names or len(real(train)) == len(train) or not PartialState().is_main_process:
        return
    with torch.random.fork_rng():
        found = _audited(train, ctx)
    ctx.facts["label_audit"] = found
    if "skipped" in found:
        logger.info("label audit: skipped: %s", found["skipped"])
        return
    told = [f"{_percent(each['relabelled'])} of {each['made']} by {name}" for name, each in found["by"].items()]
    logger.info(
        "label audit: a model that has not seen them would relabel %s; of real rows %s",
        ", ".join(told), _percent(found["relabelled_real"]),
    )  # fmt: skip


def relabelled(
    features: Array, labels: Array, made: Array, made_labels: Array, parents: Sequence[int], seed: int
) -> tuple[Array, Array]:
    """Which rows a logistic regression would label otherwise that has learnt neither them nor their parents.

    Each fold leaves out rows of every class; the variants of these are judged with them. What has no parent is judged
    by all real rows.

    Args:
        features: of real rows (N, d).
        labels: their classes (N,).
        made: features of made rows (M, d).
        made_labels: their classes (M,).
        parents: of each made row the place among the real ones, or -1 for none.
        seed: of the folds.

    Returns:
        For real rows (N,) and made ones (M,) 1 or 0, and NaN for those that cannot be judged, as no other row of their
        class is there.
    """
    mean = features.mean(0)
    scale = max(float(np.sqrt(np.square(features - mean).sum() / min(features.shape))), 1e-12)
    x, z = (features - mean) / scale, (made - mean) / scale
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), int(labels.max()) + 1)
    fold = folds(one_hot, True, np.random.default_rng([seed, 0]))
    parent = np.asarray(parents)
    of_made = np.where(parent < 0, -2, fold[parent])
    result = np.full(len(x), np.nan), np.full(len(z), np.nan)
    for out in (-2, *range(fold.max() + 1)):
        if not (of_made == out).any() and out < 0:
            continue
        judge = LogisticRegression(C=1 / PENALTY, max_iter=MOST_STEPS).fit(x[fold != out], labels[fold != out])
        for rows, truth, group, found in ((x, labels, fold, result[0]), (z, made_labels, of_made, result[1])):
            here = group == out
            if here.any():
                found[here] = judge.predict(rows[here]) != truth[here]
    return result


def _audited(train: Dataset, ctx: Context) -> dict[str, Any]:
    originals = real(train)
    if ctx.problem_type != "single_label_classification":
        return {"skipped": f"for rows of one class each, and these are {ctx.problem_type}"}
    if len(set(originals["label"][:])) < 2:
        return {"skipped": "all rows are of one class"}
    try:
        features = pretrained_features(ctx, train)
    except UserError as error:  # a network without a pooled embedding trains all the same
        return {"skipped": str(error)}
    sources = np.array([source or "" for source in train["source"]])
    place = {row_id: at for at, row_id in enumerate(originals["id"])}
    known = train["parent"][:] if "parent" in train.column_names else [None] * len(train)
    parents = [place.get(parent, -1) for parent, source in zip(known, sources, strict=True) if source]
    labels, is_made = np.array(train["label"][:]), sources != ""
    of_real, of_made = relabelled(
        features[~is_made], labels[~is_made], features[is_made], labels[is_made], parents, ctx.seed
    )
    by = {name: of_made[sources[is_made] == name] for name in dict.fromkeys(sources[is_made].tolist())}
    return {
        "by": {name: {"made": len(each), "relabelled": _share(each)} for name, each in by.items()},
        "relabelled_real": _share(of_real),
    }


def _share(found: Array) -> float | None:
    judged = found[~np.isnan(found)]
    return round(float(judged.mean()), 4) if len(judged) else None


def _percent(share: float | None) -> str:
    return "none that could be judged" if share is None else f"{100 * share:.0f} %"
