"""What a technique is: frozen hyper-parameters and eleven hooks that do nothing until overridden.

The hooks stand in the order in which data meets them. Each takes a thing and returns the thing; nothing is changed in
place but the model. A technique is complete in its own file and knows no other technique.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_smalldata.data.modality import Kind
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.kept import Kept
from hf_smalldata.nn.losses import Terms
from hf_smalldata.tasks import TASKS
from hf_smalldata.tasks.task import Batch, ModelSpec, Predictions, Task

ALL_TASKS = frozenset(TASKS)
HOOKS = ("rows", "model", "param_groups", "example", "batch", "loss_terms", "penalty", "step", "callbacks",
         "trained", "baseline")  # fmt: skip

Need = Literal["unlabelled", "source", "features", "validation", "gpu"]
Predictor = Callable[[Dataset], np.ndarray]  # rows -> probabilities (N, C)
ParamGroups = list[dict[str, Any]]


@dataclass(frozen=True)
class Context:
    """What a technique may know of the run it works in."""

    task: Task
    model: ModelSpec  # the pretrained model that the run starts from
    processor: Any
    train: Dataset  # the labelled rows that may be learnt from: columns id, input, label; after `rows` also made ones
    unlabelled: Dataset | None  # rows without labels: columns id, domain, input
    labels: tuple[str, ...]
    problem_type: ProblemType
    seed: int
    work_dir: Path
    fit: Callable[[Dataset], Predictor]  # trains this recipe, less its `rows` hooks, on other rows
    source: Dataset | None = None  # labelled rows of other domains: also a column `domain`
    source_labels: tuple[str, ...] = ()  # of `source`, where they are its own
    facts: dict[str, Any] = field(default_factory=dict)  # what techniques found, by their names: written to the Run
    kept: Kept = field(default_factory=lambda: Kept(cap_bytes=0))  # what other trainings computed of the same inputs

    def once(self, key: str, make: Callable[[Path], None]) -> Path:
        """A file or folder made by the main process and read by all: the only word of distribution a technique says.

        Args:
            key: a name that is unique in the run.
            make: writes to the path it is given; called in one process, and not at all when the result is there.
        """
        path = self.work_dir / key
        with PartialState().main_process_first():
            if not path.exists():
                partial = path.with_name(f"{path.name}.partial")
                make(partial)
                partial.rename(path)
        return path


class Beside(NamedTuple):
    """Unlabelled rows in each training batch, drawn anew each epoch, as many of each domain."""

    per_row: int = 1  # for each labelled row, in `batch["unlabelled"]`, as the recipe's `example` hooks leave them
    strong: Technique | None = None  # what makes other views of the same rows, in `batch["strong"]`


class Technique(BaseModel):
    """One idea for learning from few labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]  # as in recipes and in the registry
    tasks: ClassVar[frozenset[str]]  # names of the tasks that it works for
    needs: ClassVar[frozenset[Need]] = frozenset()
    extra: ClassVar[str | None] = None  # the pip extra that brings its libraries
    paper: ClassVar[str] = ""
    paths: ClassVar[tuple[str, ...]] = ()  # fields that may hold a local path, of which only the last part is published
    fills_head: ClassVar[bool] = False  # whether the head knows the classes by it: no training need follow
    takes_own_labels: ClassVar[bool] = False  # whether source rows may have other labels than the target's
    # What `batch` and `penalty` do holds for cached states too: inputs stay, or are repeated, and no others are run but
    # those that ride in the batch
    keeps_inputs: ClassVar[bool] = False

    def default_learning_rate(self) -> float | None:
        """The learning rate to use when the recipe gives none; None to leave the default."""
        return None

    def beside(self, kind: Kind) -> Beside | None:
        """Which unlabelled rows it wants in each training batch; the model's inputs for them.

        Args:
            kind: what the task reads.
        """
        return None

    def settled(self, spec: ModelSpec) -> ModelSpec:
        """The model's settings as this technique needs them. No hook: called before model and processor are loaded."""
        return spec

    def check(self, train: Dataset, ctx: Context) -> None:
        """Refuse rows or files that it cannot work with. No hook: called before any, and where variants are shown.

        Raises:
            UserError: what is wrong with them.
        """

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Labelled training rows -> training rows. Made rows say who made them in a `source` column."""
        return train

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network -> the network. Randomness comes from torch's global generator, seeded by the run."""
        return model

    def param_groups(self, groups: ParamGroups, model: nn.Module) -> ParamGroups:
        """Optimiser groups -> optimiser groups: dicts of `params`, `lr` and any of the optimiser's other options."""
        return groups

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """One raw training row -> a row, drawn anew each epoch.

        `example["rng"]` is a numpy Generator made from (seed, row id, epoch): the only source of randomness here.
        """
        return example

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """One training batch -> a batch. `batch["labels"]` holds probabilities (B, C), or (B, T, C) for tokens."""
        return batch

    def loss_terms(self, terms: Terms) -> Terms:
        """The terms of a training batch's loss -> other terms. Soft targets and class weights are in their mass."""
        return terms

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """A scalar that is added to the loss of a training batch."""
        return torch.zeros(())

    def step(self, backward: Callable[[], Tensor], model: nn.Module) -> Tensor:
        """The gradient of a training batch, added to what `grad` of the parameters holds; returns the loss.

        Args:
            backward: one forward and backward pass of the batch, which does just that; may be called again.
            model: whose parameters learn.
        """
        return backward()

    def callbacks(self) -> list[TrainerCallback]:
        """Callbacks of the training loop, made anew for each training."""
        return []

    def trained(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network after its training, or without one, in evaluation mode -> the network that is judged and saved.

        The rows of `ctx.train` are those that were learnt from, with made ones.
        """
        return model

    def baseline(self, test: Dataset, ctx: Context) -> Predictions:
        """Predictions of another method for the test rows, shown as a row of the report's table beside the model.

        It changes nothing about the trained model. It is called before the training of each seed, by every process.

        Args:
            test: without their labels.
            ctx: `train` are the drawn rows of the seed. `work_dir` is shared by all seeds and by all Runs of a study:
                `once` with a key that says what the result depends on makes it once for all of them.
        """
        raise NotImplementedError(f"{self.name} makes no predictions of its own")

    def baseline_name(self, ctx: Context) -> str:
        """What the row of the `baseline` hook is called; it is published, so it holds no path."""
        return self.name

    @property
    def trains(self) -> bool:
        """Whether it has a say in the trained model: one that has not cannot be ablated."""
        return self.hooks() != ("baseline",)

    def hooks(self) -> tuple[str, ...]:
        """The hooks that this technique uses, in the order in which data meets them."""
        return tuple(hook for hook in HOOKS if getattr(type(self), hook) is not getattr(Technique, hook))


def using(techniques: Sequence[Technique], hook: str) -> tuple[Technique, ...]:
    """Those techniques that override `hook`: the others are never called."""
    return tuple(technique for technique in techniques if hook in technique.hooks())
