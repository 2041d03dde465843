"""Do 95 % intervals hold the truth in 95 % of studies, and how often is a technique without effect called "helped"?

    python scripts/bench/coverage.py [--repetitions 2000] [--seed 0] [--results coverage.jsonl]

Made studies of which the truth is known: seeds' scores; right and wrong rows of two predictors, from a probit model
with random rows and seeds; real learners under cross-validation; ablations of four techniques without effect. Each cell
is appended to --results as one line, so that a run that was cut off goes on where it stopped. 2,000 repetitions tell
95 % to within one point. Tables are printed at the end: percentages, in bold a coverage outside 93 to 97.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import binom
from tqdm import tqdm

from hf_smalldata.evaluation.comparison import (
    Comparison,
    corrected_difference,
    corrected_interval,
    crossed_difference,
    holm,
    verdict,
)
from hf_smalldata.evaluation.intervals import Interval, bootstrap, t_interval, wilson

SEEDS, ROWS, FOLDS = (2, 3, 5, 10), (40, 100, 500), 5
DIFFICULTY = 2.0  # spread of rows that both predictors share, in units of what a seed does to a single row
# Spread of the technique's effect over rows and over seeds, in the same units.
EFFECTS = ((0.0, 0.0), (1.0, 0.0), (0.0, 0.4), (0.5, 0.15), (1.0, 0.4))
SIGNALS = {"equal": (0.6, 0.6), "equal, easy": (1.6, 1.6), "unequal": (0.9, 0.5)}  # of the two feature blocks
FEATURES, SHARED, SHARED_SIGNAL = 10, 5, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("coverage.jsonl"))
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    found = []
    for case in tqdm(list(cases()), unit="cell"):
        key = {**case, "repetitions": given.repetitions, "seed": given.seed}
        line = next((line for line in lines if key.items() <= line.items()), None)
        if line is None:
            rng = np.random.default_rng([given.seed, zlib.crc32(json.dumps(case).encode())])
            setting = {name: value for name, value in case.items() if name != "part"}
            line = {**key, **PARTS[case["part"]](rng, given.repetitions, **setting)}
            with given.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
        found.append({name: value for name, value in line.items() if name not in ("repetitions", "seed")})
    for part, members in groupby(found, key=lambda line: line["part"]):
        print(f"\n### {part}\n\n{table(list(members))}")


def cases() -> Iterator[dict[str, Any]]:
    for shape, seeds in product(("normal", "skewed"), SEEDS):
        yield {"part": "mean over seeds", "shape": shape, "seeds": seeds}
    for method, accuracy, rows in product(("wilson", "bootstrap"), (0.7, 0.9, 0.98), ROWS):
        yield {"part": "accuracy over rows", "method": method, "accuracy": accuracy, "rows": rows}
    for (accuracy, gain), (by_row, by_seed) in product(((0.7, 0.0), (0.7, 0.1), (0.95, 0.03)), EFFECTS):
        for seeds, rows in product(SEEDS, ROWS):
            yield {"part": "difference over seeds and rows", "accuracy": accuracy, "gain": gain, "by_row": by_row,
                   "by_seed": by_seed, "seeds": seeds, "rows": rows}  # fmt: skip
    for learner, signal, rows, repeats in product(("centroid", "ridge"), SIGNALS, (40, 100, 200), (1, 3, 10)):
        yield {"part": "difference over folds", "learner": learner, "signal": signal, "rows": rows, "repeats": repeats}
    for (by_row, by_seed), seeds, rows in product((EFFECTS[0], *EFFECTS[3:]), SEEDS, ROWS):
        yield {"part": "ablation over seeds and rows", "by_row": by_row, "by_seed": by_seed, "seeds": seeds,
               "rows": rows}  # fmt: skip
    for rows, repeats in product((40, 100), (1, 3, 10)):
        yield {"part": "ablation over folds", "rows": rows, "repeats": repeats}


def mean_over_seeds(rng: np.random.Generator, repetitions: int, shape: str, seeds: int) -> dict[str, float]:
    """Accuracies of seeds about 0.95: normal, or bounded by 1 with a long tail to below."""
    size = (repetitions, seeds)
    values = rng.normal(0.95, 0.05, size) if shape == "normal" else rng.beta(19, 1, size)
    return {"coverage": float(np.mean([holds(t_interval(each), 0.95) for each in values]))}


def accuracy_over_rows(_: Any, __: Any, method: str, accuracy: float, rows: int) -> dict[str, float]:
    """Exact: each number of right rows, weighted by its probability."""
    likely = [k for k in range(rows + 1) if binom.pmf(k, rows, accuracy) > 1e-5]

    def interval(right: int) -> Interval:
        if method == "wilson":
            return wilson(right, rows)
        return bootstrap(lambda weights: weights[:, :right].sum(1) / rows, rows)

    return {"coverage": float(sum(binom.pmf(k, rows, accuracy) for k in likely if holds(interval(k), accuracy)))}


def difference_over_seeds_and_rows(
    rng: np.random.Generator, repetitions: int, accuracy: float, gain: float, **study: Any
) -> dict[str, float]:
    pairs = list(predictors(rng, repetitions, [accuracy + gain, accuracy], **study))
    compared = [crossed_difference(a, b) for a, b in pairs]
    usual = [satterthwaite(one).difference for one in compared]
    return {**judged(compared, gain), "Satterthwaite": float(np.mean([holds(one, gain) for one in usual]))}


def difference_over_folds(
    rng: np.random.Generator, repetitions: int, learner: str, signal: str, rows: int, repeats: int
) -> dict[str, float]:
    scores = np.concatenate([cross_validated(rng, 100, learner, SIGNALS[signal], rows, repeats)
                             for _ in range(0, repetitions, 100)])  # fmt: skip
    truths = expected_accuracies(learner, SIGNALS[signal], rows * (FOLDS - 1) // FOLDS)
    gain = truths[0] - truths[1] if signal == "unequal" else 0.0  # equal by symmetry
    share = 1 / (FOLDS - 1)
    means = [corrected_interval(each[0], share) for each in scores]
    return {**judged([corrected_difference(each[0] - each[1], share) for each in scores], gain), "gain": gain,
            "accuracy": truths[0], "mean score": float(np.mean([holds(one, truths[0]) for one in means]))}  # fmt: skip


def ablation_over_seeds_and_rows(rng: np.random.Generator, repetitions: int, **study: Any) -> dict[str, float]:
    """Four techniques, none with an effect, each against the same plain recipe."""
    studies = predictors(rng, repetitions, [0.7] * 5, **study)
    families = [[crossed_difference(technique, plain) for technique in others] for plain, *others in studies]
    usual = family([[satterthwaite(one) for one in each] for each in families])
    return {**family(families), "Satterthwaite helped or hurt": usual["any helped or hurt"]}


def ablation_over_folds(rng: np.random.Generator, repetitions: int, rows: int, repeats: int) -> dict[str, float]:
    families = []
    for _ in range(0, repetitions, 100):
        scores = cross_validated(rng, 100, "ridge", [0.6] * 5, rows, repeats)
        families += [[corrected_difference(each, 1 / (FOLDS - 1)) for each in one[1:] - one[0]] for one in scores]
    return family(families)


def predictors(
    rng: np.random.Generator, repetitions: int, accuracies: list[float], seeds: int, rows: int, by_row: float,
    by_seed: float,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Right (1) or wrong (0) of each predictor, seed and row (P, S, N), with exactly these expected accuracies."""
    thresholds = ndtri(accuracies) * math.sqrt(1 + DIFFICULTY**2 + by_row**2 + by_seed**2)
    count = len(accuracies)
    for _ in range(repetitions):
        latent = rng.standard_normal((count, seeds, rows), dtype=np.float32) + thresholds[:, None, None]
        latent += DIFFICULTY * rng.standard_normal(rows) + by_row * rng.standard_normal((count, 1, rows))
        latent += by_seed * rng.standard_normal((count, seeds, 1))
        yield (latent > 0).astype(np.float64)


