"""Pseudo-labels: a teacher labels the unlabelled rows, and those that it is surest of are learnt from as well.

Helps when a model is right more often than not on few labels, and hundreds of rows lie beside them without any: of the
same domain, or of another that the model is wanted for. Costs a training more each round, and one a fold to learn how
sure the teacher may be. Hurts where the teacher is sure and wrong, or where the unlabelled rows hold other classes.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from pydantic import Field, PositiveInt
from scipy.stats import binom

from hf_smalldata.data.made import real, with_made
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.calibration import fit_temperature, with_temperature
from hf_smalldata.technique import Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, one_class_each

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

WORSE = 0.05  # probability of so few hits by chance, below which the teacher is worse than that


def surest(probabilities: Array, confidence: float, margin: float, share: float, per_class: int | None) -> Array:
    """Of the rows that are said to be of each class the surest ones: their indices, in order (K,).

    Args:
        probabilities: (M, C).
        confidence: least probability of the class.
        margin: least lead over the second class.
        share: of the rows said to be of a class, at most so many: what hard classes lack in sureness they keep in rows.
        per_class: and at most this number; None for any.
    """
    said, ordered = probabilities.argmax(1), np.sort(probabilities, axis=1)
    best, lead = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    chosen = []
    for label in range(probabilities.shape[1]):
        rows = np.flatnonzero(said == label)
        most = int(np.ceil(share * len(rows) - 1e-9))
        rows = rows[np.argsort(-best[rows], kind="stable")][: most if per_class is None else min(most, per_class)]
        chosen.append(rows[(best[rows] >= confidence) & (lead[rows] >= margin)])
    return np.sort(np.concatenate(chosen))


class PseudoLabels(Technique):
    """Curriculum labelling: in round r of R the surest r / R of each class, each time by a teacher trained anew.

    The teacher is this recipe without its `rows` hooks. How sure it may be is learnt from folds of the labelled rows: a
    temperature is fitted to what teachers of the other folds say. With dropout or augmentation in the recipe this is
    noisy student training with hard labels: the teacher labels without noise, and the student learns with it.
    """

    name = "pseudo_labels"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://arxiv.org/abs/2001.06001"

    rounds: PositiveInt = 2  # teachers, each of them a training
    confidence: float = Field(default=0.7, ge=0, lt=1)  # least calibrated probability of the label
    margin: float = Field(default=0.0, ge=0, lt=1)  # and its least lead over the second
    share: float = Field(default=1.0, gt=0, le=1)  # of each class, in the last round
    per_class: PositiveInt | None = None  # most rows of a class: balances them
    folds: int = Field(default=3, ge=0)  # of labelled rows, by which the teacher is judged; 0 or 1: it is not

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them unlabelled ones with the teacher's labels.

        Raises:
            UserError: rows without one class each, or a teacher that is clearly worse than chance.
        """
        one_class_each(self.name, ctx.problem_type)
        if ctx.unlabelled is None:
            raise UserError("pseudo_labels: there are no unlabelled rows; set data.unlabelled")
        temperature, right = self._judged(real(train), ctx)
        facts: dict[str, Any] = {"temperature": round(temperature, 3), "right_out_of_fold": right}
        made, counts = train, list[dict[str, int]]()
        for turn in range(1, self.rounds + 1):
            values = with_temperature(ctx.fit(made)(ctx.unlabelled), temperature)
            chosen = surest(values, self.confidence, self.margin, self.share * turn / self.rounds, self.per_class)
            found = values.argmax(1)[chosen]
            counts.append({name: int((found == at).sum()) for at, name in enumerate(ctx.labels)})
            logger.info("pseudo_labels: round %d of %d: %d of %d rows", turn, self.rounds, len(chosen), len(values))
            if len(set(values.argmax(1).tolist())) == 1:
                said = f"had no effect: the teacher calls all unlabelled rows {ctx.labels[int(values[0].argmax())]}"
                logger.warning("pseudo_labels: %s", said)
                ctx.facts[self.name] = {**facts, "rounds": counts, "disclosed": said}
                return train
            rows = ctx.unlabelled.select(chosen.tolist())
            labelled = [{**row, "label": int(label)} for row, label in zip(rows, found, strict=True)]
            made = with_made(train, labelled, self.name) if labelled else train
        if len(made) == len(train):
            facts["disclosed"] = "had no effect: the teacher is sure of no row"
            logger.warning("pseudo_labels: %s; lower confidence", facts["disclosed"])
        ctx.facts[self.name] = {**facts, "rounds": counts}
        return made

    def _judged(self, train: Dataset, ctx: Context) -> tuple[float, float | None]:
        """The temperature of teachers, and the share of rows of other folds that they are right on."""
        labels = np.asarray(train["label"][:])
        parts = dealt(labels, self.folds, ctx.seed)
        if parts is None:
            if self.folds > 1:
                logger.warning("pseudo_labels: the teacher is not judged, and may be worse than chance: a class has "
                               "fewer rows than the %d folds", self.folds)  # fmt: skip
            return 1.0, None
        values = np.zeros((len(labels), len(ctx.labels)))
        for fold in range(self.folds):
            out = np.flatnonzero(parts == fold)
            values[out] = ctx.fit(train.select(np.flatnonzero(parts != fold)))(train.select(out))
        hits = int((values.argmax(1) == labels).sum())
        right, chance = hits / len(labels), 1 / len(ctx.labels)
        told = (f"pseudo_labels: teachers are right on {right:.0%} of labelled rows that they have not seen, "
                f"chance is {chance:.0%}")  # fmt: skip
        if binom.cdf(hits, len(labels), chance) < WORSE:
            raise UserError(f"{told}; label more rows, or train better on those that are there, before others follow")
        if right <= chance:
            logger.warning(told)
        return fit_temperature(values, labels), round(right, 4)


def dealt(labels: Array, folds: int, seed: int) -> Array | None:
    """The fold of each row (N,), classes dealt out evenly; None where a class has fewer rows than there are folds."""
    if folds < 2 or min(np.bincount(labels)[np.unique(labels)]) < folds:
        return None
    rng = np.random.default_rng([seed, 3])
    order = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    parts = np.empty(len(labels), dtype=np.int64)
    parts[order] = np.arange(len(labels)) % folds
    return parts
