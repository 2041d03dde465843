"""The training of a generator: an average of its weights is kept, and one that goes wrong ends with the last good.

What was learnt is kept in the Hub's cache of assets (HF_ASSETS_CACHE) by rows and settings, so that the seeds of a
study do not train the same generator again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import cached_assets_path
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.errors import UserError
from hf_smalldata.report.formats import duration
from hf_smalldata.training.average import take_in
from hf_smalldata.whole import whole

logger = logging.getLogger(__name__)

Facts = dict[str, Any]
Watch = Callable[[nn.Module], str | None]  # looks at the averaged network: why to stop, or None

DECAY = 0.995  # of the average, reached after some steps
FORMAT = 1  # of what is kept: another makes all be learnt anew
LOOK_STEPS = 50  # after which the average is kept, if all is well
LONG = 30  # seconds of training that are told of in advance


def learnt(
    technique: str,
    content: Sequence[Any],
    build: Callable[[], nn.Module],
    learn: Callable[[nn.Module], tuple[nn.Module, Facts]],
    seed: int,
) -> tuple[nn.Module, Facts]:
    """A trained network on its device, in evaluation mode: trained by the main process where the cache has none.

    Args:
        technique: its name.
        content: all that the result depends on: tensors, and what `repr` tells.
        build: a network with random weights.
        learn: trains one -> what is kept of it, and what there is to tell of its training.
        seed: of the weights and the training; torch's generator goes on as before.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build().to(PartialState().device)
        name = f"{technique}-{digest([*content, network, seed, FORMAT])}.safetensors"
        file = cached_assets_path("hf_smalldata", "generators") / name
        with PartialState().main_process_first():
            if not file.exists():
                found, facts = learn(network)
                weights = {key: tensor.cpu().contiguous() for key, tensor in found.state_dict().items()}
                with whole(file) as partial:
                    save_file(weights, partial, metadata={"facts": json.dumps(facts)})
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
    network.load_state_dict(load_file(file))
    return network.eval(), facts


def digest(content: Sequence[Any]) -> str:
    """A name for tensors and what `repr` tells."""
    found = hashlib.sha256()
    for part in content:
        told = part.numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode()
        found.update(hashlib.sha256(told).digest())
    return found.hexdigest()[:24]


def train(
    technique: str, network: nn.Module, step: Callable[[int], Tensor], steps: int, watch: Watch | None = None
) -> tuple[nn.Module, Facts]:
    """Train, and keep the average of a network's weights.

    Where the loss is no number, or `watch` says why to stop, the last good average is what is kept.

    Args:
        technique: its name, for messages.
        network: whose weights `step` changes.
        step: one step of training, given its number -> its loss.
        steps: how many.
        watch: asked every `LOOK_STEPS`, given the averaged network in evaluation mode.

    Returns:
        the averaged network in evaluation mode, and facts for the Run.

    Raises:
        UserError: it went wrong before there was anything good.
    """
    average = copy.deepcopy(network).eval().requires_grad_(False)
    good: dict[str, Tensor] = {}
    good_step, stopped, begun, total = 0, None, time.perf_counter(), 0.0
    bar = tqdm(range(1, steps + 1), desc=f"{technique}: training", leave=False, delay=1, disable=None)
    for at in bar:
        loss = float(step(at))
        if not math.isfinite(loss):
            stopped = f"diverged at step {at} (the loss is {loss}): lower techniques.{technique}.learning_rate"
            break
        total += loss
        take_in(average.state_dict(), network.state_dict(), 1 - min(DECAY, (1 + at) / (10 + at)))
        if at % LOOK_STEPS == 0 or at == steps:
            reason = watch(average) if watch else None
            if not _finite(average):
                reason = f"diverged by step {at}: lower techniques.{technique}.learning_rate"
            if reason:
                stopped = reason
                break
            good, good_step = {name: tensor.clone() for name, tensor in average.state_dict().items()}, at
            bar.set_postfix(loss=f"{total / LOOK_STEPS:.3f}")
            total = 0.0
        if at == LOOK_STEPS and (left := (time.perf_counter() - begun) / at * (steps - at)) > LONG:
            logger.info("%s: training takes about %s more (%d of %d steps are done); what it learns is kept for runs "
                        "on the same rows", technique, duration(left), at, steps)  # fmt: skip
    if stopped:
        if not good:
            raise UserError(f"{technique}: training {stopped}")
        logger.warning("%s: training %s; what it had learnt by step %d is used", technique, stopped, good_step)
        average.load_state_dict(good)
    facts: Facts = {"steps": good_step, "train_seconds": round(time.perf_counter() - begun, 1)}
    return average, {**facts, "stopped": stopped} if stopped else facts


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Indices of `count` rows in batches without end: each row once before any comes again."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count)])
        yield left[:size]
        left = left[size:]


def _finite(network: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values() if tensor.is_floating_point())
