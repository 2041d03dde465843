"""Continued pretraining: the network fills in hidden parts of the domain's own rows before it learns any label.

Helps when the domain's words are not those that the network was pretrained on (medicine, law, a firm's own tickets), or
its sequences, images or sounds are of another kind, and thousands of them lie there without labels. Costs minutes to
hours on a CPU, once for all seeds. Hurts sentence encoders, whose embeddings it undoes, unless labels follow that mend
them; does little for everyday texts and photos.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_smalldata.data.made import real
from hf_smalldata.errors import UserError
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.techniques.domain.frames import Frames
from hf_smalldata.techniques.domain.patches import Patches
from hf_smalldata.techniques.domain.pretexts import Pretext, Words
from hf_smalldata.techniques.synthesis.learning import learnt

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

WARM_UP = 0.06  # of the steps
HEAD_FIRST = 0.2  # of the steps, in which a new head learns alone: its first gradients would shake the body
LARGEST_NORM = 1.0  # of the gradient
SHARES = {"image": 0.6, "audio": 0.65}  # hidden of a row, as in the papers; of texts 0.15
MASKS = ("mask_token", "masked_spec_embed")  # what stands in place of what is hidden: no part of a classifier


class ContinuedPretraining(Technique):
    """Masked modelling of the unlabelled rows (or the training rows, or both), of which the body is kept.

    Words of texts and letters of sequences, patches of images (ViT, DeiT, Swin, FocalNet), spans of sounds (wav2vec
    2.0): see `pretexts`, `patches` and `frames`. Only the first `max_length` tokens of a text are read. Of overlapping
    words, as of DNA, as many neighbours are masked together as share a letter.
    """

    name = "continued_pretraining"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2004.10964"

    corpus: Literal["unlabelled", "training", "both"] = "unlabelled"  # without unlabelled rows it is the training rows
    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 5e-5
    batch_size: PositiveInt = 32
    share: float | None = Field(
        default=None, gt=0, lt=1
    )  # hidden; default: 0.15 of tokens, 0.6 of images, 0.65 of sounds
    whole_words: bool = False  # mask all pieces of a word together: harder, and often better

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with the body that filled in; the same for all seeds that have the same rows.

        With `data.unlabelled: rest`, `corpus: both` is the same for all of them.

        Raises:
            UserError: a network that was changed before, or one that cannot fill in.
        """
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"continued_pretraining: expected a network as it was loaded, got {type(model).__name__}; "
                            "list it before lora and the like")  # fmt: skip
        pretext = self._pretext(ctx)
        whole: dict[str, Any] = {}

        def body() -> nn.Module:
            whole["model"], whole["missing"] = pretext.load()
            found: nn.Module = whole["model"].base_model
            return found

        def learn(network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
            whole["model"].to(next(network.parameters()).device)
            return network, self._learn(whole["model"], pretext, whole["missing"], ctx.model.name)

        content = [ctx.model.model_dump_json(), self.model_dump_json(), pretext.digest()]
        made, facts = learnt(self.name, content, body, learn, seed=0)
        _, strange = model.base_model.load_state_dict(made.state_dict(), strict=False)  # it may lack a pooler
        if strange := [name for name in strange if not name.endswith(MASKS)]:
            raise UserError(f"continued_pretraining: the network of {ctx.model.name} that fills in is of another build "
                            f"than its classifier ({strange[0]})")  # fmt: skip
        new = "; its checkpoint had no head that fills them in, so it got a new one" if facts["new_head"] else ""
        said = (f"taught the network to fill in hidden {pretext.part} of {len(pretext)} {pretext.noun} without their "
                f"labels{new}")  # fmt: skip
        ctx.facts[self.name] = {**facts, "disclosed": said}
        return model

    def _pretext(self, ctx: Context) -> Pretext:
        kind, rows = ctx.task.kind, self._rows(ctx)
        share = self.share if self.share is not None else SHARES.get(kind, 0.15)
        if kind == "image":
            return Patches(rows, ctx, share)
        return Frames(rows, ctx, share) if kind == "audio" else Words(rows, ctx, share, self.whole_words)

    def _rows(self, ctx: Context) -> Dataset:
        train = real(ctx.train)
        parts = {"unlabelled": [ctx.unlabelled], "training": [train], "both": [ctx.unlabelled, train]}
        there = [rows for rows in parts[self.corpus] if rows is not None] or [train]
        known = ("id", "text", "text_pair", "sequence", "tokens", "image", "window", "audio")
        columns = [name for name in known if name in there[0].column_names]
        return concatenate_datasets([rows.select_columns(columns) for rows in there])

    def _learn(self, model: Any, rows: Pretext, missing: list[str], name: str) -> dict[str, Any]:
        """Train in place; what there is to tell."""
        if missing:
            logger.warning("continued_pretraining: %s has no head that fills in %s; it gets a new one, which learns "
                           "alone for the first fifth of the steps", name, rows.part)  # fmt: skip
        rng, device = np.random.default_rng([len(rows)]), next(model.parameters()).device
        body = [p for p in model.base_model.parameters() if p.requires_grad]
        inside = {id(p) for p in body}
        head = [p for p in model.parameters() if id(p) not in inside]
        steps = self.epochs * -(-len(rows) // self.batch_size)
        alone = round(HEAD_FIRST * steps) if missing else 0
        optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], self.learning_rate, weight_decay=0.01)
        schedule = LambdaLR(optimizer, lambda step: min((step + 1) / max(1, WARM_UP * steps), (steps - step) / steps))
        losses: list[float] = []
        model.train()
        bar = tqdm(total=steps, desc="continued pretraining", leave=False, delay=1, disable=None)
        for _ in range(self.epochs):
            for indices in batches(rows.lengths(), self.batch_size, rng):
                for parameter in body:
                    parameter.requires_grad_(len(losses) >= alone)
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
                    loss = rows.loss(model, indices, rng, device)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_([*body, *head], LARGEST_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.2f}")
        bar.close()
        if not np.isfinite(losses).all():
            raise UserError("continued_pretraining: diverged; lower its learning_rate")
        part = max(1, len(losses) // self.epochs)
        return {rows.noun: len(rows), "steps": steps, "new_head": bool(missing),
                "loss_first_epoch": round(float(np.mean(losses[:part])), 3),
                "loss_last_epoch": round(float(np.mean(losses[-part:])), 3)}  # fmt: skip


def batches(lengths: Array, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices of an epoch's batches, each of rows of like length, in any order."""
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    parts = [order[start : start + size].tolist() for start in range(0, len(order), size)]
    return [parts[at] for at in rng.permutation(len(parts))]
