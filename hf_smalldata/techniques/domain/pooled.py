"""What alignment shares: features of labelled and of unlabelled rows, as the head's last layer reads them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from accelerate.utils import extract_model_from_parallel
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.data.modality import Kind
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks import TASKS
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Need, Technique

POOLED_TASKS = frozenset(TASKS) - {"token-classification"}  # a feature vector a row

# A model in training -> what its last layer was given in the last forward pass of labelled rows
SEEN: MutableMapping[nn.Module, Tensor] = WeakKeyDictionary()


def last_layer(model: Any) -> nn.Linear:
    """The linear layer that makes the logits.

    Raises:
        UserError: the network has none.
    """
    width = int(model.config.num_labels)
    layers = [
        module
        for name in head_names(model)
        for module in model.get_submodule(name).modules()
        if isinstance(module, nn.Linear) and module.out_features == width
    ]
    if not layers:
        raise UserError(f"{type(model).__name__} does not end in a linear layer, so it has no features to align")
    return layers[-1]


class Pooled(TrainerCallback):
    """Notes the features of each forward pass while a training lasts."""

    def __init__(self) -> None:
        self.handle: Any = None

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer is made."""
        model: nn.Module = kwargs["model"]

        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].dim() == 2:  # (B, d)
                SEEN[model] = inputs[0]

        self.handle = last_layer(model).register_forward_pre_hook(note)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The model is again as it was."""
        self.handle.remove()
        SEEN.pop(kwargs["model"], None)


def labelled_features(model: nn.Module) -> Tensor:
    """Features (B, d) of the labelled rows, whose forward pass is over."""
    return SEEN[bare(model)].float()


def unlabelled_pass(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Features (U, d) and logits (U, C) of the unlabelled rows in a batch: one more forward pass."""
    network = bare(model)
    before = SEEN[network]
    logits = unlabelled_logits(model, batch)
    features, SEEN[network] = SEEN[network], before
    return features.float(), logits


def unlabelled_logits(model: nn.Module, batch: Batch, view: str = "unlabelled") -> Tensor:
    """Logits (U, C) of a view of the unlabelled rows in a batch: one more forward pass."""
    inputs: Any = batch[view]
    logits: Tensor = bare(model)(**inputs).logits
    return logits.float()


def bare(model: nn.Module) -> nn.Module:
    """The network without what shares it out over processes."""
    found: nn.Module = extract_model_from_parallel(model)
    return found


def one_class_each(name: str, problem_type: ProblemType) -> None:
    """For techniques that read predictions as classes.

    Raises:
        UserError: rows have none, or several.
    """
    if problem_type != "single_label_classification":
        raise UserError(f"{name}: for rows of one class each, and these are {problem_type}; use coral or dann")


class Alignment(Technique):
    """A penalty on how far apart labelled and unlabelled features lie: those that the head's last layer reads.

    A batch with one row on either side, as the last of an epoch may be, tells nothing of spread and is passed over.
    """

    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled", "features"})
    keeps_inputs: ClassVar[bool] = True  # unlabelled rows are as cached as labelled ones

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def gap(self, source: Tensor, target: Tensor) -> Tensor:
        """How far apart features (N, d) and (M, d) lie; N, M >= 2."""
        raise NotImplementedError

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def callbacks(self) -> list[TrainerCallback]:
        """The one that notes features."""
        return [Pooled()]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the gap."""
        source, (target, _) = labelled_features(model), unlabelled_pass(model, batch)
        if min(len(source), len(target)) < 2:
            return source.sum() * 0
        return self.weight * self.gap(source, target)
