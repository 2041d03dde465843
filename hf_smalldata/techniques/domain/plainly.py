"""A plain training within a technique: on other rows than the target's, before those begin."""

from __future__ import annotations

from datasets import Dataset
from torch import nn

from hf_smalldata.technique import Context
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.trainer import SmallDataTrainer


def teach(model: nn.Module, ctx: Context, source: Dataset, epochs: float, learning_rate: float, batch_size: int) -> int:
    """Train a network in place on source rows, without techniques, and keep the weights of the last step.

    Args:
        model: with a logit for each of the source's labels.
        ctx: of the run.
        source: labelled rows.
        epochs: of these.
        learning_rate: at its largest.
        batch_size: rows of a step.

    Returns:
        Steps.
    """
    arguments = training_arguments(
        {"num_train_epochs": epochs, "learning_rate": learning_rate, "save_strategy": "no",
         "per_device_train_batch_size": batch_size},
        ctx.work_dir / "source",
        ctx.seed,
    )  # fmt: skip
    rows, width = ctx.task.cut(source, ctx.processor), len(ctx.source_labels or ctx.labels)
    trainer = SmallDataTrainer(
        model=model,
        args=arguments,
        techniques=(),
        problem_type=ctx.problem_type,
        data_collator=collator(ctx.task, ctx.processor, max(width, 1), ctx.problem_type),
        train_dataset=EncodedRows(rows, ctx.task, ctx.processor),
    )
    trainer.train()
    return int(trainer.state.global_step)
