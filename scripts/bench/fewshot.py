"""Few labelled texts: hf_smalldata against SetFit, the plain `transformers.Trainer`, and a frozen encoder.

    pip install '.[bench]'
    python scripts/bench/fewshot.py --data FOLDER [--per-class 8] [--seeds 0 1 2 3 4] [--sides ours setfit_20]
                                    [--recipe FILE] [--model bundled/minilm-l6] [--threads 1] [--results fewshot.jsonl]

FOLDER holds train.jsonl and test.jsonl with `text` and `label`. All sides start from the same encoder, learn from the
same drawn rows and are judged by the same 500 test rows; each measurement runs in a process of its own (its peak memory
is its own), the sides alternate, and each result is a line of --results, so that a run that was cut off goes on. An
edited recipe is measured anew.

- setfit_default: SetFit 1.2 with its defaults (all pairs, oversampled, one epoch)
- setfit_20: SetFit with num_iterations=20
- trainer: the plain Trainer with its defaults (5e-5, batches of 8); 20 epochs up to 16 rows a class, else 5
- frozen: the encoder as it is (mean pooling, length 1) and scikit-learn's logistic regression
- ours: model settings, techniques and train settings of --recipe

Timed is training alone, after libraries, model and rows are loaded; ours is timed with loading the model. Times are
those of the CPU, summed over threads: with one thread what an idle core takes, whatever else the machine does; seconds
on the clock stand beside them, for GPUs. Where
SetFit would make more than --most-pairs pairs of sentences, its time is extrapolated from 40 steps and there is no
accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from fewshot_report import report
from measured import Line, measure_all

SIDES = ("setfit_20", "ours", "setfit_default", "frozen", "trainer")
SETTING = ("data", "model", "per_class", "test_rows", "threads")
SECTIONS = ("model", "techniques", "train")  # of a recipe: what is measured
LIBRARIES = ("torch", "transformers", "sentence-transformers", "setfit", "scikit-learn")
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most-pairs", type=int, default=20_000, help="lines already there stay as they are")
    parser.add_argument("--results", type=Path, default=Path("fewshot.jsonl"))
    parser.add_argument("--report", action="store_true", help="only the table of all lines of --results")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    parser.add_argument("--draw", type=int, help=argparse.SUPPRESS)  # the rows of a seed, in a child of that
    given = parser.parse_args()
    if given.draw is not None:
        print(json.dumps(draw(given, given.draw)))
        return
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

    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    rows = _drawn_elsewhere(seed)  # so that other sides hold nothing of ours in their memory
    transformers.set_seed(seed)
    learn = {"ours": _ours, "trainer": _trainer, "frozen": _frozen}.get(side, _setfit)
    with tempfile.TemporaryDirectory() as folder:
        found: Line = learn(given, seed, side, rows, folder, sections or {})
        predict = found.pop("predict")
        line = {"train_rows": len(rows["train"]["text"]), **found, "peak_gb": round(_peak(), 3),
                "versions": {name: version(name) for name in LIBRARIES}}  # fmt: skip
        if predict is None:
            return line
        test = rows["test"]
        predict({name: values[:8] for name, values in test.items()})
        started = time.process_time()
        answers = np.asarray(predict(test))
        seconds = time.process_time() - started
        if torch.cuda.is_available():
            line["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    accuracy = float((answers == np.asarray(test["label"])).mean())
    return {**line, "accuracy": round(accuracy, 4),
            "predict_rows_per_cpu_second": round(len(test["label"]) / seconds, 1)}  # fmt: skip


def _plan(given: argparse.Namespace, seed: int, sections: Line) -> Any:
    from hf_smalldata.recipe import Recipe

    return Recipe.parse({
        "task": "text-classification",
        "data": {"train": f"{given.data}/train.jsonl", "test": f"{given.data}/test.jsonl",
                 "labels_per_class": given.per_class},
        "model": {**sections.get("model", {}), "name": given.model},
        "techniques": sections.get("techniques", []),
        "train": {**sections.get("train", {}), "disable_tqdm": True},
        "seeds": [seed],
    })  # fmt: skip


def draw(given: argparse.Namespace, seed: int) -> Line:
    """Drawn training rows, test rows, names of the labels, and where the model lies."""
    import numpy as np

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.outcome import test_rows
    from hf_smalldata.pipeline import read_rows
    from hf_smalldata.tasks import get_task
    from hf_smalldata.tasks.pretrained import locate

    plan = _plan(given, seed, {})
    data = read_rows(plan, get_task(plan.task))
    test = test_rows(data)
    test = test.select(np.random.default_rng(0).permutation(len(test))[: given.test_rows])
    columns = ("id", "text", "label")
    parts = {"train": draw_for(data, plan.data, seed), "test": test}
    told = {name: {column: part[column][:] for column in columns} for name, part in parts.items()}
    return {**told, "labels": list(data.labels), "model": str(locate(given.model))}


def _drawn_elsewhere(seed: int) -> Line:
    command = [sys.executable, sys.argv[0], *sys.argv[1 : sys.argv.index("--one")], "--draw", str(seed)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: Line = json.loads(out.splitlines()[-1])
    return found


def _ours(given: argparse.Namespace, seed: int, side: str, rows: Line, folder: str, sections: Line) -> Line:
    from datasets import Dataset

    from hf_smalldata.fitting import Fitting
    from hf_smalldata.pipeline import read_rows
    from hf_smalldata.tasks import get_task

    plan = _plan(given, seed, sections)
    data = read_rows(plan, get_task(plan.task))
    drawn = Dataset.from_dict(rows["train"], features=data.train.select_columns(["id", "text", "label"]).features)
    fitting = Fitting.of(plan, data, Path(folder))
    started = _clocks()
    learnt = fitting.attempt(drawn, seed, seed)
    return {**_since(started),
            "predict": lambda test: fitting.predict(learnt.model, Dataset.from_dict(test)).argmax(-1)}  # fmt: skip


def _setfit(given: argparse.Namespace, seed: int, side: str, rows: Line, folder: str, sections: Line) -> Line:
    """As its documentation shows it."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.process_time())

    ends: list[float] = []
    model = SetFitModel(model_body=_sentence_encoder(rows["model"]), model_head=LogisticRegression())
    part = Dataset.from_dict({name: rows["train"][name] for name in ("text", "label")})
    more: dict[str, Any] = {"num_iterations": 20} if side == "setfit_20" else {}
    pairs = 2 * 20 * len(part) if more else _oversampled(rows["train"]["label"])
    if pairs > given.most_pairs:
        more["max_steps"] = STEPS
    arguments = TrainingArguments(output_dir=folder, report_to="none", show_progress_bar=False, save_strategy="no",
                                  seed=seed, **more)  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=part, callbacks=[Clock()])
    started = _clocks()
    trainer.train()
    took = _since(started)
    if pairs > given.most_pairs:
        a_step = (ends[-1] - ends[0]) / (STEPS - 1)  # what is done once (the head) is not multiplied
        rest = a_step * (pairs / arguments.embedding_batch_size - STEPS)
        return {"pairs": pairs, "predict": None, "skipped": True,
                "estimated_seconds": round(took["cpu_seconds"] + rest)}  # fmt: skip
    return {"pairs": pairs, **took,
            "predict": lambda test: model.predict(test["text"], show_progress_bar=False)}  # fmt: skip


