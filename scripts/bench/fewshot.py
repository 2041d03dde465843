"""Few labelled texts: hf_smalldata against SetFit, the plain `transformers.Trainer`, and a frozen encoder.

    pip install '.[bench]'
    python scripts/bench/fewshot.py --data FOLDER [--per-class 8] [--seeds 0 1 2 3 4] [--sides ours setfit_20]
                                    [--recipe FILE] [--model bundled/minilm-l6] [--threads 2] [--results fewshot.jsonl]

FOLDER holds train.jsonl and test.jsonl with `text` and `label`. All sides start from the same encoder, learn from the
same drawn rows and are judged by the same 500 test rows; each measurement runs in a process of its own (its peak memory
is its own), the sides alternate, and each result is a line of --results, so that a run that was cut off goes on. An
edited recipe is measured anew.

- setfit_default: SetFit 1.2 with its defaults (all pairs, oversampled, one epoch)
- setfit_20: SetFit with num_iterations=20
- trainer: the plain Trainer with its defaults (5e-5, batches of 8); 20 epochs up to 16 rows a class, else 5
- frozen: the encoder as it is (mean pooling, length 1) and scikit-learn's logistic regression
- ours: model settings, techniques and train settings of --recipe

Timed is training alone, after libraries, model and rows are loaded; ours is timed with loading the model. Where SetFit
would make more than --most-pairs pairs of sentences, its time is extrapolated from 40 steps and there is no accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from measured import Line, measure_all

SIDES = ("setfit_20", "ours", "setfit_default", "frozen", "trainer")
SETTING = ("data", "model", "per_class", "test_rows", "threads")
SECTIONS = ("model", "techniques", "train")  # of a recipe: what is measured
LIBRARIES = ("torch", "transformers", "sentence-transformers", "setfit", "scikit-learn")
STEPS = 40  # from which a time is extrapolated

Cells = dict[tuple[str, int], dict[str, dict[int, Line]]]  # (set, rows a class) -> side -> seed -> line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", default="bundled/minilm-l6")
    parser.add_argument("--per-class", type=int, default=8)
    parser.add_argument("--test-rows", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--recipe", default="recipes/text/reviews_contrastive.yaml")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--most-pairs", type=int, default=20_000, help="lines already there stay as they are")
    parser.add_argument("--results", type=Path, default=Path("fewshot.jsonl"))
    parser.add_argument("--report", action="store_true", help="only the table of all lines of --results")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given, **json.loads(given.one))))
        return
    if not given.report:
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
        whole = yaml.safe_load(Path(given.recipe).read_text()) if "ours" in given.sides else {}
        recipe = {"recipe": given.recipe, "sections": {name: whole[name] for name in SECTIONS if name in whole}}
        keys = [
            {"seed": seed, "side": side, **(recipe if side == "ours" else {})}
            for seed in given.seeds
            for side in (given.sides if seed % 2 == 0 else given.sides[::-1])
        ]
        measure_all(keys, {name: getattr(given, name) for name in SETTING}, given.results)
    report([json.loads(line) for line in given.results.read_text().splitlines()])


def measure(given: argparse.Namespace, seed: int, side: str, recipe: str = "", sections: Line | None = None) -> Line:
    from importlib.metadata import version

    import numpy as np
    import torch
    import transformers

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.outcome import test_rows
    from hf_smalldata.pipeline import read_rows
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.tasks import get_task

    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    more = sections or {}
    plan = Recipe.parse({
        "task": "text-classification",
        "data": {"train": f"{given.data}/train.jsonl", "test": f"{given.data}/test.jsonl",
                 "labels_per_class": given.per_class},
        "model": {**more.get("model", {}), "name": given.model},
        "techniques": more.get("techniques", []),
        "train": {**more.get("train", {}), "disable_tqdm": True},
        "seeds": [seed],
    })  # fmt: skip
    data = read_rows(plan, get_task(plan.task))
    rows, test = draw_for(data, plan.data, seed), test_rows(data)
    test = test.select(np.random.default_rng(0).permutation(len(test))[: given.test_rows])
    transformers.set_seed(seed)
    before = _peak()
    learn = {"ours": _ours, "trainer": _trainer, "frozen": _frozen}.get(side, _setfit)
    with tempfile.TemporaryDirectory() as folder:
        found: Line = learn(given, side, plan, data, rows, folder)
        predict = found.pop("predict")
        line = {"train_rows": len(rows), **found, "peak_gb": round(_peak(), 3), "peak_gb_before": round(before, 3),
                "versions": {name: version(name) for name in LIBRARIES}}  # fmt: skip
        if predict is None:
            return line
        predict(test.select(range(8)))
        started = time.perf_counter()
        answers = np.asarray(predict(test))
        seconds = time.perf_counter() - started
    accuracy = float((answers == np.asarray(test["label"][:])).mean())
    return {**line, "accuracy": round(accuracy, 4), "predict_rows_per_second": round(len(test) / seconds, 1)}


def _ours(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any, folder: str) -> Line:
    from hf_smalldata.fitting import Fitting

    fitting, seed = Fitting.of(recipe, data, Path(folder)), recipe.seeds[0]
    started = time.perf_counter()
    learnt = fitting.attempt(rows, seed, seed)
    seconds = time.perf_counter() - started
    return {"train_seconds": round(seconds, 2), "predict": lambda test: fitting.predict(learnt.model, test).argmax(-1)}


def _setfit(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any, folder: str) -> Line:
    """As its documentation shows it."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    ends: list[float] = []
    model = SetFitModel(model_body=_sentence_encoder(recipe.model.name), model_head=LogisticRegression())
    part = Dataset.from_dict({"text": rows["text"][:], "label": rows["label"][:]})
    more: dict[str, Any] = {"num_iterations": 20} if side == "setfit_20" else {}
    pairs = 2 * 20 * len(part) if more else _oversampled(rows["label"][:])
    if pairs > given.most_pairs:
        more["max_steps"] = STEPS
    arguments = TrainingArguments(output_dir=folder, report_to="none", show_progress_bar=False, save_strategy="no",
                                  seed=recipe.seeds[0], **more)  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=part, callbacks=[Clock()])
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    if pairs > given.most_pairs:
        a_step = (ends[-1] - ends[0]) / (STEPS - 1)  # what is done once (the head) is not multiplied
        rest = a_step * (pairs / arguments.embedding_batch_size - STEPS)
        return {"pairs": pairs, "predict": None, "skipped": True, "estimated_seconds": round(seconds + rest)}
    return {"pairs": pairs, "train_seconds": round(seconds, 2),
            "predict": lambda test: model.predict(test["text"][:], show_progress_bar=False)}  # fmt: skip


