"""The keeper: which rows of a generator are learnt from.

A generator trained on few rows repeats them, mixes classes up, and makes more of what is easy. So a teacher that knows
real training rows alone must agree with a made row's label; what lies next to a real row is a copy, and what lies next
to another made row a repeat; no class gets more than its share, and that share is of rows that differ. Validation and
test rows are never looked at.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from sklearn.cluster import AgglomerativeClustering

from hf_smalldata.data.made import real, with_made
from hf_smalldata.data.strata import named
from hf_smalldata.errors import UserError, listed
from hf_smalldata.technique import Context
from hf_smalldata.techniques.fewshot.rows import pretrained_features
from hf_smalldata.techniques.synthesis.agreement import agreed
from hf_smalldata.whole import whole

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

SAME = 1 - 1e-5  # cosine of equal rows, as float32 computes it in two batches
REASONS = {  # why a row is dropped, in the order in which it is asked: what it is called, and what changes it
    "copies": ("copies of real rows", "raise keep.max_similarity"),
    "disagree": ("that the teacher labels otherwise", "lower keep.agreement, or give the generator more to learn from"),
    "unsure": ("of which the teacher is unsure", "lower keep.min_confidence"),
    "repeats": ("repeats of other made rows", "raise keep.max_similarity"),
    "surplus": ("above the wanted number", "raise keep.ratio or keep.per_class"),
}


class Keep(BaseModel):
    """Which made rows are kept, and how many: the field `keep` of every generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0  # probability that the teacher gives to the row's label
    agreement: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of a row's labels (tags) that the teacher gives too
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.95  # cosine with a row of the like; 1: only equal ones go
    per_class: PositiveInt | None = None  # most made rows of each class
    ratio: PositiveFloat | None = None  # or most made rows for each real row of their class. Default: 1
    diverse: bool = True  # of more than these, one of each of as many clusters; false: the first that were made

    @model_validator(mode="after")
    def _one_number(self) -> Keep:
        if self.per_class is not None and self.ratio is not None:
            raise ValueError("give `per_class` or `ratio`, not both")
        return self

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher is needed: it costs a training."""
        return self.agreement > 0 or self.min_confidence > 0

    def wanted(self, train: Dataset, ctx: Context) -> list[int]:
        """Made rows to keep of each class (C,), or [all of them] where rows have no one class each."""
        counts = np.bincount(groups_of(real(train), ctx), minlength=_width(ctx))
        if self.per_class is not None:
            return [self.per_class] * len(counts)
        ratio = 1.0 if self.ratio is None else self.ratio
        return [round(ratio * count) for count in counts.tolist()]


class Judged(NamedTuple):
    """What is known of M made rows."""

    agreement: Array  # (M,) share of labels that the teacher gives too; NaN where none was asked
    confidence: Array  # (M,) probability that it gives to the label; NaN where none was asked
    nearest: Array  # (M,) the most similar real row
    similarity: Array  # (M,) to that
    among: Array  # (M, M) similarity to each other


def kept(train: Dataset, made: Sequence[Mapping[str, Any]], ctx: Context, keep: Keep, technique: str) -> Dataset:
    """Training rows, and behind them the made ones that are worth learning from. Called by every process.

    What was made, dropped and kept goes to `ctx.facts`; what is known of each made row to `<technique>.jsonl` in
    `ctx.work_dir`.

    Args:
        train: real rows, and those that other techniques made.
        made: each with the input and the label of a row; `parent`, the id of the row it was made of, if there is one;
            all else that it holds (seed, prompt, strength: what JSON can) is told of it in the file.
        ctx: of the run; its `fit` trains the teacher.
        keep: settings.
        technique: its name.

    Raises:
        UserError: nothing was made or kept, or the rows have values for labels.
    """
    if ctx.problem_type == "regression":
        raise UserError(f"{technique}: for classes, and these rows have values, on which no teacher can agree")
    if not made:
        raise UserError(f"{technique}: made no rows; raise keep.ratio or keep.per_class, or leave the technique out")
    originals, everything = real(train), with_made(train, made, technique)
    rows = everything.select(range(len(train), len(everything)))
    judged = judge(originals, rows, ctx, keep)
    reasons = sift(judged, groups_of(rows, ctx), keep, keep.wanted(train, ctx))
    chosen = [at for at, reason in enumerate(reasons) if reason is None]
    dropped = Counter(reason for reason in reasons if reason is not None)
    told = ", ".join(f"{dropped[reason]} {name}" for reason, (name, _) in REASONS.items() if dropped[reason])
    _write_provenance(originals, rows, made, judged, reasons, ctx, technique)
    if not chosen:
        most = dropped.most_common(1)[0][0]
        raise UserError(f"{technique}: kept 0 of {len(rows)}: {told}; {REASONS[most][1]}, or leave the technique out")
    logger.info("%s: kept %d of %d%s", technique, len(chosen), len(rows), f": {told}" if told else "")
    without = classes_without(_by_class(rows.select(chosen), ctx), keep.wanted(train, ctx))
    if without:
        logger.warning("%s: kept none of %s, so that classes are less even than before; look at what is made of them "
                       "(`hf-smalldata synthesize`)", technique, listed(without))  # fmt: skip
    result = everything.select([*range(len(train)), *(len(train) + at for at in chosen)])
    ctx.facts[technique] = {
        **ctx.facts.get(technique, {}),
        "made": len(rows),
        "kept": len(chosen),
        "dropped": {reason: dropped[reason] for reason in REASONS},
        "kept_by_class": _by_class(rows.select(chosen), ctx),
        "share_of_training_rows": round(len(chosen) / len(result), 4),
    }
    return result


def classes_without(kept_by_class: Mapping[str, int], wanted: Sequence[int]) -> list[str]:
    """Classes of which rows were wanted and none is kept."""
    return [name for (name, count), wish in zip(kept_by_class.items(), wanted, strict=True) if wish and not count]


def check_rows_a_class(train: Dataset, ctx: Context, technique: str, least: int = 4) -> None:
    """Every class that occurs has rows enough for a generator to learn from.

    Raises:
        UserError: it has not; what still works is named.
    """
    counts = Counter(groups_of(real(train), ctx).tolist())
    few = [f"{ctx.labels[at] if ctx.labels else 'rows'} ({count})" for at, count in counts.items() if count < least]
    if few:
        less = {
            "text": "feature_synthesis, language_model with tune: false, ",
            "tokens": "language_model with tune: false, ",
        }
        raise UserError(
            f"{technique}: expected at least {least} rows of each class to learn from, found fewer of {listed(few)}; "
            f"add rows, or use what makes do with one: {less.get(ctx.task.kind, 'feature_synthesis, ')}augmentation"
        )


def judge(originals: Dataset, rows: Dataset, ctx: Context, keep: Keep) -> Judged:
    """What the teacher says of made rows, and what they are like.

    Cosines are those of the pretrained encoder's features about the mean of the real rows: about the origin all images
    and most texts are alike (Ethayarajh 2019, https://arxiv.org/abs/1909.00512).
    """
    agreement, confidence = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    if keep.asks_teacher:
        predicted = ctx.fit(originals)(rows)
        agreement, confidence = agreed(predicted, rows["label"][:], ctx.problem_type)
    features = pretrained_features(ctx, originals), pretrained_features(ctx, rows)
    z, x = directions(*features)
    to_real = x @ z.T  # (M, N)
    nearest = to_real.argmax(1)
    return Judged(agreement, confidence, nearest, to_real[np.arange(len(x)), nearest], x @ x.T)


def sift(judged: Judged, groups: Array, keep: Keep, wanted: Sequence[int]) -> list[str | None]:
    """Why each made row is dropped (see `REASONS`); None for the kept.

    Rows come in the order in which they were made: a row is a repeat of those before it only.

    Args:
        judged: what is known of the rows.
        groups: their classes (M,).
        keep: settings.
        wanted: rows to keep of each class.
    """
    most = min(keep.max_similarity, SAME)
    reasons: list[str | None] = []
    fit: list[int] = []
    for at in range(len(groups)):
        reason = None
        if judged.similarity[at] > most:
            reason = "copies"
        elif judged.agreement[at] < keep.agreement:
            reason = "disagree"
        elif judged.confidence[at] < keep.min_confidence:
            reason = "unsure"
        elif (judged.among[at, fit] > most).any():
            reason = "repeats"
        else:
            fit.append(at)
        reasons.append(reason)
    for group, count in enumerate(wanted):
        own = [at for at in fit if groups[at] == group]
        chosen = spread(own, count, judged) if keep.diverse else own[:count]
        for at in set(own) - set(chosen):
            reasons[at] = "surplus"
    return reasons


def spread(rows: Sequence[int], count: int, judged: Judged) -> list[int]:
    """`count` of some made rows: of as many clusters by average linkage of their cosines, of each the surest row.

    Args:
        rows: their places.
        count: how many at most.
        judged: what is known of all; without a teacher it is the first row of a cluster.
    """
    if len(rows) <= count or count < 2:
        return sorted(rows, key=lambda at: -_sure(judged, at))[:count]
    apart = 1 - judged.among[np.ix_(rows, rows)]
    cluster = AgglomerativeClustering(count, metric="precomputed", linkage="average").fit_predict(apart)
    best: dict[int, int] = {}
    for at, of in zip(rows, cluster.tolist(), strict=True):
        if of not in best or _sure(judged, at) > _sure(judged, best[of]):
            best[of] = at
    return sorted(best.values())


def _sure(judged: Judged, at: int) -> float:
    return 0.0 if np.isnan(judged.confidence[at]) else float(judged.confidence[at])


def directions(real_features: Array, made_features: Array) -> tuple[Array, Array]:
    """Features (N, d) and (M, d) about the mean of the N, of length 1; about the origin where there is one alone."""
    mean = real_features.mean(0) if len(real_features) > 1 else 0.0
    both = (real_features - mean, made_features - mean)
    first, second = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in both)
    return first, second


def groups_of(rows: Dataset, ctx: Context) -> Array:
    """The class of each row (N,); 0 of all where rows have no one class each."""
    if ctx.problem_type != "single_label_classification":
        return np.zeros(len(rows), dtype=np.int64)
    return np.asarray(rows["label"][:], dtype=np.int64)


def _width(ctx: Context) -> int:
    return len(ctx.labels) if ctx.problem_type == "single_label_classification" else 1


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _by_class(rows: Dataset, ctx: Context) -> dict[str, int]:
    counts = np.bincount(groups_of(rows, ctx), minlength=_width(ctx)).tolist()
    return dict(zip(ctx.labels, counts, strict=True)) if len(counts) == len(ctx.labels) else {"rows": sum(counts)}


def _write_provenance(
    originals: Dataset,
    rows: Dataset,
    made: Sequence[Mapping[str, Any]],
    judged: Judged,
    reasons: Sequence[str | None],
    ctx: Context,
    technique: str,
) -> None:
    """A line for each made row, by the main process."""
    if not PartialState().is_main_process:
        return
    ids, labels, nearest = rows["id"][:], rows["label"][:], originals["id"][:]
    with whole(ctx.work_dir / f"{technique}.jsonl") as partial, partial.open("w", encoding="utf-8") as file:
        for at, reason in enumerate(reasons):
            known = {
                "id": ids[at], "source": technique, "label": named(labels[at], ctx.labels, ctx.problem_type),
                "kept": reason is None, "dropped": reason,
                "agreement": _known(judged.agreement[at]), "confidence": _known(judged.confidence[at]),
                "similarity": round(float(judged.similarity[at]), 4), "nearest": nearest[judged.nearest[at]],
            }  # fmt: skip
            more = {name: value for name, value in made[at].items() if name not in rows.column_names}
            file.write(json.dumps({**known, "parent": made[at].get("parent"), "seed": ctx.seed, **more}) + "\n")
