"""Best weights in memory, and early stopping on the task's metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

TRAINING_ONLY = "training_only"  # under this name hangs beside a model what is gone after training


class KeepBest(TrainerCallback):
    """Keep a copy of what learns at the best evaluation and put it back at the end: no checkpoint on disk.

    Args:
        metric: as in the evaluation's result, without `eval_`.
        greater_is_better: of that metric.
        patience: evaluations without improvement before training stops; None never stops.
        threshold: smallest change that counts as improvement.
    """

    def __init__(
        self, metric: str, greater_is_better: bool, patience: int | None = None, threshold: float = 0.0
    ) -> None:
        self.metric, self.sign, self.patience, self.threshold = (
            metric,
            1 if greater_is_better else -1,
            patience,
            threshold,
        )
        self.best, self.waited = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Compare, copy, and ask for the end when patience is spent."""
        value = self.sign * kwargs["metrics"][f"eval_{self.metric}"]
        if value > self.best + self.threshold:
            self.best, self.waited = value, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in learnt(kwargs["model"]).items()}
        else:
            self.waited += 1
            control.should_training_stop |= self.patience is not None and self.waited >= self.patience

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Beside a checkpoint the best weights go to disk too, for a resumed training."""
        if state.is_world_process_zero and self.weights:
            facts = {"best": repr(self.best), "waited": str(self.waited)}
            save_file({name: tensor.cpu() for name, tensor in self.weights.items()}, _file(args), metadata=facts)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A resumed training knows the best weights of its first part."""
        if state.global_step and _file(args).exists():
            self.weights, facts = read_weights(_file(args), next(kwargs["model"].parameters()).device)
            self.best, self.waited = float(facts["best"]), int(facts["waited"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the best weights back."""
        now = learnt(kwargs["model"])
        with torch.no_grad():
            for name, tensor in self.weights.items():
                now[name].copy_(tensor)


def _file(args: TrainingArguments) -> Path:
    return Path(str(args.output_dir)) / "best.safetensors"


def read_weights(file: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file by their names, and the facts beside them."""
    with safe_open(file, framework="pt", device=str(device)) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def learnt(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters with gradients, and the statistics of norms that are in training mode.

    What only training needs is no part of it.
    """
    tensors: dict[str, Tensor] = {
        name: p for name, p in model.named_parameters() if p.requires_grad and not name.startswith(TRAINING_ONLY)
    }
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            tensors |= {f"{prefix}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return tensors


class Progress(ProgressCallback):
    """The Trainer's progress bar, without a line of raw numbers for each log."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Numbers are in metrics.json and in the final table."""
