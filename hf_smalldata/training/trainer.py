"""SmallDataTrainer: a `transformers.Trainer` that runs the hooks of techniques, and otherwise stays out of the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.nn.losses import terms
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.technique import Technique, using
from hf_smalldata.training.batching import BESIDE_INPUTS, VIEWS, LikeLengths
from hf_smalldata.training.best import Progress
from hf_smalldata.training.flops import SHORT_S, count, matmul_peak, size


class SmallDataTrainer(Trainer):
    """Soft targets, hooks in the recipe's order, batches of like lengths.

    Args:
        techniques: in the order in which they apply.
        problem_type: decides the loss.
        class_weights: (C,) or None.
        kwargs: the Trainer's own.
    """

    loss_is_scaled_for_ga = False  # the loss is a mean over the batch

    def __init__(
        self,
        *,
        techniques: Sequence[Technique],
        problem_type: ProblemType,
        class_weights: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        own = [callback for technique in using(techniques, "callbacks") for callback in technique.callbacks()]
        super().__init__(**{**kwargs, "callbacks": [*kwargs.get("callbacks", ()), *own]})
        self.model_accepts_loss_kwargs = False
        self.on_groups, self.on_batch = using(techniques, "param_groups"), using(techniques, "batch")
        self.on_loss, self.penalties = using(techniques, "loss_terms"), using(techniques, "penalty")
        self.on_step = using(techniques, "step")
        self.problem_type: ProblemType = problem_type
        self.class_weights = class_weights
        self.size_seen = 0  # of all batches trained on, as `flops.size` counts
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(Progress)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with decoupled weight decay on matrices only: never on biases and norms."""
        if self.optimizer is None:
            network: Any = self.model if model is None else model
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, network)
            groups = [{**group, "lr": options["lr"]} for group in decay_groups(network, self.args.weight_decay)]
            for technique in self.on_groups:
                groups = technique.param_groups(groups, network)
            self.optimizer = optimizer(groups, **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Batch hooks, the task's loss as loss_terms hooks leave it, penalties; hooks run in training only.

        Unlabelled rows are for penalties: what changes or mixes the labelled ones does not see them.
        """
        batch = {name: value for name, value in inputs.items() if name not in VIEWS}
        if model.training:
            for technique in self.on_batch:
                batch = technique.batch(batch, model)
            batch |= {name: inputs[name] for name in VIEWS if name in inputs}
        outputs = model(**{name: value for name, value in batch.items() if name not in BESIDE_INPUTS})
        weights = None if self.class_weights is None else self.class_weights.to(outputs.logits.device)
        parts = terms(outputs.logits, batch["labels"], self.problem_type, weights)
        if model.training:
            for technique in self.on_loss:
                parts = technique.loss_terms(parts)
        loss = parts.over(self._weight(parts.weight.sum(), model.training))
        if model.training and self.penalties:
            rows = torch.tensor(float(len(batch["labels"])), device=loss.device)
            share = rows / self._weight(rows, shared=True)
            for technique in self.penalties:
                loss = loss + share * technique.penalty(model, batch, outputs)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def _weight(self, own: Tensor, shared: bool) -> Tensor:
        """The weight of a batch, a scalar; of one that processes share, the mean of their parts'.

        The gradients of processes are averaged, so that each divides by what all have: a part with fewer words, or with
        rows of lighter classes, weighs less, as it would in one process.
        """
        together: Tensor = self.accelerator.reduce(own.detach(), "mean") if shared and self.args.world_size > 1 else own
        return together

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Forward and backward pass of a batch, within the `step` hooks; the first technique's is the innermost."""
        backward = partial(super().training_step, model, *args, **kwargs)
        for technique in self.on_step:
            backward = partial(technique.step, backward, model)
        return backward()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Nothing, at once: the Trainer's own estimate walks through all weights in every step."""
        self.size_seen += size(inputs)
        return 0

    def utilisation(self, seconds: float, before: float = 0.0) -> dict[str, float | None]:
        """How much of the machine the training of `seconds` used; nothing is known of short ones and of many processes.

        Forward and backward passes of the training batches count; evaluation, caches and penalties take time alone.

        Args:
            seconds: of all that learnt.
            before: operations of techniques that learnt before, in the precision that pays here.
        """
        names = ("model_flops", "matmul_peak_flops_per_second", "model_flops_utilisation")
        if seconds < SHORT_S or self.size_seen == before == 0 or self.args.world_size > 1:
            return dict.fromkeys(names)
        if self.size_seen == 0:
            half = torch.bfloat16 if bfloat16_pays(self.args.device) else torch.float32
            peak = matmul_peak(self.args.device, half)
            return dict(zip(names, (before, peak, round(before / seconds / peak, 4)), strict=True))
        network: Any = self.model  # not wrapped
        network.eval()  # the same operations, and statistics of BatchNorm stay
        batch = self._prepare_inputs(self.data_collator(self._usual_rows()))
        with self.compute_loss_context_manager():
            one = count(lambda: self.compute_loss(network, batch))
        network.zero_grad()
        flops = before + one * self.size_seen / size(batch)
        half = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        peak = matmul_peak(self.args.device, half)
        return dict(zip(names, (flops, peak, round(flops / seconds / peak, 4)), strict=True))

    def _usual_rows(self) -> list[Any]:
        """A batch of the rows whose length is nearest to the mean, weighed by cost: attention grows with its square."""
        rows: Any = self.train_dataset
        lengths = torch.tensor(rows.lengths, dtype=torch.float)
        usual = lengths.square().mean().div(lengths.mean())
        return [rows[int(at)] for at in (lengths - usual).abs().argsort()[: self.args.train_batch_size]]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int | None]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return LikeLengths(rows, self.args.train_batch_size, self.args.seed, processes=self.args.world_size)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and embeddings with decay; biases, norms and other vectors without."""
    learnt = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = {name for name, parameter in learnt if parameter.dim() >= 2 and not name.endswith("bias")}
    return [
        {"params": [parameter for name, parameter in learnt if name in decayed], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in learnt if name not in decayed], "weight_decay": 0.0},
    ]