def _oversampled(labels: list[int]) -> int:
    """Pairs that SetFit's default sampling makes: as many of one class as of two, none left out."""
    from collections import Counter

    counts = Counter(labels).values()
    same = sum(count * (count + 1) // 2 for count in counts)
    other = (len(labels) ** 2 - sum(count**2 for count in counts)) // 2
    return 2 * max(same, other)


def _sentence_encoder(folder: str) -> Any:
    """The modules that all-MiniLM-L6-v2 has on the Hub, of any transformers folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    body = Transformer(folder)
    return SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()])


def _frozen(given: argparse.Namespace, seed: int, side: str, rows: Line, folder: str, sections: Line) -> Line:
    from sklearn.linear_model import LogisticRegression

    encoder, head = _sentence_encoder(rows["model"]), LogisticRegression()
    started = _clocks()
    head.fit(encoder.encode(rows["train"]["text"], show_progress_bar=False), rows["train"]["label"])
    took = _since(started)

    def predict(test: Any) -> Any:
        return head.predict(encoder.encode(test["text"], show_progress_bar=False))

    return {**took, "predict": predict}


def _trainer(given: argparse.Namespace, seed: int, side: str, rows: Line, folder: str, sections: Line) -> Line:
    """As the documentation of transformers shows it."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification as Classifier
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(rows["model"])
    model = Classifier.from_pretrained(rows["model"], num_labels=len(rows["labels"]))

    def tokenized(part: Line) -> Any:
        whole = Dataset.from_dict(part)
        return whole.map(
            lambda row: tokenizer(row["text"], truncation=True), batched=True, remove_columns=["id", "text"]
        )

    arguments = TrainingArguments(
        output_dir=folder, num_train_epochs=20 if given.per_class <= 16 else 5, seed=seed,
        report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer: Any = Trainer(model=model, args=arguments, train_dataset=tokenized(rows["train"]),
                           processing_class=tokenizer, data_collator=DataCollatorWithPadding(tokenizer))  # fmt: skip
    started = _clocks()
    trainer.train()
    return {**_since(started),
            "predict": lambda test: trainer.predict(tokenized(test)).predictions.argmax(-1)}  # fmt: skip


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(started: tuple[float, float]) -> Line:
    of_cpu, on_the_clock = (now - then for now, then in zip(_clocks(), started, strict=True))
    return {"cpu_seconds": round(of_cpu, 2), "wall_seconds": round(on_the_clock, 2)}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