def cross_validated(
    rng: np.random.Generator, studies: int, learner: str, signals: Any, rows: int, repeats: int
) -> np.ndarray:
    """Accuracies (studies, P, repeats x folds) of one learner on P feature blocks of the same rows, same folds."""
    blocks, labels = made_rows(rng, studies, rows, signals)
    ranks = np.argsort(rng.random((studies, repeats, 2, rows // 2)), -1)  # within each class: stratified
    fold = np.moveaxis(ranks, 2, 3).reshape(studies, repeats, rows) % FOLDS
    test = (fold[:, :, None] == np.arange(FOLDS)[:, None]).reshape(studies, repeats * FOLDS, rows).astype(np.float64)
    scores = []
    for block in blocks:
        weights, bias = fitted(learner, block, labels, 1 - test)
        right = (weights @ np.swapaxes(block, 1, 2) + bias[..., None]) * labels[:, None] > 0
        scores.append((right * test).sum(-1) / test.sum(-1))
    return np.stack(scores, 1)


@cache
def expected_accuracies(learner: str, signals: tuple[float, ...], rows: int) -> list[float]:
    """Mean over 10,000 training sets; a linear classifier's accuracy on normal classes has a closed form."""
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        blocks, labels = made_rows(rng, 100, rows, signals)
        for signal, block in zip(signals, blocks, strict=True):
            weights, bias = (each[:, 0] for each in fitted(learner, block, labels, np.ones((100, 1, rows))))
            centre = weights[:, 0] * signal + weights[:, FEATURES] * SHARED_SIGNAL
            norm = np.linalg.norm(weights, axis=-1)
            found.append(np.mean(ndtr((centre + bias) / norm) + ndtr((centre - bias) / norm)) / 2)
    return [float(each) for each in np.reshape(found, (100, len(signals))).mean(0)]


def made_rows(rng: np.random.Generator, studies: int, rows: int, signals: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """Blocks of features (studies, rows, d) with shared ones at their end, and labels -1 and 1 in turn."""
    labels = np.tile([-1.0, 1.0], (studies, rows // 2))
    shared = rng.standard_normal((studies, rows, SHARED))
    shared[..., 0] += SHARED_SIGNAL * labels
    blocks = []
    for signal in signals:
        block = rng.standard_normal((studies, rows, FEATURES))
        block[..., 0] += signal * labels
        blocks.append(np.concatenate([block, shared], -1))
    return blocks, labels


def fitted(learner: str, x: np.ndarray, labels: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (studies, F, d) and bias (studies, F), trained on the rows that `used` (studies, F, N) marks with 1."""
    if learner == "centroid":
        classes = [used * (labels == sign)[:, None] for sign in (1, -1)]
        up, down = (each @ x / each.sum(-1, keepdims=True) for each in classes)
        return up - down, -((up - down) * (up + down)).sum(-1) / 2
    x = np.concatenate([x, np.ones((*x.shape[:2], 1))], -1)
    d = x.shape[-1]
    products = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], d * d)
    gram = (used @ products).reshape(*used.shape[:2], d, d) + np.diag([1.0] * (d - 1) + [1e-9])
    solved = np.linalg.solve(gram, (used @ (x * labels[..., None]))[..., None])[..., 0]
    return solved[..., :-1], solved[..., -1]


def satterthwaite(one: Comparison) -> Comparison:
    """The same variance with Satterthwaite's degrees of freedom, as is usual."""
    residual = one.residual / (one.seeds * one.rows)
    of_rows, of_seeds = one.by_row / one.rows + residual, one.by_seed / one.seeds + residual
    variance = max(of_rows, of_seeds, of_rows + of_seeds - residual)
    if variance == 0:
        return one
    degrees = variance**2 / (of_rows**2 / (one.rows - 1) + of_seeds**2 / (one.seeds - 1))
    value, error = one.difference.value, math.sqrt(variance)
    half = stdtrit(degrees, 0.975) * error
    return one._replace(
        difference=Interval(value, value - half, value + half), p=2 * stdtr(degrees, -abs(value) / error)
    )


def judged(compared: list[Comparison], truth: float) -> dict[str, float]:
    """Coverage among intervals that exist, the share that do not, the mean width, and verdicts without correction."""
    told = [one.difference for one in compared if not math.isnan(one.difference.low)]
    said = [verdict(one, one.p) for one in compared]
    return {"coverage": float(np.mean([holds(one, truth) for one in told])), "none": 1 - len(told) / len(compared),
            "width": float(np.mean([one.high - one.low for one in told])),
            **{word: said.count(word) / len(said) for word in ("helped", "hurt")}}  # fmt: skip


def family(families: list[list[Comparison]]) -> dict[str, float]:
    said = [[verdict(one, p) for one, p in zip(each, holm([one.p for one in each]), strict=True)] for each in families]
    return {"any helped": float(np.mean(["helped" in each for each in said])),
            "any helped or hurt": float(np.mean([len(set(each) - {"not resolved"}) > 0 for each in said]))}  # fmt: skip


def holds(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def table(lines: list[dict[str, Any]]) -> str:
    names = [name for name in lines[0] if name != "part"]
    first = next(at for at, name in enumerate(names) if name in ("coverage", "any helped"))

    def shown(at: int, name: str, value: Any) -> str:
        if at < first:
            return str(value)
        outside = name in ("coverage", "Satterthwaite", "mean score") and not 0.93 <= value <= 0.97
        return f"**{100 * value:.1f}**" if outside else f"{100 * value:.1f}"

    rows = [[shown(at, name, line[name]) for at, name in enumerate(names)] for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


PARTS = {
    "mean over seeds": mean_over_seeds,
    "accuracy over rows": accuracy_over_rows,
    "difference over seeds and rows": difference_over_seeds_and_rows,
    "difference over folds": difference_over_folds,
    "ablation over seeds and rows": ablation_over_seeds_and_rows,
    "ablation over folds": ablation_over_folds,
}

if __name__ == "__main__":
    main()
