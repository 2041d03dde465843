"""Label audit: how many variants a model would label otherwise that has seen neither them nor what they were made of.

A variant that no longer says what its label says teaches a mistake, and nobody reads thousands of them. A share far
above that of wrong real rows (`relabelled_real`) means weaker settings. It is no proof: hard classes and a weak model
relabel sound rows too, so both numbers stand side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from hf_smalldata.data.made import real
from hf_smalldata.errors import UserError
from hf_smalldata.nn.logistic_heads import PENALTY, folds
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.fewshot.rows import pretrained_embedder

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
MOST_STEPS = 2000
MOST_DRAWN = 512  # rows of which a draw is judged: enough to tell 1 % from 5 %


class Asked(NamedTuple):
    """Variants to judge: embeddings (M, d), classes, places of their parents among the real rows, and who made them."""

    features: Array
    labels: Array
    parents: list[int]
    by: list[str]


def audit_labels(train: Dataset, ctx: Context, augment: Sequence[Technique] = ()) -> None:
    """What the run's pretrained model, as it is, makes of made rows and of draws of real ones, into `ctx.facts`.

    {"by": {technique: {"made": rows, "relabelled": share}}} and `relabelled_real`, the share of real rows by the same
    judges; or {"skipped": why}. The main process does it and logs one line. Torch's generator goes on as before.

    Args:
        train: after all `rows` hooks.
        ctx: of the run.
        augment: techniques with an `example` hook: one draw of each of some real rows is judged, of all of them at
            once. Without made rows and such techniques nothing is said.
    """
    made = "source" in train.column_names and len(real(train)) < len(train)
    if not (made or augment) or not PartialState().is_main_process:
        return
    with torch.random.fork_rng():
        found = _audited(train, ctx, augment, made)
    ctx.facts["label_audit"] = found
    logger.info("label audit: %s", told(found))


def told(found: Mapping[str, Any]) -> str:
    """What an audit found, in words."""
    if "skipped" in found:
        return f"skipped: {found['skipped']}"
    shares = [f"{_percent(each['relabelled'])} of {each['made']} by {name}" for name, each in found["by"].items()]
    return (f"a model that has not seen them would relabel {', '.join(shares)}; of real rows "
            f"{_percent(found['relabelled_real'])}")  # fmt: skip


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


def _audited(train: Dataset, ctx: Context, augment: Sequence[Technique], made: bool) -> dict[str, Any]:
    if ctx.problem_type != "single_label_classification":
        return {"skipped": f"for rows of one class each, and these are {ctx.problem_type}"}
    originals, rng = real(train), np.random.default_rng([ctx.seed, 1])
    few = originals.select(np.sort(rng.permutation(len(originals))[:MOST_DRAWN]))
    rows = train if made else few
    if len(set(originals["label"][:])) < 2:
        return {"skipped": "all rows are of one class"}
    try:
        embed = pretrained_embedder(ctx, rows)
        features, drawn = embed(rows), embed(few, augment) if augment else None
    except UserError as error:  # a network without a pooled embedding trains all the same
        return {"skipped": str(error)}
    sources = np.array([source or "" for source in rows["source"]] if made else [""] * len(rows))
    labels, is_made = np.array(rows["label"][:]), sources != ""
    place = {row_id: at for at, row_id in enumerate(np.array(rows["id"][:])[~is_made].tolist())}
    known = rows["parent"][:] if made and "parent" in rows.column_names else [None] * len(rows)
    asked = [Asked(features[is_made], labels[is_made],
                   [place.get(parent, -1) for parent, one in zip(known, is_made, strict=True) if one],
                   sources[is_made].tolist())]  # fmt: skip
    if drawn is not None:
        name = "+".join(technique.name for technique in augment)
        asked.append(Asked(drawn, np.array(few["label"][:]), [place[one] for one in few["id"][:]], [name] * len(few)))
    of_real, of_all = relabelled(
        features[~is_made], labels[~is_made], np.concatenate([each.features for each in asked]),
        np.concatenate([each.labels for each in asked]), [at for each in asked for at in each.parents], ctx.seed,
    )  # fmt: skip
    names = np.array([name for each in asked for name in each.by])
    by = {name: of_all[names == name] for name in dict.fromkeys(names.tolist())}
    return {
        "by": {name: {"made": len(each), "relabelled": _share(each)} for name, each in by.items()},
        "relabelled_real": _share(of_real),
    }


def _share(found: Array) -> float | None:
    judged = found[~np.isnan(found)]
    return round(float(judged.mean()), 4) if len(judged) else None


def _percent(share: float | None) -> str:
    return "none that could be judged" if share is None else f"{100 * share:.0f} %"
