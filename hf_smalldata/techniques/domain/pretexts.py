"""What continued pretraining hides of a row, and the network that fills it in: here words, by a masked language model.

Each is the head that transformers has for it; see `patches` for images and `frames` for sounds.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import has_head, load_config, masked_lm
from hf_smalldata.tasks.sequence import spelling
from hf_smalldata.tasks.task import Features
from hf_smalldata.tasks.text import pad_tokens
from hf_smalldata.technique import Context
from hf_smalldata.training.batching import to_device

Array = np.ndarray[Any, Any]
Whole = tuple[nn.Module, list[str]]  # a network with its head, and names of its weights that the checkpoint lacks

REPLACED, RANDOM = 0.8, 0.1  # of masked tokens; the rest stay as they are (section 3.1 of the BERT paper)
IGNORED = -100  # a label that counts nothing


class Pretext(Protocol):
    """Rows of which parts are hidden."""

    noun: str  # the rows: texts, images, sounds
    part: str  # what is hidden of them

    def __len__(self) -> int:
        """Rows."""

    def load(self) -> Whole:
        """The network as it was pretrained."""

    def digest(self) -> str:
        """A name for all rows."""

    def lengths(self) -> Array:
        """Cost of each row (N,)."""

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """That of some rows, parts of which are hidden anew."""


class Tokens(NamedTuple):
    """A text as a network reads it."""

    features: dict[str, list[int]]  # input_ids and what goes with them
    units: list[int]  # of each token: tokens of one unit are masked together; -1 is never masked


class Words:
    """Masked language modelling.

    Args:
        rows: texts, pairs, tagged words or sequences.
        ctx: of the run.
        share: of tokens (words, with `whole_words`) that are hidden.
        whole_words: hide all pieces of a word together.

    Raises:
        UserError: a network without a mask, with a template, or no word in any text.
    """

    noun, part = "texts", "words"

    def __init__(self, rows: Dataset, ctx: Context, share: float, whole_words: bool) -> None:
        if ctx.model.template is not None:
            raise UserError("continued_pretraining: not with model.template, which puts the mask in another place")
        if getattr(ctx.processor, "mask_token_id", None) is None:
            raise UserError(f"continued_pretraining: {ctx.model.name} knows no mask; its tokenizer names none")
        self.ctx, self.share = ctx, share
        self.texts = tokens_of(rows, ctx, whole_words)

    def __len__(self) -> int:
        return len(self.texts)

    def load(self) -> Whole:
        """A masked language model."""
        return masked_lm(self.ctx.model)

    def digest(self) -> str:
        """sha256 of all tokens and of what is masked together."""
        return hashlib.sha256(repr([(each.features, each.units) for each in self.texts]).encode()).hexdigest()

    def lengths(self) -> Array:
        """Tokens."""
        return np.array([len(each.units) for each in self.texts])

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """Cross-entropy of the words that were there."""
        made, labels, processor = [], [], self.ctx.processor
        for row in (self.texts[at] for at in indices):
            ids, wanted = masked(np.asarray(row.features["input_ids"]), np.asarray(row.units), self.share,
                                 processor.mask_token_id, processor.vocab_size, rng)  # fmt: skip
            made.append({**row.features, "input_ids": ids.tolist()})
            labels.append(torch.from_numpy(wanted))
        batch = to_device(pad_tokens(made, processor), device)
        wanted_ids = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED).to(device)
        loss: Tensor = model(**batch, labels=wanted_ids).loss
        return loss


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


def once(features: list[Features], main: str) -> list[Features]:
    """Rows in an order of their own, equal ones once."""
    found = {hashlib.sha256(each[main].tobytes()).hexdigest(): each for each in features}
    return [found[key] for key in sorted(found)]


def config_with(auto_class: str, ctx: Context, known: str, kinds: tuple[str, ...] = ()) -> Any:
    """The network's config, if transformers has a head for it that fills in."""
    config = load_config(ctx.task.model_class, ctx.model)
    if not has_head(config, auto_class) or (kinds and config.model_type not in kinds):
        raise UserError(f"continued_pretraining: {config.model_type or ctx.model.name} models have no head in "
                        f"transformers that fills in what is hidden; {known} have. Leave the technique out, or use "
                        "fixmatch, mean_teacher or label_propagation")  # fmt: skip
    return config
