"""Continued pretraining: the network fills masked words of the domain's own texts before it learns any label.

Helps when the domain's words are not those that the network was pretrained on (medicine, law, a firm's own tickets),
or its sequences are of another kind, and thousands of texts lie there without labels. Costs minutes to hours on a CPU,
once for all seeds. Hurts sentence encoders, whose embeddings it undoes, unless labels follow that mend them; does
little for everyday texts.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_smalldata.data.made import real
from hf_smalldata.errors import UserError
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.tasks.pretrained import masked_lm
from hf_smalldata.tasks.sequence import spelling
from hf_smalldata.tasks.text import pad_tokens
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.synthesis.learning import learnt
from hf_smalldata.training.batching import to_device

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

REPLACED, RANDOM = 0.8, 0.1  # of masked tokens; the rest stay as they are (section 3.1 of the BERT paper)
WARM_UP = 0.06  # of the steps
HEAD_FIRST = 0.2  # of the steps, in which a new head learns alone: its first gradients would shake the body
LARGEST_NORM = 1.0  # of the gradient
IGNORED = -100  # a label that counts nothing


class Tokens(NamedTuple):
    """A text as a network reads it."""

    features: dict[str, list[int]]  # input_ids and what goes with them
    units: list[int]  # of each token: tokens of one unit are masked together; -1 is never masked


def masked(
    ids: Array, units: Array, share: float, mask: int, vocabulary: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Token ids (T,) some of whose units are masked, and labels (T,): the ids there, IGNORED elsewhere.

    Args:
        ids: of a text.
        units: of each token; -1 is never masked.
        share: of the units that are masked, at least one of them.
        mask: the id of the mask.
        vocabulary: ids below this may stand in place of a token.
        rng: of the draw.
    """
    known = np.unique(units[units >= 0])
    drawn = rng.permutation(known)[: max(1, round(share * len(known)))]
    hidden = np.isin(units, drawn)
    fate = rng.random(len(ids))
    made = np.where(hidden & (fate < REPLACED), mask, ids)
    strange = hidden & (fate >= REPLACED) & (fate < REPLACED + RANDOM)
    made = np.where(strange, rng.integers(0, vocabulary, len(ids)), made)
    return made, np.where(hidden, ids, IGNORED)


