"""Contrastive: the encoder learns to put rows of a class together and classes apart, before any head is fitted.

Helps with a handful of rows a class, where every pair of rows is a lesson. Each row is encoded once a step and all
pairs of the batch are used; no table of pairs is made. Does less the more rows there are, since fine-tuning catches up,
and is not for sets of labels or numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from hf_smalldata.errors import UserError
from hf_smalldata.nn.contrast import cosine_similarity, least_contrastive, supervised_contrastive
from hf_smalldata.nn.features import embedded, readout
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.rows import adamw, body, inputs_of, learn_once, tables_held
from hf_smalldata.techniques.fewshot.template import with_names
from hf_smalldata.training.batching import EncodedRows, collator, to_device
from hf_smalldata.training.flops import SHORT_S, count
from hf_smalldata.training.prefix_cache import prefix_cache

logger = logging.getLogger(__name__)

WARM_UP = 0.1  # of the steps
LARGEST_NORM = 1.0  # of the gradient
MOST_TOKENS = 1024  # of a part, and of a batch whose states are kept for its gradient: of a larger one they are redone
OTHER_ROW = 64.0  # tokens that an image or the longest clip stands for
LIKE = 0.5  # of the longest row of a part: shorter ones are computed apart
FEW, EPOCHS_OF_FEW = 16, 7  # rows a class: with 8 of them, more epochs hurt
FEWEST, EPOCHS_A_CLASS, MOST_EPOCHS = 4, 2, 16  # with 64, two classes are learnt in 4 epochs and lose by 16, six gain
COSINE_WEIGHT = 4.0  # beside the contrastive loss: their values are then alike where training starts


class Contrastive(Technique):
    """Supervised contrastive learning of the body on the embedding that the head will read.

    Token vectors stay as they were pretrained: few rows use few of them. Frozen blocks below are run once a row.
    """

    name = "contrastive"
    tasks = ALL_TASKS - {"token-classification"}
    paper = "https://arxiv.org/abs/2004.11362"

    loss: Literal["both", "supcon", "cosine"] = "both"  # each is better on some sets, their sum never far behind
    temperature: PositiveFloat = 0.1
    hardness: NonNegativeFloat = 0.0  # above 0, near rows of other classes count more
    epochs: PositiveInt | Literal["auto"] = "auto"  # 7 up to 16 rows a class, above them 4 to 16 by classes
    learning_rate: PositiveFloat = 2e-4
    batch_size: int = Field(default=64, ge=4)
    template: str | None = None  # such as "This text is about {}": each class name, filled in, is one more row
    stop_below: NonNegativeFloat = 0.05  # of the loss above its least: classes that far apart have no more to teach

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The body after contrastive learning; the same on every process."""
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"contrastive: rows need one class each, these are for {ctx.problem_type}; leave it out")
        learn_once(model, ctx, "contrastive.safetensors", partial(self._learn, model, ctx))
        return model

    def _learn(self, model: nn.Module, ctx: Context) -> None:
        rows = self._rows(ctx)
        windows = ctx.task.cut(rows, ctx.processor)
        encoded = EncodedRows(windows, ctx.task, ctx.processor)
        labels = np.asarray(encoded.raw_labels)
        if len(set(labels.tolist())) < 2:
            raise UserError("contrastive: rows of at least two classes are needed, found one")
        device = next(model.parameters()).device
        out = readout(model, lambda network: network(**inputs_of(encoded, [0], ctx, device)))
        learnt = body(model, out)
        if not learnt:
            raise UserError("contrastive: nothing in the body may learn; freeze fewer blocks")
        collate = collator(ctx.task, ctx.processor, len(ctx.labels), ctx.problem_type)
        batches = balanced_batches(labels, self.batch_size, np.random.default_rng([ctx.seed, 0]))
        epochs = epochs_for(labels) if self.epochs == "auto" else self.epochs
        steps = epochs * len(next(batches))
        optimizer = adamw(learnt, self.learning_rate)
        schedule = LambdaLR(optimizer, lambda step: _rate(step, steps))

        def embedding(indices: list[int]) -> Tensor:
            batch = to_device(collate([encoded[at] for at in indices]), device)
            del batch["labels"]
            return embedded(model, batch, out)

        redone = partial(checkpoint, embedding, use_reentrant=False)
        costs = tokens_of(encoded, ctx)
        with tables_held(model), prefix_cache(model, [encoded], collate, ctx.work_dir):
            model.train()
            begun, cost = time.perf_counter(), 0.0
            bar = tqdm(range(epochs), desc="contrastive", leave=False, delay=1, disable=None)
            for _ in bar:
                above: list[float] = []
                for indices in next(batches):
                    parts = pieces(indices, costs)
                    cost += padded_size(parts, costs)
                    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
                        run = embedding if padded_size(parts, costs) <= MOST_TOKENS else redone
                        z = torch.cat([run(part) for part in parts])
                    targets = torch.as_tensor(labels[[at for part in parts for at in part]], device=device)
                    loss = self._loss(z, targets)
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(learnt, LARGEST_NORM)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                    above.append(float(loss.detach()))
                bar.set_postfix(loss=f"{np.mean(above):.3f}")
                if np.mean(above) < self.stop_below:
                    logger.info("contrastive: all classes are told apart, stopped early")
                    break
            if time.perf_counter() - begun > SHORT_S:
                usual = parts[len(parts) // 2]  # one part tells of all: a whole batch keeps more than learning from it
                one = count(lambda: embedding(usual).sum())
                optimizer.zero_grad()
                ctx.facts[self.name] = {"model_flops": one * cost / padded_size([usual], costs)}
        model.eval()

    def _rows(self, ctx: Context) -> Dataset:
        """Training rows; with a template those of the class names too."""
        if self.template is None:
            return ctx.train
        if ctx.task.kind != "text":
            raise UserError(f"contrastive.template: class names can only stand among texts, not {ctx.task.kind}s")
        return with_names(ctx.train, ctx.labels, self.template)

    def _loss(self, z: Tensor, labels: Tensor) -> Tensor:
        """What is minimised, above its least: 0 for classes that have collapsed far apart."""
        parts = []
        if self.loss != "cosine":
            supcon = supervised_contrastive(z, labels, self.temperature, self.hardness)
            parts.append(supcon - least_contrastive(labels))
        if self.loss != "supcon":
            parts.append(COSINE_WEIGHT * cosine_similarity(z, labels))
        return torch.stack(parts).sum()


def epochs_for(labels: np.ndarray) -> int:
    """How often to see all rows, by the rows of the middle class and the number of classes. labels: (N,).

    Chosen on draws of two sets of texts, with 2 and 6 classes, at 8 and 64 rows a class.
    """
    _, counts = np.unique(labels, return_counts=True)
    if np.median(counts) <= FEW:
        return EPOCHS_OF_FEW
    return min(max(EPOCHS_A_CLASS * len(counts), FEWEST), MOST_EPOCHS)


def balanced_batches(labels: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[list[list[int]]]:
    """Epoch after epoch, the batches of indices: in each, the classes that it holds have about as many rows.

    Where a batch cannot hold two rows of each class, it holds pairs of some. A class of one row comes twice, which
    dropout makes two views of.

    Args:
        labels: classes of all rows (N,).
        size: rows of a batch, at least 4.
        rng: of the order.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    classes = [members if len(members) > 1 else members.repeat(2) for members in classes]
    count = -(-sum(map(len, classes)) // size)
    while True:
        batches: list[list[int]] = [[] for _ in range(count)]
        for at in rng.permutation(len(classes)):
            members = rng.permutation(classes[at])
            parts = min(count, len(members) // 2)
            for batch, part in zip(sorted(batches, key=len), np.array_split(members, parts), strict=False):
                batch.extend(part.tolist())
        yield [batches[at] for at in rng.permutation(count)]


def pieces(indices: list[int], costs: Sequence[float]) -> list[list[int]]:
    """A batch in parts of like length, in which padding is at most half of a row: it is computed part by part.

    Args:
        indices: rows of the batch.
        costs: tokens of all rows.
    """
    found: list[list[int]] = []
    for at in sorted(indices, key=lambda index: -costs[index]):
        longest = costs[found[-1][0]] if found else 0.0
        if found and costs[at] >= LIKE * longest and (len(found[-1]) + 1) * longest <= MOST_TOKENS:
            found[-1].append(at)
        else:
            found.append([at])
    return found


def padded_size(parts: Sequence[Sequence[int]], costs: Sequence[float]) -> float:
    """Tokens of a batch with their padding; the first row of a part is its longest."""
    return sum(len(part) * costs[part[0]] for part in parts)


def tokens_of(rows: EncodedRows, ctx: Context) -> list[float]:
    """Tokens of each row, or what stands for them."""
    unit = 1.0 if ctx.task.kind in ("text", "sequence") else OTHER_ROW / max(rows.lengths)
    return [unit * length for length in rows.lengths]


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to 0."""
    return min((step + 1) / max(1.0, WARM_UP * steps), 1.0) * (steps - step) / steps