def _oversampled(labels: list[int]) -> int:
    """Pairs that SetFit's default sampling makes: as many of one class as of two, none left out."""
    from collections import Counter

    counts = Counter(labels).values()
    same = sum(count * (count + 1) // 2 for count in counts)
    other = (len(labels) ** 2 - sum(count**2 for count in counts)) // 2
    return 2 * max(same, other)


def _sentence_encoder(name: str) -> Any:
    """The modules that all-MiniLM-L6-v2 has on the Hub, of any transformers folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    from hf_smalldata.tasks.pretrained import locate

    body = Transformer(locate(name))
    return SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()])


def _frozen(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any, folder: str) -> Line:
    from sklearn.linear_model import LogisticRegression

    encoder, head = _sentence_encoder(recipe.model.name), LogisticRegression()
    started = time.perf_counter()
    head.fit(encoder.encode(rows["text"][:], show_progress_bar=False), rows["label"][:])
    seconds = time.perf_counter() - started

    def predict(test: Any) -> Any:
        return head.predict(encoder.encode(test["text"][:], show_progress_bar=False))

    return {"train_seconds": round(seconds, 2), "predict": predict}


def _trainer(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any, folder: str) -> Line:
    """As the documentation of transformers shows it."""
    from transformers import AutoModelForSequenceClassification as Classifier
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    from hf_smalldata.tasks.pretrained import locate

    source = locate(recipe.model.name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = Classifier.from_pretrained(source, num_labels=len(data.labels))

    def tokenized(part: Any) -> Any:
        columns = [name for name in part.column_names if name != "label"]
        return part.map(lambda row: tokenizer(row["text"], truncation=True), batched=True, remove_columns=columns)

    arguments = TrainingArguments(
        output_dir=folder, num_train_epochs=20 if given.per_class <= 16 else 5, seed=recipe.seeds[0],
        report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer: Any = Trainer(model=model, args=arguments, train_dataset=tokenized(rows), processing_class=tokenizer,
                      data_collator=DataCollatorWithPadding(tokenizer))  # fmt: skip
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    return {"train_seconds": round(seconds, 2),
            "predict": lambda test: trainer.predict(tokenized(test)).predictions.argmax(-1)}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def report(lines: list[Line]) -> None:
    """For each encoder and number of threads what each side reached, then ours minus each other side."""
    newest = {line["recipe"]: line["sections"] for line in lines if line["side"] == "ours"}
    runs: dict[tuple[str, int, int], Cells] = {}
    for line in lines:
        if line.get("sections") != newest.get(line.get("recipe")):
            continue  # of a recipe as it was
        side = f"ours ({Path(line['recipe']).stem})" if line["side"] == "ours" else line["side"]
        cells = runs.setdefault((line["model"], line["threads"], line["test_rows"]), {})
        sides = cells.setdefault((Path(line["data"]).name, line["per_class"]), {})
        sides.setdefault(side, {})[line["seed"]] = line
    for (model, threads, test_rows), cells in runs.items():
        print(f"\n{Path(model).name}, threads: {threads}, test rows: {test_rows}; means over seeds (95 % interval)")
        _print_sides(cells)
        _print_differences(cells)


def _print_sides(cells: Cells) -> None:
    from hf_smalldata.evaluation.intervals import t_interval

    _header("set", "rows a class", "side", "seeds", "accuracy", "training, s", "predicted rows/s", "peak GB, before it")
    for (name, per_class), sides in cells.items():
        for side, by_seed in sides.items():
            found = list(by_seed.values())
            whole = [line for line in found if "accuracy" in line]
            accuracy = t_interval([line["accuracy"] for line in whole]).show() if whole else "-"
            rate = f"{fmean([line['predict_rows_per_second'] for line in whole]):.0f}" if whole else "-"
            seconds = f"{_about(found)}{fmean([_seconds(line) for line in found]):.1f}"
            peak, before = (max(line[what] for line in found) for what in ("peak_gb", "peak_gb_before"))
            print(f"| {name} | {per_class} | {side} | {len(found)} | {accuracy} | {seconds} | {rate} "
                  f"| {peak:.2f}, {before:.2f} |")  # fmt: skip


def _print_differences(cells: Cells) -> None:
    """Paired by seed; `all` pools the seeds of all sets and budgets, so it speaks of other draws of these sets only."""
    from hf_smalldata.evaluation.intervals import t_interval

    _header("ours", "minus", "set", "rows a class", "pairs", "difference of accuracy", "its time")
    names = list(dict.fromkeys(side for sides in cells.values() for side in sides))
    for ours, other in [(a, b) for a in names for b in names if a.startswith("ours") and not b.startswith("ours")]:
        pairs: dict[tuple[str, Any], list[tuple[Line, Line]]] = {("all", ""): []}
        for cell, sides in cells.items():
            left, right = sides.get(ours, {}), sides.get(other, {})
            pairs[cell] = [(left[seed], right[seed]) for seed in sorted(set(left) & set(right))]
            pairs["all", ""] += pairs[cell]
        for (name, per_class), found in ((cell, found) for cell, found in pairs.items() if found):
            gains = [a["accuracy"] - b["accuracy"] for a, b in found if "accuracy" in b]
            shares = [_seconds(a) / _seconds(b) for a, b in found]
            difference = t_interval(gains).show() if gains else "-"
            print(f"| {ours} | {other} | {name} | {per_class} | {len(gains)} | {difference} "
                  f"| {_about(b for _, b in found)}{100 * fmean(shares):.0f} % |")  # fmt: skip


def _header(*columns: str) -> None:
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")


def _seconds(line: Line) -> float:
    return float(line["estimated_seconds"] if "skipped" in line else line["train_seconds"])


def _about(lines: Iterable[Line]) -> str:
    return "≈ " if any("skipped" in line for line in lines) else ""


if __name__ == "__main__":
    main()
