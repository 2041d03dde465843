"""What continued pretraining hides of a row, and the network that fills it in: words, patches, spans of sound.

Each is the head that transformers has for it: masked language models; SimMIM's (https://arxiv.org/abs/2111.09886) for
images; wav2vec 2.0's (https://arxiv.org/abs/2006.11477) for sounds.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.image_size import resize_model
from hf_smalldata.tasks.pretrained import has_head, load_config, masked_lm, pretraining_model
from hf_smalldata.tasks.sequence import spelling
from hf_smalldata.tasks.task import Features
from hf_smalldata.tasks.text import pad_tokens
from hf_smalldata.technique import Context
from hf_smalldata.techniques.augment.seeded import seeded
from hf_smalldata.training.batching import to_device

Array = np.ndarray[Any, Any]
Whole = tuple[
    nn.Module, list[str]
]  # a network with its head, and names of the head's weights that its checkpoint lacks

REPLACED, RANDOM = 0.8, 0.1  # of masked tokens; the rest stay as they are (section 3.1 of the BERT paper)
IGNORED = -100  # a label that counts nothing
CELL = 32  # pixels a side of what is hidden of an image, as in SimMIM
SPAN = 10  # frames of sound that are hidden together, as in wav2vec 2.0


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


class Patches:
    """Masked image modelling: the mean absolute difference of hidden pixels.

    Args:
        rows: images.
        ctx: of the run.
        share: of an image that is hidden.

    Raises:
        UserError: transformers has no such head for the network.
    """

    noun, part = "images", "patches"

    def __init__(self, rows: Dataset, ctx: Context, share: float) -> None:
        self.ctx, self.share = ctx, share
        self.config = _config("AutoModelForMaskedImageModeling", ctx, "ViT, DeiT, Swin and FocalNet")
        self.config.encoder_stride = getattr(self.config, "encoder_stride", 0)
        if self.config.model_type in ("vit", "deit"):
            self.config.encoder_stride = self.config.patch_size  # or the pixels that it draws are not those it saw
        self.features = _once(ctx.task.encode(rows, ctx.processor), "pixel_values")

    def __len__(self) -> int:
        return len(self.features)

    def load(self) -> Whole:
        """A network that draws pixels, for images of the recipe's size."""
        model, missing = pretraining_model("AutoModelForMaskedImageModeling", self.ctx.model, self.config)
        size = self.ctx.model.image_size
        return (model if size is None else resize_model(model, size, self.ctx.model.name)), missing

    def digest(self) -> str:
        """sha256 of all pixels."""
        return hashlib.sha256(b"".join(each["pixel_values"].tobytes() for each in self.features)).hexdigest()

    def lengths(self) -> Array:
        """All alike."""
        return np.ones(len(self.features))

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """That of the hidden pixels."""
        batch = self.ctx.task.collate([self.features[at] for at in indices], self.ctx.processor)
        side = model.config.image_size if isinstance(model.config.image_size, int) else model.config.image_size[0]
        hidden = np.stack([cells(side, model.config.patch_size, self.share, rng) for _ in indices])
        loss: Tensor = model(**to_device(batch, device), bool_masked_pos=torch.from_numpy(hidden).to(device)).loss
        return loss


class Frames:
    """wav2vec 2.0: of the hidden frames, each is told from others of the same clip.

    Args:
        rows: sounds.
        ctx: of the run.
        share: of a clip that spans cover, overlaps counted twice.

    Raises:
        UserError: transformers has no such head for the network.
    """

    noun, part = "sounds", "spans"

    def __init__(self, rows: Dataset, ctx: Context, share: float) -> None:
        self.ctx, self.share = ctx, share
        self.config = _config("AutoModelForPreTraining", ctx, "wav2vec 2.0", ("wav2vec2", "wav2vec2-conformer"))
        self.main = ctx.processor.model_input_names[0]
        self.features = _once(ctx.task.encode(rows, ctx.processor), self.main)

    def __len__(self) -> int:
        return len(self.features)

    def load(self) -> Whole:
        """A network with the quantiser that it was pretrained with."""
        return pretraining_model("AutoModelForPreTraining", self.ctx.model, self.config)

    def digest(self) -> str:
        """sha256 of all samples."""
        return hashlib.sha256(b"".join(each[self.main].tobytes() for each in self.features)).hexdigest()

    def lengths(self) -> Array:
        """Samples."""
        return np.array([len(each[self.main]) for each in self.features])

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """Contrastive loss and the codebook's diversity (eq. 2) a hidden frame."""
        batch = to_device(self.ctx.task.collate([self.features[at] for at in indices], self.ctx.processor), device)
        count = int(model._get_feat_extract_output_lengths(batch[self.main].shape[1]))
        shape = (len(indices), count)
        heard = batch.get("attention_mask")
        if heard is not None:
            heard = model._get_feature_vector_attention_mask(count, heard, add_adapter=False)
        with seeded(rng):
            hidden = _compute_mask_indices(shape, self.share, min(SPAN, max(count // 2, 1)), heard, min_masks=2)
            others = _sample_negative_indices(shape, model.config.num_negatives, hidden)
        spans = torch.from_numpy(hidden).to(device)
        loss: Tensor = model(**batch, mask_time_indices=spans, sampled_negative_indices=torch.from_numpy(others).to(
            device)).loss / spans.sum()  # fmt: skip
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


def cells(side: int, patch: int, share: float, rng: np.random.Generator) -> Array:
    """Which patches of an image are hidden ((side / patch)²,), whole cells at a time.

    Args:
        side: pixels of the image.
        patch: pixels of a patch.
        share: of the cells, at least one of them.
        rng: of the draw.
    """
    fits = CELL % patch == 0 and side % CELL == 0 and side // CELL >= 4
    cell = CELL if fits else patch
    count = side // cell
    hidden = np.zeros(count * count, dtype=bool)
    hidden[rng.permutation(count * count)[: max(1, round(share * count * count))]] = True
    return hidden.reshape(count, count).repeat(cell // patch, 0).repeat(cell // patch, 1).ravel()


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


def _once(features: list[Features], main: str) -> list[Features]:
    """Rows in an order of their own, equal ones once."""
    found = {hashlib.sha256(each[main].tobytes()).hexdigest(): each for each in features}
    return [found[key] for key in sorted(found)]


def _config(auto_class: str, ctx: Context, known: str, kinds: tuple[str, ...] = ()) -> Any:
    """The network's config, if transformers has a head for it that fills in."""
    config = load_config(ctx.task.model_class, ctx.model)
    if not has_head(config, auto_class) or (kinds and config.model_type not in kinds):
        raise UserError(f"continued_pretraining: {config.model_type or ctx.model.name} models have no head in "
                        f"transformers that fills in what is hidden; {known} have. Leave the technique out, or use "
                        "fixmatch, mean_teacher or label_propagation")  # fmt: skip
    return config