class ContinuedPretraining(Technique):
    """Masked language modelling on the unlabelled rows (or the training rows, or both), of which the body is kept.

    Only the first `max_length` tokens of a text are read. Of overlapping words, as of DNA, as many neighbours are
    masked together as share a letter. Not for images and sounds, whose checkpoints seldom have a head that fills in.
    """

    name = "continued_pretraining"
    tasks = frozenset({"text-classification", "sequence-classification", "token-classification"})
    paper = "https://arxiv.org/abs/2004.10964"

    corpus: Literal["unlabelled", "training", "both"] = "unlabelled"  # without unlabelled rows it is the training rows
    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 5e-5
    batch_size: PositiveInt = 32
    share: float = Field(default=0.15, gt=0, lt=1)  # of tokens (words, with `whole_words`) that are masked
    whole_words: bool = False  # mask all pieces of a word together: harder, and often better

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with the body that filled words in; the same for all seeds that have the same texts.

        With `data.unlabelled: rest`, `corpus: both` is the same for all of them.

        Raises:
            UserError: a network that was changed before, one without a mask, or with a template.
        """
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"continued_pretraining: expected a network as it was loaded, got {type(model).__name__}; "
                            "list it before lora and the like")  # fmt: skip
        if ctx.model.template is not None:
            raise UserError("continued_pretraining: not with model.template, which puts the mask in another place")
        if getattr(ctx.processor, "mask_token_id", None) is None:
            raise UserError(f"continued_pretraining: {ctx.model.name} knows no mask; its tokenizer names none")
        texts = tokens_of(self._texts(ctx), ctx, self.whole_words)
        whole: dict[str, Any] = {}

        def body() -> nn.Module:
            whole["model"], whole["missing"] = masked_lm(ctx.model)
            found: nn.Module = whole["model"].base_model
            return found

        def learn(network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
            whole["model"].to(next(network.parameters()).device)
            return network, self._learn(whole["model"], texts, ctx, whole["missing"])

        content = [ctx.model.model_dump_json(), self.model_dump_json(), digest_of(texts)]
        made, facts = learnt(self.name, content, body, learn, seed=0)
        _, strange = model.base_model.load_state_dict(made.state_dict(), strict=False)  # it may lack a pooler
        if strange:
            raise UserError(f"continued_pretraining: the masked language model of {ctx.model.name} is of another build "
                            f"than its classifier ({strange[0]})")  # fmt: skip
        new = "; its checkpoint had no head that fills words in, so it got a new one" if facts["new_head"] else ""
        said = f"taught the network the words of {facts['texts']} texts without their labels{new}"
        ctx.facts[self.name] = {**facts, "disclosed": said}
        return model

    def _texts(self, ctx: Context) -> Dataset:
        train = real(ctx.train)
        parts = {"unlabelled": [ctx.unlabelled], "training": [train], "both": [ctx.unlabelled, train]}
        there = [rows for rows in parts[self.corpus] if rows is not None] or [train]
        columns = [name for name in ("id", "text", "text_pair", "sequence", "tokens") if name in there[0].column_names]
        return concatenate_datasets([rows.select_columns(columns) for rows in there])

    def _learn(self, model: Any, texts: list[Tokens], ctx: Context, missing: list[str]) -> dict[str, Any]:
        """Train in place; what there is to tell."""
        if missing:
            logger.warning("continued_pretraining: %s has no head that fills in words; it gets a new one, which learns "
                           "alone for the first fifth of the steps", ctx.model.name)  # fmt: skip
        rng, device = np.random.default_rng([ctx.processor.vocab_size, len(texts)]), next(model.parameters()).device
        body = [p for p in model.base_model.parameters() if p.requires_grad]
        inside = {id(p) for p in body}
        head = [p for p in model.parameters() if id(p) not in inside]
        steps = self.epochs * -(-len(texts) // self.batch_size)
        alone = round(HEAD_FIRST * steps) if missing else 0
        optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], self.learning_rate, weight_decay=0.01)
        schedule = LambdaLR(optimizer, lambda step: min((step + 1) / max(1, WARM_UP * steps), (steps - step) / steps))
        losses: list[float] = []
        model.train()
        bar = tqdm(total=steps, desc="continued pretraining", leave=False, delay=1, disable=None)
        for _ in range(self.epochs):
            for indices in batches(texts, self.batch_size, rng):
                for parameter in body:
                    parameter.requires_grad_(len(losses) >= alone)
                batch, labels = self._batch([texts[at] for at in indices], ctx, rng, device)
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
                    loss: Tensor = model(**batch, labels=labels).loss
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
        return {"texts": len(texts), "steps": steps, "new_head": bool(missing),
                "loss_first_epoch": round(float(np.mean(losses[:part])), 3),
                "loss_last_epoch": round(float(np.mean(losses[-part:])), 3)}  # fmt: skip

    def _batch(
        self, rows: list[Tokens], ctx: Context, rng: np.random.Generator, device: torch.device
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The network's inputs (B, T), with masks, and labels (B, T)."""
        made, labels = [], []
        for row in rows:
            ids, wanted = masked(np.asarray(row.features["input_ids"]), np.asarray(row.units), self.share,
                                 ctx.processor.mask_token_id, ctx.processor.vocab_size, rng)  # fmt: skip
            made.append({**row.features, "input_ids": ids.tolist()})
            labels.append(torch.from_numpy(wanted))
        batch = to_device(pad_tokens(made, ctx.processor), device)
        return batch, nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED).to(device)


def tokens_of(rows: Dataset, ctx: Context, whole_words: bool) -> list[Tokens]:
    """Rows as tokens, in an order of their own, equal ones once; those without a word are left out."""
    task, processor = ctx.task, ctx.processor
    if task.kind == "tokens":
        given: dict[str, Any] = {"text": rows["text"][:]}
    else:
        said = task.pipeline_inputs(rows, processor)
        given = {"text": [each["text"] if isinstance(each, dict) else each for each in said]}
        if said and isinstance(said[0], dict):
            given["text_pair"] = [each["text_pair"] for each in said]
    encoded = processor(**given, truncation=True, return_special_tokens_mask=True)
    special = encoded.pop("special_tokens_mask")
    overlap = max(1, spelling(processor).k) if task.kind == "sequence" else 1
    found: dict[str, Tokens] = {}
    for at, marks in enumerate(special):
        features = {name: list(values[at]) for name, values in encoded.items()}
        words = encoded.word_ids(at) if whole_words and encoded.is_fast else list(range(len(marks)))
        second = encoded.sequence_ids(at) if whole_words and encoded.is_fast else [0] * len(marks)
        units = [-1 if mark or word is None else (word // overlap) * 2 + (side or 0)
                 for mark, word, side in zip(marks, words, second, strict=True)]  # fmt: skip
        if any(unit >= 0 for unit in units):
            found[repr(features["input_ids"])] = Tokens(features, units)
    if not found:
        raise UserError("continued_pretraining: no text has a word that the tokenizer knows")
    return [found[key] for key in sorted(found)]


def digest_of(texts: list[Tokens]) -> str:
    """sha256 of all tokens and of what is masked together."""
    return hashlib.sha256(repr([(each.features, each.units) for each in texts]).encode()).hexdigest()


def batches(texts: list[Tokens], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices of an epoch's batches, each of texts of like length, in any order."""
    lengths = np.array([len(each.units) for each in texts]) * rng.uniform(0.9, 1.1, len(texts))
    order = np.argsort(lengths, kind="stable")
    parts = [order[start : start + size].tolist() for start in range(0, len(order), size)]
    return [parts[at] for at in rng.permutation(len(parts))]
