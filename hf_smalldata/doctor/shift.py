"""How far two domains lie apart: what a model trained on one will meet in the other, seen by plain features.

A model that is judged where it was trained says little of where it will serve. Whether inputs look different, whether
other words stand in them and whether other classes are frequent call for different remedies: which is it?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hf_smalldata.data.images import open_image
from hf_smalldata.data.modality import Kind, modality_of
from hf_smalldata.doctor.files import look
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.baselines import FEATURES, INVERSE_PENALTY

Array = np.ndarray[Any, Any]

FOLDS = 5
MOST_ROWS = 2000  # of each domain: more only sharpen what is seen already
FEWEST = 10  # rows of a domain
APART, NEAR = 0.9, 0.6  # AUC of a classifier of domains: above the one they are far apart, below the other hardly
OTHER_PRIOR = 0.1  # total variation of class shares that is worth a word
WORDS = 8  # shown of each domain
WORD = re.compile(r"\w+(?:['’]\w+)*")  # 'phone.' and 'phone' are one, as is "don't"
ONE_CLASS = {
    "source": "it teaches no class; add rows of the others, or name another data.label_column",
    "target": "one constant answer is right there, so that it judges no model, and alignment would press all classes "
    "upon this one; add rows of the others, or name another data.label_column",
}


@dataclass(frozen=True)
class Shift:
    """Source against target.

    Attributes:
        rows: of each domain.
        auc: of a classifier that tells domains apart, on rows that it has not seen: 0.5 where it cannot, 1 at best.
        distance: the proxy A-distance, 2 (1 - 2 error): 0 to 2.
        classes: rows of each class by domain; of an unlabelled target none.
        prior: share of each class in the source, and in the target (counted, or estimated); None where it cannot be.
        estimated: whether the target's shares are estimates (BBSE), for want of labels.
        unknown_words: share of the target's words that the source never uses; None where rows have no words.
        typical: the words that tell most, by domain.
        measures: named numbers of an input by domain, as (median of source, median of target): words, pixels, seconds.
        advice: what to try, and why.
    """

    rows: dict[str, int]
    auc: float
    distance: float
    classes: dict[str, dict[str, int]]
    prior: dict[str, dict[str, float]] | None
    estimated: bool
    unknown_words: float | None
    typical: dict[str, list[str]]
    measures: dict[str, tuple[float, float]]
    advice: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def shift(source: Dataset, target: Dataset, labels: Sequence[str], seed: int = 0) -> Shift:
    """Compare two domains.

    Args:
        source: rows with class indices as labels.
        target: rows of the same modality, with labels or without.
        labels: C names.
        seed: of folds, and of the rows that are looked at where there are many.

    Raises:
        UserError: fewer than ten rows in one of them, or rows of tokens.
    """
    kind = modality_of(source).kind
    if kind not in FEATURES:
        raise UserError(f"--source: domains of {kind} cannot be compared; those that can: {', '.join(FEATURES)}")
    few = [f"{name} {len(rows)}" for name, rows in (("source", source), ("target", target)) if len(rows) < FEWEST]
    if few:
        raise UserError(f"--source, --target: expected {FEWEST} rows or more of each domain, found {', '.join(few)}")
    rng = np.random.default_rng(seed)
    one, two = (rows.select(np.sort(rng.permutation(len(rows))[:MOST_ROWS])) for rows in (source, target))
    both = concatenate_datasets([_inputs(one, kind), _inputs(two, kind)])
    x, _ = FEATURES[kind][1](both, both.select([0]))
    side = np.repeat([0, 1], [len(one), len(two)])
    auc, distance = told_apart(x, side, seed)
    labelled = {"source": one, **({"target": two} if "label" in two.column_names else {})}
    classes = {name: _counts(rows, labels) for name, rows in labelled.items()}
    prior, estimated = _priors(x, one, two, labels, seed)
    unknown, typical = _words(one, two) if kind == "text" else (None, {})
    found = Shift(
        rows={"source": len(source), "target": len(target)},
        auc=round(auc, 4),
        distance=round(distance, 4),
        classes=classes,
        prior=prior,
        estimated=estimated,
        unknown_words=unknown,
        typical=typical,
        measures=_measures(one, two, kind),
        advice=[],
    )
    return Shift(**{**vars(found), "advice": advised(found, kind)})


def told_apart(x: Any, side: Array, seed: int) -> tuple[float, float]:
    """AUC and proxy A-distance of a linear classifier of domains, out of fold, domains weighing alike.

    The distance is 2 (1 - 2 ε), ε the mean error of both domains: Ben-David et al. 2007, and eq. 3 of
    https://arxiv.org/abs/1505.07818.

    Args:
        x: features of all rows (N, d).
        side: 0 or 1 of each row (N,).
        seed: of the folds.
    """
    folds = min(FOLDS, int(np.bincount(side).min()))
    learner = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000, class_weight="balanced")
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = cross_val_predict(learner, x, side, cv=cut, method="predict_proba")[:, 1]
    error = np.mean([((scores > 0.5) != label)[side == label].mean() for label in (0, 1)])
    return float(roc_auc_score(side, scores)), float(max(0.0, 2 * (1 - 2 * error)))


def prior_by_confusion(said: Array, labels: Array, asked: Array, classes: int) -> Array | None:
    """Shares of classes in unlabelled rows (C,), by what a classifier confuses: BBSE, https://arxiv.org/abs/1802.03916.

    Solves C q = μ (section 3): C the confusion matrix on source rows that it has not seen, columns by class; μ the mean
    prediction on the target. Holds if classes look alike in both domains. None where the classifier tells nothing.

    Args:
        said: probabilities on source rows, out of fold (N, C).
        labels: of them (N,).
        asked: probabilities on target rows (M, C).
        classes: C.
    """
    if len(np.unique(labels)) < classes:
        return None
    confusion = np.stack([said[labels == label].mean(0) for label in range(classes)], axis=1)  # (C said, C true)
    if np.linalg.cond(confusion) > 100:  # noise would be multiplied by as much
        return None
    shares = np.clip(np.linalg.solve(confusion, asked.mean(0)), 0, None)
    found: Array = shares / shares.sum()
    return found


def advised(found: Shift, kind: Kind) -> list[str]:
    """What to try, and why, the first thing first."""
    said: list[str] = []
    shares = found.classes.get("target", {})
    alone = {domain: names[0] for domain, counts in found.classes.items()
             if len(names := [name for name, count in counts.items() if count]) == 1}  # fmt: skip
    said += [f"every row of the {domain} is {name}: {ONE_CLASS[domain]}" for domain, name in alone.items()]
    lost = [name for name, count in shares.items() if count == 0 and "target" not in alone]
    fresh = [name for name, count in found.classes["source"].items() if count == 0 and shares.get(name)]
    if fresh:
        said.append(f"the source has no row of {', '.join(fresh)}: label some in the target, nothing else teaches them")
    if lost:
        said.append(f"the target has no row of {', '.join(lost)}: alignment would press them upon others; prefer "
                    "pseudo_labels, or leave these classes out")  # fmt: skip
    moved = _variation(found.prior) if found.prior is not None and not alone else 0.0
    if moved > OTHER_PRIOR:
        way = "estimated" if found.estimated else "counted"
        said.append(f"classes are as frequent otherwise ({way}: {moved:.0%} of rows would change class): coral, mmd "
                    "and dann assume they are not; prefer mcc or pseudo_labels, and a few target labels; label_shift "
                    "and adapted_head take the target's shares where you know them")  # fmt: skip
    if found.unknown_words is not None and found.unknown_words > 0.3:
        said.append(f"{found.unknown_words:.0%} of the target's words are not in the source: continued_pretraining on "
                    "the target's texts")  # fmt: skip
    if found.auc < NEAR:
        said.append("the domains hardly differ: a plain training on all labelled rows; more labels help more than any "
                    "adaptation")  # fmt: skip
    elif moved <= OTHER_PRIOR and not lost and not alone:
        strong = ", then dann" if found.auc > APART else ""
        said.append(f"inputs differ (AUC {found.auc:.2f}) and classes do not: adapted_head first, since it needs no "
                    f"training; of what trains the network mcc, which was best where we measured{strong}")  # fmt: skip
    if kind == "image" and found.auc >= NEAR:
        said.append("a fine-tuned network with BatchNorm (ResNet, …) can follow the target without training: "
                    "hf-smalldata predict RUN TARGET --adapt statistics")  # fmt: skip
    said.append("whatever it is, 8 labelled target rows a class beside the source (joint, source_then_target) show "
                "what the rest is worth")  # fmt: skip
    return said


def _inputs(rows: Dataset, kind: str) -> Dataset:
    columns = [name for name in ("text", "text_pair") if name in rows.column_names] if kind == "text" else [kind]
    return rows.select_columns(columns)


def _counts(rows: Dataset, labels: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(rows["label"][:], minlength=len(labels))
    return dict(zip(labels, counts.tolist(), strict=True))


def _priors(
    x: Any, one: Dataset, two: Dataset, labels: Sequence[str], seed: int
) -> tuple[dict[str, dict[str, float]] | None, bool]:
    """Shares of classes in both domains, and whether the target's are estimated."""
    given = np.asarray(one["label"][:])
    counts = np.bincount(given, minlength=len(labels))
    own = _shares(counts / counts.sum(), labels)
    if "label" in two.column_names:
        theirs = np.bincount(two["label"][:], minlength=len(labels))
        return {"source": own, "target": _shares(theirs / theirs.sum(), labels)}, False
    if len(labels) < 2 or counts.min() < FOLDS:
        return None, True
    learner = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000)
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    said = cross_val_predict(learner, x[: len(one)], given, cv=cut, method="predict_proba")
    asked = learner.fit(x[: len(one)], given).predict_proba(x[len(one) :])
    found = prior_by_confusion(said, given, asked, len(labels))
    return (None if found is None else {"source": own, "target": _shares(found, labels)}), True


