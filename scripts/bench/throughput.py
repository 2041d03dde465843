"""Training of every modality, plain `transformers.Trainer` against hf_smalldata: same model, rows and epochs; seconds.

    python scripts/bench/throughput.py RECIPE... [--set key=value ...] [--frozen none all] [--seeds 0 1 2]
                                       [--results throughput.jsonl]

Each RECIPE gives task, data, model and train settings (with `--set`, as on the command line); its techniques are left
out. Both sides get the rows encoded in advance, by the same code, so that only training is compared: `plain` is the
Trainer with its defaults, padding each batch to its longest row, and the model's own loss. With `--frozen all` both
sides freeze everything but the head; ours then includes computing the cached features. Each measurement runs in a
process of its own, the two sides alternate, and each result is appended to --results, so that a run that was cut off
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measured import measure_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--set", nargs="*", default=[], help="key=value for every recipe")
    parser.add_argument("--frozen", nargs="+", choices=["none", "all"], default=["none", "all"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("throughput.jsonl"))
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.set, **json.loads(given.one))))
        return
    keys = [
        {"recipe": recipe, "side": side, "frozen": frozen, "seed": seed}
        for recipe in given.recipes
        for frozen in given.frozen
        for seed in given.seeds
        for side in (("plain", "ours") if seed % 2 == 0 else ("ours", "plain"))
    ]
    lines = measure_all(keys, {"set": given.set}, given.results)
    report([line for line in lines if line["recipe"] in given.recipes])


def report(lines: list[dict[str, Any]]) -> None:
    import numpy as np

    from hf_smalldata.evaluation.intervals import t_interval

    header = ("recipe", "frozen", "rows", "Trainer, rows a second", "ours", "times faster", "peak GB")
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for recipe, frozen in dict.fromkeys((line["recipe"], line["frozen"]) for line in lines):
        sides = {
            side: sorted(
                (line for line in lines if (line["recipe"], line["frozen"], line["side"]) == (recipe, frozen, side)),
                key=lambda line: line["seed"],
            )
            for side in ("plain", "ours")
        }
        rate, peak = (
            {side: np.array([line[what] for line in found]) for side, found in sides.items()}
            for what in ("rows_a_second", "peak_gb")
        )
        ratio = t_interval(rate["ours"] / rate["plain"])
        print(f"| {Path(recipe).stem} | {frozen} | {sides['ours'][0]['rows']} | {rate['plain'].mean():.1f} | "
              f"{rate['ours'].mean():.1f} | {ratio.show(2)} | "
              f"{peak['plain'].mean():.2f} / {peak['ours'].mean():.2f} |")  # fmt: skip


def measure(settings: list[str], recipe: str, side: str, frozen: str, seed: int) -> dict[str, float]:
    import resource
    import tempfile

    import transformers

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.fitting import Fitting
    from hf_smalldata.pipeline import read_rows
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.tasks import get_task
    from hf_smalldata.techniques.transfer.freeze import Freeze

    transformers.logging.set_verbosity_error()
    read = Recipe.read(recipe, [*settings, f"seeds=[{seed}]", "train.disable_tqdm=true"])
    read = read.model_copy(update={"techniques": (Freeze(),) if frozen == "all" else ()})
    task = get_task(read.task)
    data = read_rows(read, task)
    rows = draw_for(data, read.data, seed)
    with tempfile.TemporaryDirectory() as work:
        fitting = Fitting.of(read, data, Path(work))
        rows = task.cut(rows, fitting.processor)
        features = fitting.kept.features(rows, task, fitting.processor)
        transformers.set_seed(seed)
        seconds = _plain(fitting, rows, features, frozen, seed) if side == "plain" else _ours(fitting, rows, seed)
    count = len(rows) * read.train["num_train_epochs"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": round(seconds, 2), "rows": len(rows), "rows_a_second": round(count / seconds, 2),
            "peak_gb": round(peak, 3)}  # fmt: skip


def _ours(fitting: Any, rows: Any, seed: int) -> float:
    return float(fitting.attempt(rows, seed, seed).facts["train_seconds"])


def _plain(fitting: Any, rows: Any, features: list[Any], frozen: str, seed: int) -> float:
    """As the documentation of transformers shows it, with labels as the model's own loss takes them."""
    import time

    import torch
    from transformers import Trainer, TrainingArguments

    from hf_smalldata.nn.heads import head_names

    task, recipe, data = fitting.task, fitting.recipe, fitting.data
    model = task.load_model(recipe.model, data.labels, data.problem_type)
    if frozen == "all":
        heads = tuple(head_names(model))
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(heads)
    labels = [task.align(*both) for both in zip(rows["label"][:], features, strict=True)]
    items = [{**each, "label": label} for each, label in zip(features, labels, strict=True)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        made = task.collate([{k: v for k, v in each.items() if k != "label"} for each in batch], fitting.processor)
        given = [each["label"] for each in batch]
        if data.problem_type == "token_classification":
            longest = max(map(len, given))
            given = [[-100 if tag < 0 else tag for tag in tags] + [-100] * (longest - len(tags)) for tags in given]
        return {**made, "labels": torch.tensor(given)}

    names = ("num_train_epochs", "learning_rate", "per_device_train_batch_size", "weight_decay")
    arguments = TrainingArguments(
        output_dir=str(fitting.work), seed=seed, report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, remove_unused_columns=False, **{name: recipe.train[name] for name in names},
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=items, data_collator=collate)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
