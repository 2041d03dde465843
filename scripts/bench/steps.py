"""One training step and prediction of an encoder, without what surrounds them: ms a step, ours and a bare torch loop.

    python scripts/bench/steps.py [--model bundled/minilm-l6] [--shapes 16x24 8x128] [--steps 20]
    python scripts/bench/steps.py --predict [--lengths 16 64 256] [--budgets 128 512 2048 8192]

Rows are made in code: words of the model's vocabulary, of exactly so many tokens. The bare loop gets the very batches
of ours, made in advance: forward, backward, clipping, fused AdamW, schedule. Milliseconds are those that the process
computed for (medians of steps, after three to warm up), so that others on the machine hardly count; with one thread
they are wall-clock of an idle machine. `--frozen all` trains the head alone, where ours runs on cached features.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import TrainerCallback

from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.technique import ALL_TASKS, Technique
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.training import predict
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.predict import predict_logits
from hf_smalldata.training.trainer import decay_groups

LABELS, PROBLEM, WARM_UP = ("one", "other"), "single_label_classification", 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled/minilm-l6")
    parser.add_argument("--shapes", nargs="+", default=["16x24", "8x128"], help="rows x tokens of a batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--frozen", choices=["none", "all"], default="none")
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64, 256], help="tokens of rows to predict")
    parser.add_argument("--budgets", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(f"{given.model}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if given.predict:
        predictions(given.model, given.lengths, given.budgets)
    else:
        steps(given.model, given.shapes, given.steps, given.frozen)


def steps(model: str, shapes: list[str], count: int, frozen: str) -> None:
    print("| batch | bare loop, ms a step | ours | overhead, ms |\n|---|---|---|---|")
    for shape in shapes:
        rows, tokens = map(int, shape.split("x"))
        bare, ours = [], []
        for _ in range(3):  # by turns: a machine's speed drifts
            bare.append(bare_loop(fitting_of(model, rows, tokens, count, frozen), rows))
            ours.append(our_loop(fitting_of(model, rows, tokens, count, frozen)))
        least = [min(each) for each in (bare, ours)]
        print(f"| {shape} | {least[0]:.1f} | {least[1]:.1f} | {least[1] - least[0]:.1f} |", flush=True)


def predictions(model: str, lengths: list[int], budgets: list[int]) -> None:
    """Rows a second by the tokens of a batch."""
    header = ["rows of", *(f"{budget} tokens a batch" for budget in budgets)]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for tokens in lengths:
        count = max(16, 4096 // tokens)
        fitting = fitting_of(model, count, tokens, 1, "none")
        network = fitting.task.load_model(fitting.recipe.model, LABELS, PROBLEM)
        encoded = EncodedRows(fitting.data.train, fitting.task, fitting.processor)
        collate = collator(fitting.task, fitting.processor, len(LABELS), PROBLEM)
        seconds: dict[int, list[float]] = {budget: [] for budget in budgets}
        for _ in range(3):
            for budget in budgets:
                predict.CPU_TOKENS = budget
                started = time.process_time()
                predict_logits(network, encoded, collate, count)
                seconds[budget].append(time.process_time() - started)
        print(
            f"| {tokens} tokens | " + " | ".join(f"{count / min(each):.1f}" for each in seconds.values()) + " |",
            flush=True,
        )


class Clock(TrainerCallback):
    """CPU seconds at the end of each step."""

    ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


class Timed(Technique):
    name = "timed"
    tasks = ALL_TASKS

    def callbacks(self) -> list[TrainerCallback]:
        return [Clock()]


def our_loop(fitting: Fitting) -> float:
    Clock.ends.clear()
    fitting.attempt(fitting.data.train, 0, 0)
    return _step_ms(Clock.ends)


def bare_loop(fitting: Fitting, batch_size: int) -> float:
    """As one would write it by hand, on the device of the default."""
    task, train = fitting.task, fitting.recipe.train
    torch.manual_seed(0)
    network = task.load_model(fitting.recipe.model, LABELS, PROBLEM)
    for technique in fitting.recipe.techniques:
        if isinstance(technique, Freeze):
            technique.model(network, fitting._context(fitting.data.train, 0, fitting.work))
    encoded = EncodedRows(fitting.data.train, task, fitting.processor)
    collate = collator(task, fitting.processor, len(LABELS), PROBLEM)
    parts = [range(start, start + batch_size) for start in range(0, len(encoded), batch_size)]
    batches = [collate([encoded[at] for at in part]) for part in parts]
    optimizer = torch.optim.AdamW(decay_groups(network, 0.01), lr=train["learning_rate"], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    network.train()
    ends = []
    for batch in batches:
        labels = batch.pop("labels")
        torch.nn.functional.cross_entropy(network(**batch).logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ends.append(time.process_time())
    return _step_ms(ends)


def _step_ms(ends: list[float]) -> float:
    return 1000 * statistics.median(b - a for a, b in zip(ends[WARM_UP:-1], ends[WARM_UP + 1 :], strict=True))


def fitting_of(model: str, batch_size: int, tokens: int, steps: int, frozen: str) -> Fitting:
    """A recipe of so many steps on made rows of exactly so many tokens."""
    recipe = Recipe.parse({
        "task": "text-classification", "data": {"name": "made in code"}, "model": {"name": model},
        "techniques": [*([Freeze()] if frozen == "all" else []), Timed()],
        "train": {"num_train_epochs": 1, "per_device_train_batch_size": batch_size, "disable_tqdm": True},
    })  # fmt: skip
    task = get_task(recipe.task)
    processor = task.load_processor(recipe.model)
    words = [word for word in sorted(processor.get_vocab()) if word.isalpha() and word.islower()]
    generator = torch.Generator().manual_seed(0)
    count = batch_size * steps
    chosen = torch.randint(0, min(len(words), 2000), (count, tokens - 2), generator=generator).tolist()
    rows = Dataset.from_dict({
        "id": [str(at) for at in range(count)],
        "text": [" ".join(words[at] for at in row) for row in chosen],
        "label": [at % 2 for at in range(count)],
    })  # fmt: skip
    work = Path(tempfile.mkdtemp())
    return Fitting(recipe, task, processor, Splits(rows, None, None, LABELS, PROBLEM), work)


if __name__ == "__main__":
    main()
