"""Contents as a study or a Run makes them: figures are drawn at random, their shape is what results.json holds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_smalldata import report
from hf_smalldata.evaluation.diagnosis import diagnose
from hf_smalldata.evaluation.intervals import Interval, t_interval

Content = dict[str, Any]
COMMAND = "hf-smalldata study recipes/text/reviews_lora.yaml --budgets 8 16 64 --seeds 0 1 2"
ENVIRONMENT = {
    "date": "2026-11-24", "command": COMMAND, "python": "3.11.9", "system": "Linux-6.8.0-x86_64-with-glibc2.39",
    "cpu_cores": 2, "gpus": [], "processes": 1,
    "versions": {"hf_smalldata": "0.2.0", "torch": "2.14.1", "transformers": "5.24.0", "numpy": "2.4.1"},
}  # fmt: skip
ERRORS_ALONE = {"variant": "reviews", "budget": "all", "rows": "test rows, seed 0",
                "per_class": None, "confusion": None, "reliability": None}  # fmt: skip
SINGLE = ["accuracy", "macro_f1", "mcc", "log_loss", "ece"]


def interval(found: Interval) -> Content:
    return {"value": found.value, "low": found.low, "high": found.high}


def alone(value: float) -> Content:
    return {"value": value, "low": None, "high": None}


def around(value: float, half: float) -> Content:
    return {"value": value, "low": value - half, "high": value + half}


class Maker:
    """Draws runs and their intervals; one generator, so every content is the same in every session."""

    def __init__(self, metrics: list[str], seeds: list[int], folds: int = 0, spread: float = 0.012) -> None:
        self.metrics, self.seeds, self.folds, self.spread = metrics, seeds, folds, spread
        self.rng = np.random.default_rng(3)

    def result(self, variant: str, means: list[float], budget: str, rows: int, baseline: bool = False) -> Content:
        runs = []
        for seed in self.seeds:
            for fold in range(self.folds) if self.folds else [0]:
                drawn = dict(zip(self.metrics, map(float, self.rng.normal(means, self.spread)), strict=True))
                run = {"seed": seed, "repeat": 0, "fold": fold, **drawn}
                runs.append(run if baseline else run | self.facts(rows))
        several = len(runs) > 1
        columns = {name: [run[name] for run in runs] for name in self.metrics}
        found = {name: interval(t_interval(each)) if several else alone(each[0]) for name, each in columns.items()}
        ensemble = {name: float(np.mean(each)) + 0.006 for name, each in columns.items()}
        return {
            "variant": variant, "baseline": baseline, "budget": budget, "train_rows": rows, "metrics": found,
            "ensemble": ensemble if several and not baseline and not self.folds else None, "runs": runs,
        }  # fmt: skip

    def facts(self, rows: int) -> Content:
        return {
            "train_rows": rows, "train_seconds": 2.0 + 0.11 * rows, "epochs": 10.0, "steps": 10 * rows // 8,
            "restarts": 0, "collapsed": False, "trained_parameters": 296_450, "parameters": 23_010_050,
            "peak_memory_bytes": 1_210_000_000 + 10_000 * rows,
        }  # fmt: skip


def comparison(kind: str, what: str, a: str, b: str, budget: str, difference: Content, p: float | None) -> Content:
    low, high = difference["low"], difference["high"]
    resolved = low is not None and (low > 0 or high < 0)
    good, poor = ("helped", "hurt") if kind in ("technique", "addition") else ("better", "worse")
    return {
        "kind": kind, "what": what, "a": a, "b": b, "budget": budget, "difference": difference,
        "p": p, "adjusted_p": None if p is None else min(1.0, 3 * p),
        "verdict": (good if low > 0 else poor) if resolved else "not resolved",
        "needed": None if resolved or low is None else "about 12 seeds would resolve it",
    }  # fmt: skip


def empty(**parts: Any) -> Content:
    """The keys that every content has, and what a test adds."""
    return {
        "kind": "run", "title": "reviews", "task": "text-classification", "model": "bundled/minilm-l6", "labels": [],
        "comparisons": [], "gate": None, "curves": [], "diagnosis": None, "calibration": None, "label_errors": None,
        "notes": [], "environment": ENVIRONMENT, "recipes": {"reviews": "task: text-classification\n"},
    } | parts  # fmt: skip


def setting(seeds: list[int], budgets: list[str], labels: list[str], test: int, told: str, folds: int = 0) -> Content:
    counts = {label: {"pool": 80, **({"test": test // len(labels)} if test else {})} for label in labels}
    return {
        "seeds": seeds, "budgets": budgets, "folds": folds, "repeats": 1, "classes": counts, "interval": told,
        "rows": {"pool": 400, "validation": 0, "test": test},
    }  # fmt: skip


def text_study() -> Content:
    make, budgets = Maker(SINGLE, [0, 1, 2]), {"8": 40, "16": 80, "64": 320}
    ahead = {"lora": -0.01, "label_smoothing": 0.018, "freeze": 0.022}
    settings = {"all techniques": 0.02, **{f"without {name}": value for name, value in ahead.items()}}
    results, comparisons, tfidf = [], [], "TF-IDF + logistic regression"
    for step, (budget, rows) in enumerate(budgets.items()):
        base = 0.865 + 0.025 * step
        for name, more in settings.items():
            means = [base + more, base + more - 0.004, base + more - 0.03, 0.42 - 0.06 * step, 0.081 - 0.01 * step]
            results.append(make.result(name, means, budget, rows))
        results.append(make.result(tfidf, [base - 0.09, base - 0.1, base - 0.2, 0.8, 0.21], budget, rows, True))
        results.append(make.result("majority class", [0.2, 0.067, 0.0, 1.61, 0.0], budget, rows, True))
        shifts = {"lora": (0.03, 0.02, 0.004), "label_smoothing": (0.002, 0.014, 0.7), "freeze": (-0.012, 0.01, 0.01)}
        for what, (value, half, p) in shifts.items():
            sides = ("all techniques", f"without {what}", budget)
            comparisons.append(comparison("technique", what, *sides, around(value - 0.004 * step, half), p))
        for name, more in settings.items():
            comparisons.append(comparison("baseline", name, name, tfidf, budget, around(0.09 + more, 0.03), 0.0001))
    names, labels = list(settings), ["business", "entertainment", "politics", "sport", "tech"]
    curves = [curve(name, results, 80 if name == "all techniques" else 0) for name in settings]
    return empty(
        kind="study", title="News articles, five topics", labels=labels, problem_type="single_label_classification",
        main_metric="accuracy", metrics=SINGLE, row_score="accuracy",
        setting=setting([0, 1, 2], list(budgets), labels, 500, "95 %, Student's t over 3 seeds"),
        results=results, comparisons=comparisons,
        gate={"kept": ["lora", "label_smoothing"], "removed": ["freeze"],
              "sentence": "left out: freeze; what remains against the whole recipe: +0.012 [+0.001, +0.023], better"},
        curves=curves, diagnosis=diagnosis("all techniques", "test rows, seed 0", labels),
        notes=["Your 500 test rows cannot resolve differences below 2.6 points."],
        recipes={name: f"task: text-classification\nmodel: {{name: bundled/minilm-l6}}  # {name}\n" for name in names},
    )  # fmt: skip


def curve(name: str, results: list[Content], more: int) -> Content:
    measured = [each for each in results if each["variant"] == name]
    points = [{key: each[key] for key in ("budget", "train_rows")} | each["metrics"]["accuracy"] for each in measured]
    top = points[-1]["value"]
    band = [
        {"train_rows": float(n), **around(top - 0.45 * (n**-0.5 - 320**-0.5), 0.01 + 0.00008 * max(0.0, n - 100))}
        for n in np.geomspace(40, 320 + more, 12)
    ]
    told = f"{more} more labels: +0.003 [-0.004, +0.010]"
    forecast = {"more": more, "gain": around(0.003, 0.007), "sentence": told} if more else None
    return {"variant": name, "level": 0.9, "points": points, "band": band, "forecast": forecast}


def diagnosis(variant: str, rows: str, labels: list[str]) -> Content:
    """What `diagnose` says of made predictions, most of them right."""
    rng, classes = np.random.default_rng(1), len(labels)
    truth = np.repeat(np.arange(classes), 60 if classes < 20 else 6)
    logits = rng.normal(0, 1.3, (len(truth), classes)) + 3.2 * np.eye(classes)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = diagnose([f"test:{at}" for at in range(len(truth))], truth, scores, labels, "single_label_classification")
    return {"variant": variant, "budget": "all", "rows": rows, **found}


def image_study() -> Content:
    labels = ["ants", "bees", "flies", "wasps"]
    make, name = Maker(SINGLE[:4], [0], folds=5, spread=0.03), "colour + HOG + logistic regression"
    results = [
        make.result("frozen body", [0.903, 0.9, 0.87, 0.31], "all", 320),
        make.result("full fine-tuning", [0.871, 0.869, 0.83, 0.42], "all", 320),
        make.result(name, [0.6, 0.58, 0.46, 0.9], "all", 320, True),
    ]
    calibration = {
        "temperature": 1.38, "ece_before": 0.084, "ece_after": 0.031, "log_loss_before": 0.342, "log_loss_after": 0.309,
        "rows": 400, "conformal": [
            {"coverage": coverage, "threshold": threshold, "measured_coverage": coverage + 0.008, "mean_labels": mean,
             "single_label_share": 2 - mean}
            for coverage, threshold, mean in ((0.8, 0.41, 1.0), (0.9, 0.78, 1.07), (0.95, None, 1.4))
        ],
    }  # fmt: skip
    suspects = [{"id": f"test:{n}", "given": "ants", "suggested": "bees", "self_confidence": 0.03} for n in range(4)]
    return empty(
        kind="study", title="Insects", task="image-classification", model="google/vit-base-patch16-224-in21k",
        labels=labels, problem_type="single_label_classification", main_metric="accuracy", metrics=SINGLE[:4],
        row_score="accuracy",
        setting=setting([0], ["all"], labels, 0, "95 %, Student's t over 5 folds", folds=5), results=results,
        comparisons=[
            comparison("recipe", "frozen body", "frozen body", "full fine-tuning", "all", around(0.032, 0.04), 0.21),
            comparison("baseline", name, "frozen body", name, "all", around(0.3, 0.06), 0.0002),
        ],
        diagnosis=diagnosis("frozen body", "out-of-fold rows", labels), calibration=calibration, label_errors=suspects,
    )  # fmt: skip


def run(maker: Maker, means: list[float], name: str, poor: list[float], rows: tuple[str, int], **parts: Any) -> Content:
    """A Run named `reviews` beside one baseline, on which it is 0.2 ahead. `rows`: the budget and its rows."""
    ahead = around(0.2, 0.05) if len(maker.seeds) > 1 else alone(0.2)
    told = "95 %, Student's t over seeds" if len(maker.seeds) > 1 else "95 %, Wilson or bootstrap over test rows"
    labels = parts.get("labels", [])
    return empty(
        main_metric=maker.metrics[0], metrics=maker.metrics, setting=setting(maker.seeds, [rows[0]], labels, 120, told),
        results=[maker.result("reviews", means, *rows), maker.result(name, poor, *rows, True)],
        comparisons=[comparison("baseline", name, "reviews", name, rows[0], ahead, None)], **parts,
    )  # fmt: skip


def multi_label_run() -> Content:
    errors = [
        {"id": "17", "label": ["battery", "price"], "prediction": [], "score": 0.8, "score_of_label": 0.1},
        {"id": "23", "label": [], "prediction": ["sound"], "score": 0.7, "score_of_label": 0.2},
    ]
    return run(
        Maker(["macro_f1", "micro_f1"], [0, 1]), [0.71, 0.74], "majority class", [0.0, 0.0], ("16", 64),
        title="Complaints", labels=["battery", "price", "screen", "sound"], problem_type="multi_label_classification",
        row_score="share of labels right", diagnosis={**ERRORS_ALONE, "errors": errors},
    )  # fmt: skip


def regression_run() -> Content:
    errors = [{"id": "a1", "label": 4.5, "prediction": 1.25, "score": None, "score_of_label": None}]
    return run(
        Maker(["rmse", "spearman"], [0, 1, 2]), [0.62, 0.81], "training mean", [1.1, 0.0], ("all", 200),
        title="Stars", problem_type="regression", row_score="minus squared error",
        diagnosis={**ERRORS_ALONE, "errors": errors},
    )  # fmt: skip


def one_seed_run() -> Content:
    return run(
        Maker(["accuracy", "log_loss"], [0]), [0.8, 0.5], "majority class", [0.5, 0.7], ("8", 16),
        labels=["neg", "pos"], problem_type="single_label_classification", row_score="accuracy",
    )  # fmt: skip


HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def hostile_study() -> Content:
    """What users and rows may bring: markup, endless words, all scripts, 77 classes, numbers that are none."""
    content, long = text_study(), "verylongword" * 25
    words = [HOSTILE, long, "a|b", "שלום עולם", "مرحبا بالعالم", "猫と犬", "👩‍👩‍👧 $x_1$"]
    labels = [*words, *(f"class {n}" for n in range(70))]
    names = {"all techniques": HOSTILE, "without lora": long, "without freeze": "猫と犬 $a$\x0b"}
    for each in (*content["results"], *content["curves"]):
        each["variant"] = names.get(each["variant"], each["variant"])
    for each in content["comparisons"]:
        each |= {side: names.get(each[side], each[side]) for side in ("a", "b")}
    content["results"][0]["metrics"]["accuracy"] |= {"low": float("nan"), "high": float("nan")}
    content["results"][1]["metrics"]["accuracy"] |= {"low": -3.0, "high": 9.0}
    content["curves"][0]["points"][0] |= {"low": None, "high": None}
    content["comparisons"][0] |= {"what": HOSTILE, "difference": alone(0.01)}
    content["diagnosis"] = diagnosis(HOSTILE, "test rows", labels)
    for at, error in enumerate(content["diagnosis"]["errors"]):
        error |= {"id": f"{HOSTILE}{at}", "label": labels[at % 7]}
    content["setting"]["classes"] = {label: {"pool": 5, "test": 2} for label in labels}
    content["environment"] = ENVIRONMENT | {"command": HOSTILE + long}
    return content | {
        "title": HOSTILE, "labels": labels, "notes": [HOSTILE, long], "recipes": {HOSTILE: HOSTILE + long},
        "label_errors": [{"id": long, "given": long, "suggested": HOSTILE, "self_confidence": 0.1}],
    }  # fmt: skip


MADE = (text_study, image_study, multi_label_run, regression_run, one_seed_run, hostile_study)
CONTENTS = {made.__name__: made for made in MADE}


def inputs_for(content: Content) -> dict[str, Any]:
    """A text, a pair, a picture in turn; hostile ones for hostile ids; the last row is not known."""
    errors = content["diagnosis"]["errors"] if content["diagnosis"] else []
    ids = [each["id"] for each in (*errors, *(content["label_errors"] or []))]
    rng = np.random.default_rng(0)
    if content["task"] == "image-classification":
        return {each: Image.fromarray(rng.integers(0, 255, (180, 240, 3), dtype=np.uint8)) for each in ids}
    last = f"{HOSTILE} {'x' * 900}" if HOSTILE in content["title"] else "A short one."
    texts = ["The central bank left rates as they were. " * 3, ("Rates stay", "No change at the bank"), last]
    return {each: texts[at % 3] for at, each in enumerate(ids[:-1])}


@pytest.fixture(params=CONTENTS)
def content_name(request: pytest.FixtureRequest) -> str:
    """Every content in turn."""
    return str(request.param)


@pytest.fixture
def content(content_name: str) -> Content:
    """The one whose turn it is."""
    return CONTENTS[content_name]()


@pytest.fixture
def contents() -> dict[str, Any]:
    """Makers of contents by name, for tests that change one."""
    return CONTENTS


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], str]:
    """Name of a content -> its page, made once."""
    return functools.cache(lambda name: report.html(CONTENTS[name](), inputs_for(CONTENTS[name]())))
