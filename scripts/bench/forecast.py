"""Learning curves forecast from 4 to 64 labels a class, against what 128 labels a class really brought.

    python scripts/bench/forecast.py --data FOLDER [--sets trec yelp] [--seeds 0 1 2 3 4] [--results forecast.jsonl]

FOLDER holds data sets as folders (see SETS), the bundled ones need none of it. A case is a set and a learner: a linear
model on plain features (TF-IDF, or colour + HOG), or on the mean of MiniLM's last states, which are computed once and
kept beside --results. Each score is appended to --results as one line, so a run that was cut off goes on where it
stopped. While the method was made, every other set was looked at (`choose`); the rest (`check`) once, at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from tqdm.auto import tqdm

from hf_smalldata.data.bundled import model_folder
from hf_smalldata.data.images import open_image
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.sample import draw, split
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.evaluation.baselines import INVERSE_PENALTY, colour_and_hog, text_features
from hf_smalldata.evaluation.curve import forecast, learning_curve
from hf_smalldata.evaluation.intervals import Interval
from hf_smalldata.evaluation.metrics import score

BUDGETS = (4, 8, 16, 32, 64)  # labels a class that the curve is fitted on
METRICS = ("accuracy", "macro_f1")
LETTERS = 5  # of a "word" of DNA


@dataclass(frozen=True)
class Set:
    """One data set: where it lies, what its rows are, and how many labels a class there are to forecast."""

    source: str
    kind: str  # text, image, domains (folders of class folders) or dna
    half: str
    target: int = 128  # labels a class; classes with fewer training rows are left out

    @property
    def learners(self) -> tuple[str, ...]:
        return {"text": ("TF-IDF", "MiniLM"), "dna": ("TF-IDF",)}.get(self.kind, ("colour + HOG",))


SETS = {  # in alphabetical order, and every other one to choose by
    "amazon": Set("uci_sentiment_da/amazon.jsonl", "text", "choose"),
    "banking77": Set("banking77", "text", "check"),
    "bbc-news": Set("bundled/bbc-news", "text", "choose"),
    "bccd_cells": Set("bccd_cells", "image", "check"),
    "dna_prom": Set("dna_prom_dnabert", "dna", "choose"),
    "hymenoptera": Set("hymenoptera", "image", "check", target=120),
    "imdb": Set("uci_sentiment_da/imdb.jsonl", "text", "choose"),
    "mnist-5k": Set("bundled/mnist-5k", "image", "check"),
    "pacs": Set("pacs_sub", "domains", "choose"),
    "trec": Set("trec", "text", "check"),
    "yelp": Set("uci_sentiment_da/yelp.jsonl", "text", "check"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--metric", choices=METRICS, default="accuracy")
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--results", type=Path, default=Path("forecast.jsonl"))
    given = parser.parse_args()
    done = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    known = {(line["set"], line["learner"], line["labels_per_class"], line["seed"]) for line in done}
    wanted = [
        (name, learner, budget, seed)
        for name in given.sets
        for learner in SETS[name].learners
        for budget in (*BUDGETS, SETS[name].target)
        for seed in given.seeds
    ]
    missing = [each for each in wanted if each not in known]
    with given.results.open("a") as file, tqdm(total=len(missing), desc="training", disable=None) as bar:
        for line in measure(missing, given.data, given.results):
            done.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            bar.update()
    report(
        [line for line in done if line["seed"] in given.seeds and line["set"] in given.sets], given.metric, given.level
    )


def measure(wanted: list[tuple[str, str, int, int]], data: Path, results: Path) -> Iterator[dict[str, Any]]:
    """Train and score what is wanted, a set after the other."""
    for name in dict.fromkeys(each[0] for each in wanted):
        rows = read_rows(name, data)
        kept: dict[str, Any] = {}
        for learner, budget, seed in (each[1:] for each in wanted if each[0] == name):
            if learner not in kept and learner != "TF-IDF":
                kept[learner] = features(rows, learner, results.with_name(f"{results.stem}-{name}-{learner}.npy"))
            drawn = draw(rows.train, DataSpec(name=name, labels_per_class=budget), rows.labels, rows.problem_type, seed)
            started = time.perf_counter()
            train, test = text_features(drawn, rows.test) if learner == "TF-IDF" else kept[learner](drawn)
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000).fit(train, drawn["label"][:])
            scores = score(model.predict_proba(test), np.asarray(rows.test["label"][:]), rows.problem_type)
            yield {
                "set": name, "learner": learner, "labels_per_class": budget, "seed": seed, "rows": len(drawn),
                "test_rows": len(rows.test), **{metric: round(scores[metric], 6) for metric in METRICS},
                "seconds": round(time.perf_counter() - started, 3), "cores": os.cpu_count(),
            }  # fmt: skip


def read_rows(name: str, data: Path) -> Splits:
    """Training and test rows of the classes that have as many training rows as are to be forecast."""
    entry = SETS[name]
    spec = DataSpec(name=entry.source if entry.source.startswith("bundled/") else str(data / entry.source))
    if entry.kind == "domains":
        paths = sorted(path for path in (data / entry.source).glob("*/*/*") if path.is_file())
        objects = {"image": list(map(str, paths)), "label": [path.parent.name for path in paths]}
        rows = load(spec, "image", objects=objects)
    else:
        rows = load(spec, "image" if entry.kind == "image" else "text")
    rows = split(rows, spec)
    counts = np.bincount(rows.train["label"][:])
    enough = [at for at in range(len(rows.labels)) if counts[at] >= entry.target]
    parts = {part: _of_classes(getattr(rows, part), enough, entry.kind) for part in ("train", "test")}
    return replace(rows, labels=tuple(rows.labels[at] for at in enough), **parts)


def _of_classes(rows: Dataset, classes: list[int], kind: str) -> Dataset:
    labels = rows["label"][:]
    rows = rows.select([row for row, label in enumerate(labels) if label in set(classes)])
    columns = {"label": [classes.index(label) for label in rows["label"][:]]}
    if kind == "dna":
        columns["text"] = [
            " ".join(text[at : at + LETTERS] for at in range(len(text) - LETTERS + 1)) for text in rows["text"][:]
        ]
    for column, values in columns.items():
        rows = rows.remove_columns(column).add_column(column, values)
    return rows


def features(rows: Splits, learner: str, cache: Path) -> Any:
    """A function from drawn rows to their features (N, d) and those of the test rows (M, d)."""
    everything = [*rows.train["id"][:], *rows.test["id"][:]]
    if not cache.exists():
        make = minilm if learner == "MiniLM" else hog
        np.save(cache, np.concatenate([make(rows.train), make(rows.test)]))
    values, place = np.load(cache), {row_id: at for at, row_id in enumerate(everything)}
    test = values[len(rows.train) :]
    return lambda drawn: (values[[place[row_id] for row_id in drawn["id"][:]]], test)


def hog(rows: Dataset) -> Any:
    return np.stack([colour_and_hog(open_image(image)) for image in tqdm(rows["image"], desc="HOG", disable=None)])


def minilm(rows: Dataset, batch_size: int = 32) -> Any:
    """Mean of the last states, of length 1, (N, 384)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = model_folder("bundled/minilm-l6")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = rows["text"][:]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    result = np.zeros((len(texts), model.config.hidden_size))
    for start in tqdm(range(0, len(order), batch_size), desc="MiniLM", disable=None):
        chosen = order[start : start + batch_size]
        batch = tokenizer([texts[at] for at in chosen], truncation=True, max_length=256, padding=True,
                          return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            states = model(**batch).last_hidden_state  # (B, T, d)
        mask = batch["attention_mask"][..., None]
        result[chosen] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
    return result


def report(lines: list[dict[str, Any]], metric: str, level: float) -> None:
    """A table in points (hundredths of the metric): a line a case, then a line for each half of the sets."""
    header = ("set", "learner", "half", "rows", "asked", "last", "measured", "forecast", "inside",
              "gain", "forecast gain", "inside")  # fmt: skip
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        cases.setdefault((line["set"], line["learner"]), []).append(line)
    facts: dict[str, list[tuple[float, ...]]] = {}
    for name, learner in sorted(cases):
        found = sorted(cases[name, learner], key=lambda line: (line["seed"], line["rows"]))
        *rows, asked = sorted({line["rows"] for line in found})
        values = 100 * np.array([line[metric] for line in found]).reshape(-1, len(rows) + 1)  # (S, K + 1)
        *_, last, measured = values.mean(axis=0)
        setting: dict[str, Any] = {"best": 100, "worst": 0, "level": level}
        band = Interval(*(float(part[0]) for part in learning_curve(rows, values[:, :-1], [asked], **setting)))
        gain = forecast(rows, values[:, :-1], asked - rows[-1], **setting)
        inside = band.low <= measured <= band.high, gain.low <= measured - last <= gain.high
        print(f"| {name} | {learner} | {SETS[name].half} | {rows[0]} to {rows[-1]} | {asked} | {last:.1f} "
              f"| {measured:.1f} | {band.show(1)} | {_word(inside[0])} | {measured - last:+.1f} | {gain.show(1)} "
              f"| {_word(inside[1])} |")  # fmt: skip
        facts.setdefault(SETS[name].half, []).append(
            (*inside, (band.high - band.low) / 2, (gain.high - gain.low) / 2,
             abs(band.value - measured), abs(last - measured))
        )  # fmt: skip
    for half, each in facts.items():
        curves, gains, band_half, gain_half, error, naive = np.mean(each, axis=0)
        print(f"\n{half}: {len(each)} cases, {level:.0%} bands; inside: curve {curves:.0%}, gain {gains:.0%}; "
              f"mean half-width: curve {band_half:.1f}, gain {gain_half:.1f}; "
              f"mean absolute error: forecast {error:.2f}, no change {naive:.2f}")  # fmt: skip


def _word(inside: bool) -> str:
    return "yes" if inside else "no"


if __name__ == "__main__":
    main()
