"""Source, then target: the network learns the labelled rows of another domain first, and the few target rows after.

Helps when a related domain has many labels and the target a few: what is common is learnt from the many, what differs
from the few. Costs a training on the source rows for each seed. Hurts where the same label means another thing in the
two domains. For a source with other labels train on it alone, and give that Run's folder as `model.name`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names
from hf_smalldata.nn.initialise import reinitialise
from hf_smalldata.technique import ALL_TASKS, Context, Need, Technique
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.trainer import SmallDataTrainer


class SourceThenTarget(Technique):
    """A plain training on the source rows, before all that follows in the recipe.

    List it before techniques that fit a head: they fit it to the target then.
    """

    name = "source_then_target"
    tasks = ALL_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"source"})
    paper = "https://arxiv.org/abs/1811.01088"

    epochs: PositiveFloat = 3.0  # of the source rows
    learning_rate: PositiveFloat = 5e-5
    batch_size: PositiveInt = 16
    head: Literal["keep", "new"] = "keep"  # new: the target's head starts afresh on the body that the source taught

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network after the source."""
        if ctx.source is None:
            raise UserError("source_then_target: there are no source rows; set data.source")
        arguments = training_arguments(
            {"num_train_epochs": self.epochs, "learning_rate": self.learning_rate, "save_strategy": "no",
             "per_device_train_batch_size": self.batch_size},
            ctx.work_dir / "source",
            ctx.seed,
        )  # fmt: skip
        rows = ctx.task.cut(ctx.source, ctx.processor)
        trainer = SmallDataTrainer(
            model=model,
            args=arguments,
            techniques=(),
            problem_type=ctx.problem_type,
            data_collator=collator(ctx.task, ctx.processor, max(len(ctx.labels), 1), ctx.problem_type),
            train_dataset=EncodedRows(rows, ctx.task, ctx.processor),
        )
        trainer.train()
        ctx.facts[self.name] = {"source_rows": len(ctx.source), "steps": trainer.state.global_step}
        if self.head == "new":
            if not isinstance(model, PreTrainedModel):
                raise UserError("source_then_target.head: a new one is for networks as they were loaded; keep it")
            for name in head_names(model):
                reinitialise(model, model.get_submodule(name))
        return model
