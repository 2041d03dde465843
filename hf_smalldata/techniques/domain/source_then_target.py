"""Source, then target: the network learns the labelled rows of another domain first, and the few target rows after.

Helps when a related domain has many labels and the target a few: what is common is learnt from the many, what differs
from the few. Costs a training on the source rows for each seed. Hurts where the same label means another thing in the
two domains: say `data.source_labels: own` then, as for a source of other labels, and only the body comes from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names
from hf_smalldata.nn.initialise import reinitialise
from hf_smalldata.technique import ALL_TASKS, Context, Need, Technique
from hf_smalldata.techniques.domain.plainly import teach
from hf_smalldata.techniques.domain.pooled import last_layer


class SourceThenTarget(Technique):
    """A plain training on the source rows, before all that follows in the recipe.

    Where their labels are their own, the layer that makes the logits is another one while it lasts.

    List it before techniques that fit a head: they fit it to the target then.
    """

    name = "source_then_target"
    tasks = ALL_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"source"})
    takes_own_labels: ClassVar[bool] = True
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/1811.01088"

    epochs: PositiveFloat = 3.0  # of the source rows
    learning_rate: PositiveFloat = 5e-5
    batch_size: PositiveInt = 16
    head: Literal["keep", "new"] = "keep"  # new: the target's head starts afresh on the body that the source taught

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network after the source."""
        if ctx.source is None:
            raise UserError("source_then_target: there are no source rows; set data.source")
        with other_logits(model, len(ctx.source_labels)) if ctx.source_labels else nullcontext():
            steps = teach(model, ctx, ctx.source, self.epochs, self.learning_rate, self.batch_size)
        ctx.facts[self.name] = {"source_rows": len(ctx.source), "steps": steps}
        if self.head == "new":
            if not isinstance(model, PreTrainedModel):
                raise UserError("source_then_target.head: a new one is for networks as they were loaded; keep it")
            for name in head_names(model):
                reinitialise(model, model.get_submodule(name))
        return model


@contextmanager
def other_logits(model: Any, count: int) -> Iterator[None]:
    """Within: a network with `count` logits, by a new layer in place of the one that makes them.

    Args:
        model: of transformers, which ends in a linear layer.
        count: of classes.

    Raises:
        UserError: it does not end in one.
    """
    own = last_layer(model)
    place = next(name for name, module in model.named_modules() if module is own)
    other = nn.Linear(own.in_features, count, bias=own.bias is not None).to(own.weight)
    reinitialise(model, other)
    model.set_submodule(place, other)
    try:
        yield
    finally:
        model.set_submodule(place, own)
