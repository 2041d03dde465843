"""Prototypical networks: the body learns, episode by episode, to put rows of a class around their mean.

Helps when classes at use are new ones (alphabets, parts, intents): each episode draws some of the training classes and
a few rows of each, as use will, so what is learnt is to tell classes apart rather than these classes. The head is then
filled with the means of the training rows. Does little with two or three classes, for there is next to nothing to draw.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from hf_smalldata.errors import UserError, listed
from hf_smalldata.nn.features import embedded, readout
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.nn.prototype_heads import prototypes
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.fewshot.rows import adamw, body, features_of, inputs_of, learn_once, tables_held
from hf_smalldata.training.batching import EncodedRows

logger = logging.getLogger(__name__)

TURNS = 4  # of an image, by 90 degrees
LARGEST_NORM = 1.0  # of the gradient
SPREAD = 4.0  # of the first logits: a right answer is likely, yet not so sure that nothing is left to learn
SHOWN = 25  # episodes over which accuracy is told


class Prototypical(Technique):
    """Episodic training of the body, then a stock linear head that asks which class's mean is nearest.

    The paper takes distances as logits; the lengths of pretrained embeddings differ a thousandfold, so a scale is
    learnt with the network (as in https://arxiv.org/abs/1805.10123). Token vectors stay as they were pretrained.
    """

    name = "prototypical"
    tasks = ALL_TASKS - {"token-classification"}
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/1703.05175"

    ways: int = Field(default=8, ge=2)  # classes of an episode; all where there are fewer. More are harder, and better
    shots: PositiveInt = 4  # rows of a class that make its mean; best as many as there will be at use
    queries: PositiveInt = 4  # rows of a class that are asked; a class of few rows gives at least one to each side
    episodes: PositiveInt = 100
    learning_rate: PositiveFloat = 2e-4
    rotations: bool = False  # an image turned by 90, 180 or 270 degrees is of another class: for drawings and signs

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The body after episodic training, the head filled; the same on every process."""
        self._check(ctx)
        learn_once(model, ctx, "prototypical.safetensors", partial(self._learn, model, ctx))
        return model

    def _check(self, ctx: Context) -> None:
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"prototypical: rows need one class each, these are for {ctx.problem_type}; leave it out")
        if self.rotations and ctx.task.kind != "image":
            raise UserError(f"prototypical.rotations: only images can be turned, not {ctx.task.kind}; leave it out")
        counts = np.bincount(ctx.train["label"][:], minlength=len(ctx.labels))
        single = [ctx.labels[at] for at in np.flatnonzero(counts == 1)]
        if single:
            raise UserError(f"prototypical: an episode asks other rows of a class than those it learns from, so each "
                            f"class needs two; one has {listed(single)}")  # fmt: skip
        if (counts > 0).sum() < 2:
            raise UserError("prototypical: rows of at least two classes are needed, found one")

    def _learn(self, model: nn.Module, ctx: Context) -> None:
        rows = EncodedRows(ctx.task.cut(ctx.train, ctx.processor), ctx.task, ctx.processor)
        device = next(model.parameters()).device
        out = readout(model, lambda network: network(**inputs_of(rows, [0], ctx, device)))
        learnt = body(model, out)
        if not learnt:
            raise UserError("prototypical: nothing in the body may learn; freeze fewer blocks")
        turns = TURNS if self.rotations else 1
        draws = drawn(np.asarray(rows.raw_labels), turns, self, np.random.default_rng([ctx.seed, 0]))
        scale = nn.Parameter(torch.zeros((), device=device))  # its logarithm
        optimizer = adamw([*learnt, scale], self.learning_rate)
        schedule = LambdaLR(optimizer, lambda step: 1 - step / self.episodes)
        right: list[float] = []
        with tables_held(model):
            model.train()
            for step in (bar := tqdm(range(self.episodes), desc="episodes", leave=False, delay=1, disable=None)):
                places, classes, asked = next(draws)
                inputs = inputs_of(rows, [place // turns for place in places], ctx, device)
                if turns > 1:
                    inputs = turned(inputs, [place % turns for place in places])
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
                    z = embedded(model, inputs, out)
                near, targets = episode_nearness(z, classes.to(device), asked.to(device))
                if step == 0:
                    scale.data = (SPREAD / near.detach().std(1).mean().clamp(min=1e-12)).log()
                loss = nn.functional.cross_entropy(scale.exp() * near, targets)  # eq. 2
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(learnt, LARGEST_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                right.append(float((near.argmax(1) == targets).float().mean()))
                bar.set_postfix(accuracy=f"{np.mean(right[-SHOWN:]):.3f}")
        z, out = features_of(model, ctx)
        head = prototypes(z, ctx.task.targets(ctx.train["label"][:], len(ctx.labels), ctx.problem_type), "euclidean")
        out.fill(head.weight, head.bias)  # eq. 8
        ctx.facts["prototypical"] = {"episodes": self.episodes, "accuracy": round(float(np.mean(right[-SHOWN:])), 4)}
        logger.info("prototypical: accuracy %.3f in the last %d episodes", np.mean(right[-SHOWN:]), len(right[-SHOWN:]))


Draw = tuple[list[int], Tensor, Tensor]  # rows, their classes (B,) from 0 on, and whether they are asked (B,)


def drawn(labels: np.ndarray, turns: int, sizes: Prototypical, rng: np.random.Generator) -> Iterator[Draw]:
    """Episode after episode. With turns, place `row * turns + t` is a row turned t times, of a class of its own.

    Args:
        labels: class of each row (N,); each class has two rows or more.
        turns: 1, or `TURNS`.
        sizes: ways, shots and queries, which are clipped to what there is.
        rng: of the draws.
    """
    classes = [np.flatnonzero(labels == label) * turns + t for label in np.unique(labels) for t in range(turns)]
    while True:
        chosen = rng.choice(len(classes), min(sizes.ways, len(classes)), replace=False)
        places, of_class, asked = list[int](), list[int](), list[bool]()
        for at, one in enumerate(chosen):
            shots = min(sizes.shots, len(classes[one]) - 1)
            some = rng.permutation(classes[one])[: shots + sizes.queries].tolist()
            places += some
            of_class += [at] * len(some)
            asked += [False] * shots + [True] * (len(some) - shots)
        yield places, torch.tensor(of_class), torch.tensor(asked)


def episode_nearness(z: Tensor, classes: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Nearness (Q, W) of the rows that are asked to the means of the others, and their classes (Q,).

    Args:
        z: embeddings (B, d).
        classes: of the rows (B,), from 0 to W - 1.
        asked: whether a row is asked (B,).
    """
    member = nn.functional.one_hot(classes[~asked]).to(z)  # (S, W)
    means = member.T @ z[~asked] / member.sum(0).unsqueeze(1)  # eq. 1
    apart = torch.cdist(z[asked], means, compute_mode="donot_use_mm_for_euclid_dist")  # exact, also for near ones
    return -apart.square(), classes[asked]


def turned(inputs: Batch, turns: Sequence[int]) -> Batch:
    """Images each turned by so many times 90 degrees.

    Raises:
        UserError: they are not square.
    """
    pixels = inputs["pixel_values"]  # (B, 3, H, W)
    if pixels.shape[-2] != pixels.shape[-1]:
        raise UserError(f"prototypical.rotations: images must be square to be turned, these are {pixels.shape[-2]} x "
                        f"{pixels.shape[-1]}; leave it out")  # fmt: skip
    found = [torch.rot90(image, turn, (-2, -1)) for image, turn in zip(pixels, turns, strict=True)]
    return {**inputs, "pixel_values": torch.stack(found)}
