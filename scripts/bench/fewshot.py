"""Few labelled texts: hf_smalldata against SetFit, the plain `transformers.Trainer`, and a frozen encoder.

    pip install setfit==1.2.0 sentence-transformers
    python scripts/bench/fewshot.py --data FOLDER [--per-class 8] [--seeds 0 1 2 3 4] [--recipe FILE] [--sides ours setfit_20]
                                    [--model bundled/minilm-l6] [--threads 2] [--results fewshot.jsonl]

FOLDER holds train.jsonl and test.jsonl with `text` and `label`. All sides start from the same encoder, learn from the
same drawn rows and are judged by the same 500 test rows; each measurement runs in a process of its own (its peak memory
is its own), the sides alternate, and each result is a line of --results, so that a run that was cut off goes on.

- setfit_default: SetFit 1.2 with its defaults (all pairs, oversampled, one epoch)
- setfit_20: SetFit with num_iterations=20
- trainer: the plain Trainer with its defaults (5e-5, batches of 8); 20 epochs up to 16 rows a class, else 5
- frozen: the encoder as it is (mean pooling, length 1) and scikit-learn's logistic regression
- ours: techniques and settings of --recipe

Timed is training alone, without loading libraries, model and rows. Where SetFit would make more than --most-pairs pairs
of sentences, its time is extrapolated from some steps and there is no accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from measured import Line, measure_all

SIDES = ("setfit_20", "ours", "setfit_default", "frozen", "trainer")
SETTING = ("data", "model", "per_class", "test_rows", "threads")
STEPS = 40  # from which a time is extrapolated


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
    parser.add_argument("--most-pairs", type=int, default=20_000)
    parser.add_argument("--results", type=Path, default=Path("fewshot.jsonl"))
    parser.add_argument("--report", action="store_true", help="only the table of all lines of --results")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given, **json.loads(given.one))))
        return
    if not given.report:
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
        keys = [
            {"seed": seed, "side": side, **({"recipe": given.recipe} if side == "ours" else {})}
            for seed in given.seeds
            for side in (given.sides if seed % 2 == 0 else given.sides[::-1])
        ]
        measure_all(keys, {name: getattr(given, name) for name in SETTING}, given.results)
    report([json.loads(line) for line in given.results.read_text().splitlines()])


def measure(given: argparse.Namespace, seed: int, side: str, recipe: str | None = None) -> Line:
    import time
    from importlib.metadata import version

    import numpy as np
    import torch
    import transformers

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.pipeline import read_rows
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.tasks import get_task

    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    content = {
        "task": "text-classification",
        "data": {"train": f"{given.data}/train.jsonl", "test": f"{given.data}/test.jsonl",
                 "labels_per_class": given.per_class},
        "model": {"name": given.model}, "seeds": [seed],
    }  # fmt: skip
    if recipe is not None:
        whole = Recipe.read(recipe)
        content |= {"techniques": whole.techniques, "train": {**whole.train, "disable_tqdm": True},
                    "model": {**whole.model.model_dump(), "name": given.model}}  # fmt: skip
    plan = Recipe.parse(content)
    data = read_rows(plan, get_task(plan.task))
    rows = draw_for(data, plan.data, seed)
    assert data.test is not None
    chosen = np.random.default_rng(0).permutation(len(data.test))[: given.test_rows]
    test = data.test.select(chosen)
    transformers.set_seed(seed)
    before = _peak()
    learn = {"ours": _ours, "trainer": _trainer, "frozen": _frozen}.get(side, _setfit)
    found: Line = learn(given, side, plan, data, rows)
    predict = found.pop("predict")
    line = {"train_rows": len(rows), **found, "peak_gb": round(_peak(), 3), "peak_gb_before": round(before, 3),
            "versions": {name: version(name) for name in ("torch", "transformers")}}  # fmt: skip
    if predict is None:
        return line
    predict(test.select(range(8)))
    started = time.perf_counter()
    answers = np.asarray(predict(test))
    seconds = time.perf_counter() - started
    accuracy = float((answers == np.asarray(test["label"][:])).mean())
    return {**line, "accuracy": round(accuracy, 4), "predict_rows_per_second": round(len(test) / seconds, 1)}


def _ours(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any) -> Line:
    import tempfile
    import time

    from hf_smalldata.fitting import Fitting

    work = Path(tempfile.mkdtemp())
    fitting = Fitting.of(recipe, data, work)
    seed = recipe.seeds[0]
    started = time.perf_counter()
    learnt = fitting.attempt(rows, seed, seed)
    seconds = time.perf_counter() - started
    return {"train_seconds": round(seconds, 2), "predict": lambda test: fitting.predict(learnt.model, test).argmax(-1)}


def _setfit(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any) -> Line:
    """As its documentation shows it."""
    import tempfile
    import time

    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel(model_body=_sentence_encoder(recipe.model.name), model_head=_logistic())
    part = Dataset.from_dict({"text": rows["text"][:], "label": rows["label"][:]})
    more: dict[str, Any] = {"num_iterations": 20} if side == "setfit_20" else {}
    pairs = 2 * 20 * len(part) if more else _oversampled(rows["label"][:])
    if pairs > given.most_pairs:
        more["max_steps"] = STEPS
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(output_dir=folder, report_to="none", show_progress_bar=False, seed=recipe.seeds[0],
                                      save_strategy="no", **more)  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=part)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    line: Line = {"pairs": pairs, "predict": lambda test: model.predict(test["text"][:], show_progress_bar=False)}
    if pairs > given.most_pairs:
        steps = pairs / arguments.embedding_batch_size
        return {**line, "predict": None, "skipped": True, "estimated_seconds": round(seconds / STEPS * steps)}
    return {**line, "train_seconds": round(seconds, 2)}


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


def _frozen(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any) -> Line:
    import time

    encoder, head = _sentence_encoder(recipe.model.name), _logistic()
    started = time.perf_counter()
    head.fit(encoder.encode(rows["text"][:], show_progress_bar=False), rows["label"][:])
    seconds = time.perf_counter() - started

    def predict(test: Any) -> Any:
        return head.predict(encoder.encode(test["text"][:], show_progress_bar=False))

    return {"train_seconds": round(seconds, 2), "predict": predict}


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def _trainer(given: argparse.Namespace, side: str, recipe: Any, data: Any, rows: Any) -> Line:
    """As the documentation of transformers shows it."""
    import tempfile
    import time

    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from hf_smalldata.tasks.pretrained import locate

    source = locate(recipe.model.name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(data.labels))

    def tokenized(part: Any) -> Any:
        columns = [name for name in part.column_names if name != "label"]
        return part.map(lambda row: tokenizer(row["text"], truncation=True), batched=True, remove_columns=columns)

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=20 if given.per_class <= 16 else 5, seed=recipe.seeds[0],
        report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=tokenized(rows), processing_class=tokenizer,
                      data_collator=DataCollatorWithPadding(tokenizer))  # fmt: skip
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    return {"train_seconds": round(seconds, 2),
            "predict": lambda test: trainer.predict(tokenized(test)).predictions.argmax(-1)}  # fmt: skip


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def report(lines: list[Line]) -> None:
    import numpy as np

    from hf_smalldata.evaluation.intervals import t_interval

    header = ("set", "rows a class", "side", "accuracy", "ours minus it", "seconds", "ours takes", "rows/s", "peak GB")
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    differences: dict[str, list[float]] = {}
    for data, per_class in dict.fromkeys((line["data"], line["per_class"]) for line in lines):
        cell = [line for line in lines if (line["data"], line["per_class"]) == (data, per_class)]
        ours = {line["seed"]: line for line in cell if line["side"] == "ours"}
        for side in dict.fromkeys(line["side"] for line in cell):
            found = {line["seed"]: line for line in cell if line["side"] == side}
            seconds = [line.get("train_seconds", line.get("estimated_seconds")) for line in found.values()]
            right = {seed: line["accuracy"] for seed, line in found.items() if "accuracy" in line}
            both = sorted(set(right) & set(ours)) if side != "ours" else []
            gains = np.array([ours[seed]["accuracy"] - right[seed] for seed in both])
            differences.setdefault(side, []).extend(gains.tolist())
            times = [ours[seed]["train_seconds"] / line.get("train_seconds", line.get("estimated_seconds"))
                     for seed, line in found.items() if seed in ours and side != "ours"]  # fmt: skip
            row = [
                Path(data).name, str(per_class), side, t_interval(np.array(list(right.values()))).show(3) if right else "-",
                t_interval(gains).show(3) if len(gains) else "-", f"{np.mean(seconds):.1f}",
                f"{np.mean(times):.2f} of it" if times else "-",
                f"{np.mean([line['predict_rows_per_second'] for line in found.values() if 'accuracy' in line] or [0]):.0f}",
                f"{max(line['peak_gb'] for line in found.values()):.2f}",
            ]  # fmt: skip
            print("| " + " | ".join(row) + " |")
    for side, gains in differences.items():
        if len(gains) > 1:
            print(
                f"\nours minus {side}, all sets and budgets, {len(gains)} pairs: {t_interval(np.array(gains)).show(3)}"
            )


if __name__ == "__main__":
    main()