def _shares(values: Array, labels: Sequence[str]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(labels, values, strict=True)}


def _variation(prior: Mapping[str, Mapping[str, float]]) -> float:
    """Total variation between both domains' class shares: 0 to 1."""
    return sum(abs(prior["source"][name] - prior["target"][name]) for name in prior["source"]) / 2


def _words(one: Dataset, two: Dataset) -> tuple[float, dict[str, list[str]]]:
    """Share of the target's words that the source never uses, and the words that tell most of each domain."""
    counts = [Counter(word for text in rows["text"][:] for word in WORD.findall(text.lower())) for rows in (one, two)]
    total = [sum(each.values()) for each in counts]
    unknown = sum(count for word, count in counts[1].items() if word not in counts[0]) / max(1, total[1])
    odds = {
        word: np.log((counts[0][word] + 1) / (total[0] + 1)) - np.log((counts[1][word] + 1) / (total[1] + 1))
        for word in counts[0] | counts[1]
        if counts[0][word] + counts[1][word] >= 3
    }
    ordered = sorted(odds, key=lambda word: (odds[word], word))
    return round(unknown, 4), {"source": ordered[::-1][:WORDS], "target": ordered[:WORDS]}


def _measures(one: Dataset, two: Dataset, kind: str) -> dict[str, tuple[float, float]]:
    """Medians of what an input measures, in both domains."""
    sides = [_measured(rows, kind) for rows in (one, two)]
    return {name: (float(np.median(sides[0][name])), float(np.median(sides[1][name]))) for name in sides[0]}


def _measured(rows: Dataset, kind: str) -> dict[str, list[float]]:
    if kind == "image":
        sizes = [open_image(value).size for value in rows["image"]]
        return {f"{side} in pixels": [float(size[at]) for size in sizes] for at, side in enumerate(("width", "height"))}
    if kind == "audio":
        facts, _ = look(kind, rows)
        return {
            "seconds": [each.seconds for each in facts],
            "samples a second": [float(each.rate_hz) for each in facts],
        }
    if kind == "sequence":
        return {"letters": [float(len(each)) for each in rows["sequence"][:]]}
    return {"words": [float(len(each.split())) for each in rows["text"][:]]}
