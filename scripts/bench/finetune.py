"""Plain `transformers.Trainer` against hf_smalldata: same model, rows, epochs, learning rate; time and accuracy.

    python scripts/bench/finetune.py --data FOLDER [--model bundled/minilm-l6] [--rows 512] [--epochs 5] [--seeds 0 1 2]
                                     [--frozen 0 4] [--results finetune.jsonl]

FOLDER holds train.jsonl and test.jsonl with `text` and `label`. Each measurement runs in a process of its own (its
peak memory is its own), the two sides alternate, and each result is appended to --results as one line, so that a run
that was cut off goes on where it stopped. `plain` is the Trainer with its defaults and dynamic padding
(DataCollatorWithPadding); with --frozen N both sides freeze the embeddings and the bottom N blocks. Timed is training
alone, for hf_smalldata with the prefix cache's own computation, without loading libraries, model and rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measured import measure_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", default="bundled/minilm-l6")
    parser.add_argument("--rows", type=int, default=512, help="training rows, drawn by seed")
    parser.add_argument("--test-rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frozen", type=int, nargs="+", default=[0, 4], help="bottom blocks frozen; 0 for none")
    parser.add_argument("--results", type=Path, default=Path("finetune.jsonl"))
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given, **json.loads(given.one))))
        return
    setting = {
        name: getattr(given, name) for name in ("data", "model", "rows", "epochs", "learning_rate", "batch_size")
    }
    keys = [
        {"side": side, "frozen": frozen, "seed": seed}
        for frozen in given.frozen
        for seed in given.seeds
        for side in (("plain", "ours") if seed % 2 == 0 else ("ours", "plain"))
    ]
    report(measure_all(keys, setting, given.results))


def report(lines: list[dict[str, Any]]) -> None:
    import numpy as np

    from hf_smalldata.evaluation.intervals import paired_difference, t_interval

    header = ("frozen", "Trainer, s", "ours, s", "times faster", "Trainer, accuracy", "ours", "difference", "peak GB")
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for frozen in sorted({line["frozen"] for line in lines}):
        sides = {side: sorted((line for line in lines if line["frozen"] == frozen and line["side"] == side),
                              key=lambda line: line["seed"]) for side in ("plain", "ours")}  # fmt: skip
        seconds, accuracy, peak = (
            {side: np.array([line[what] for line in found]) for side, found in sides.items()}
            for what in ("seconds", "accuracy", "peak_gb")
        )
        ratio = t_interval(seconds["plain"] / seconds["ours"])
        difference = paired_difference(accuracy["ours"], accuracy["plain"])
        print(f"| {frozen or 'none'} | {seconds['plain'].mean():.1f} | {seconds['ours'].mean():.1f} | {ratio.show(2)} "
              f"| {accuracy['plain'].mean():.3f} | {accuracy['ours'].mean():.3f} | {difference.show()} "
              f"| {peak['plain'].mean():.2f} / {peak['ours'].mean():.2f} |")  # fmt: skip


def measure(given: argparse.Namespace, side: str, frozen: int, seed: int) -> dict[str, float]:
    import resource
    import time

    import numpy as np
    import transformers

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.pipeline import read_rows, test_rows
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.tasks import get_task

    transformers.logging.set_verbosity_error()
    folder = Path(given.data)
    size = sum(1 for _ in (folder / "train.jsonl").open())
    recipe = Recipe.parse(
        {
            "task": "text-classification",
            "data": {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"),
                     "fraction": min(1.0, given.rows / size)},
            "model": {"name": given.model},
            "techniques": [{"freeze": {"blocks": frozen}}] if frozen else [],
            "train": {"num_train_epochs": given.epochs, "learning_rate": given.learning_rate, "warmup_steps": 0,
                      "weight_decay": 0.0, "per_device_train_batch_size": given.batch_size, "disable_tqdm": True},
            "seeds": [seed],
        }
    )  # fmt: skip
    task = get_task(recipe.task)
    data = read_rows(recipe, task)
    rows, test = draw_for(data, recipe.data, seed), test_rows(data)
    test = test.select(range(min(given.test_rows, len(test))))
    run = _plain if side == "plain" else _ours
    transformers.set_seed(seed)
    started, (predictions, seconds) = time.perf_counter(), run(recipe, task, data, rows, test, frozen, seed)
    accuracy = float((predictions == np.asarray(test["label"][:])).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": round(seconds, 2), "total_seconds": round(time.perf_counter() - started, 2),
            "accuracy": round(accuracy, 4), "peak_gb": round(peak, 3), "train_rows": len(rows)}  # fmt: skip


def _ours(recipe: Any, task: Any, data: Any, rows: Any, test: Any, frozen: int, seed: int) -> tuple[Any, float]:
    import tempfile

    from hf_smalldata.fitting import Fitting

    with tempfile.TemporaryDirectory() as work:
        fitting = Fitting.of(recipe, data, Path(work))
        learnt = fitting.attempt(rows, seed, seed)
        return fitting.predict(learnt.model, test).argmax(-1), learnt.facts["train_seconds"]


def _plain(recipe: Any, task: Any, data: Any, rows: Any, test: Any, frozen: int, seed: int) -> tuple[Any, float]:
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
    if frozen:
        for part in (model.base_model.embeddings, *model.base_model.encoder.layer[:frozen]):
            part.requires_grad_(False)

    def tokenized(part: Any) -> Any:
        columns = [name for name in part.column_names if name != "label"]
        return part.map(lambda row: tokenizer(row["text"], truncation=True), batched=True, remove_columns=columns)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=recipe.train["num_train_epochs"], seed=seed, report_to="none",
            learning_rate=recipe.train["learning_rate"], disable_tqdm=True,
            per_device_train_batch_size=recipe.train["per_device_train_batch_size"],
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, train_dataset=tokenized(rows), processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        return trainer.predict(tokenized(test)).predictions.argmax(-1), seconds


if __name__ == "__main__":
    main()
