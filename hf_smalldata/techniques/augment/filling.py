"""A masked language model that fills gaps in texts with whole words: many texts and gaps in one forward pass.

The head, which costs as much as half of a small network, reads the gaps alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import load_masked_lm
from hf_smalldata.tasks.task import Batch, ModelSpec
from hf_smalldata.tasks.text import load_tokenizer, pad_tokens

TOKENS_AT_ONCE = 8192  # of a forward pass, padding included: attention and states stay within some 100 MB
ANY_HEAD = "AutoModelForSequenceClassification"  # every masked language model's config has it too


class Gapped(NamedTuple):
    """A text some of whose words are to be filled in anew."""

    text: str
    gaps: Sequence[tuple[int, int]]  # places (start, end) of whole words, ascending
    rng: np.random.Generator  # draws the words
    front: str | None = None  # what is put before the text, such as the name of its class


@dataclass(frozen=True)
class Filler:
    """A masked language model with what it may fill in.

    Args:
        model: on its device.
        tokenizer: a fast one.
        words: for each token the word that it is, or None if it is none that may be filled in (V,).
    """

    model: nn.Module
    tokenizer: Any
    words: list[str | None]

    @classmethod
    def load(cls, spec: ModelSpec, never: re.Pattern[str]) -> Filler:
        """The masked language model of a checkpoint.

        Args:
            spec: of the checkpoint; its template is left out.
            never: matches words that are not filled in.

        Raises:
            UserError: not found, no masked-language-model head, or a tokenizer that cannot tell places in a text.
        """
        model, tokenizer = load_masked_lm(spec), load_tokenizer(ANY_HEAD, spec)
        if not tokenizer.is_fast or tokenizer.mask_token is None:
            raise UserError(f"model.name: {spec.name} has no fast tokenizer (tokenizer.json) with a mask token")
        return cls(model.to(PartialState().device), tokenizer, whole_words(tokenizer, never))

    def fill(self, texts: Sequence[Gapped], top_k: int, temperature: float) -> list[list[str | None]]:
        """Another word for each gap of each text; None where there is none, or the text was cut before.

        Args:
            texts: in any order; what a text gets hangs on no other.
            top_k: so many words, the likeliest but the one that stood there, are drawn from.
            temperature: of the draw: near 0 the likeliest word, large any of the `top_k` alike.
        """
        encoded = encode(self.tokenizer, texts)
        allowed = torch.tensor([word is not None for word in self.words], device=self._device)
        found: list[list[str | None]] = [[None] * len(each.gaps) for each in texts]
        with torch.inference_mode():
            for indices in length_batches([len(each.features["input_ids"]) for each in encoded], TOKENS_AT_ONCE):
                logits = logits_at_gaps(self.model.eval(), *batch_of(encoded, indices, self.tokenizer, self._device))
                count = min(top_k + 1, int(allowed.sum()))  # one of them may be the word that stood there
                best = logits.float().masked_fill(~allowed, -torch.inf).topk(count)
                choices = zip(best.values.cpu().numpy(), best.indices.cpu().numpy(), strict=True)
                for at in indices:
                    for gap, (values, tokens) in zip(encoded[at].filled, choices, strict=False):
                        start, end = texts[at].gaps[gap]
                        old, rng = texts[at].text[start:end], texts[at].rng
                        found[at][gap] = self._draw(values, tokens, old, rng, top_k, temperature)
        return found

    def _draw(
        self, logits: np.ndarray, tokens: np.ndarray, old: str, rng: np.random.Generator, top_k: int, temperature: float
    ) -> str | None:
        named = ((value, self.words[token] or old) for value, token in zip(logits.tolist(), tokens, strict=True))
        known = [(value, word) for value, word in named if word.lower() != old.lower()][:top_k]
        if not known:
            return None
        scores = np.array([value for value, _ in known]) / temperature
        weights = np.exp(scores - scores.max())
        _, drawn = known[int(rng.choice(len(known), p=weights / weights.sum()))]
        return drawn

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def whole_words(tokenizer: Any, never: re.Pattern[str]) -> list[str | None]:
    """For each token (V,) the word of letters that it is alone within a text, or None: none that `never` matches."""
    size = max(tokenizer.get_vocab().values()) + 1
    words = [word.strip() for word in tokenizer.batch_decode([[token] for token in range(size)])]
    alone = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    return [
        word if ids == [token] and word.isalpha() and not never.match(word) else None
        for token, (word, ids) in enumerate(zip(words, alone, strict=True))
    ]


class Encoded(NamedTuple):
    """A gapped text in tokens, one mask in place of each word that is filled in."""

    features: dict[str, list[int]]
    places: list[int]  # of the masks
    filled: list[int]  # which gaps these are: a gap that was cut off, or shares a token with its neighbour, is left


def encode(tokenizer: Any, texts: Sequence[Gapped]) -> list[Encoded]:
    """Each text and its front, as a pair, with masks. Texts are cut at the tokenizer's `model_max_length`."""
    fronts, bodies = [each.front for each in texts], [each.text for each in texts]
    if all(front is None for front in fronts):
        found = tokenizer(bodies, truncation=True, return_offsets_mapping=True)
    else:
        found = tokenizer(fronts, bodies, truncation="only_second", return_offsets_mapping=True)
    offsets = found.pop("offset_mapping")
    return [
        _masked({name: found[name][at] for name in found}, offsets[at], found.sequence_ids(at), text, tokenizer)
        for at, text in enumerate(texts)
    ]


def logits_at_gaps(model: nn.Module, batch: Batch, masks: Tensor) -> Tensor:
    """Logits (M, V) at the M places of `masks` (B, T), row by row: the body runs on all tokens, the head on these."""

    def pick(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[masks].unsqueeze(0)  # (B, T, d) -> (1, M, d)
        return output

    network: Any = model
    handle = network.base_model.register_forward_hook(pick)
    try:
        logits: Tensor = network(**batch).logits[0]
    finally:
        handle.remove()
    return logits


def batch_of(
    encoded: Sequence[Encoded], indices: Sequence[int], tokenizer: Any, device: torch.device
) -> tuple[Batch, Tensor]:
    """The model's inputs (B, T) for some texts, and where their masks are (B, T)."""
    inputs = pad_tokens([encoded[at].features for at in indices], tokenizer)
    masks = torch.zeros(inputs["input_ids"].shape, dtype=torch.bool)
    for row, at in enumerate(indices):
        masks[row, encoded[at].places] = True
    return {name: tensor.to(device) for name, tensor in inputs.items()}, masks.to(device)


def _masked(
    features: dict[str, list[int]],
    offsets: Sequence[tuple[int, int]],
    sequences: Sequence[int | None],
    text: Gapped,
    tokenizer: Any,
) -> Encoded:
    """The tokens of each gap -> one mask."""
    body = max((each for each in sequences if each is not None), default=0)
    inside = [at for at, sequence in enumerate(sequences) if sequence == body]
    starts, ends = (np.array([offsets[at][side] for at in inside]) for side in (0, 1))
    dropped: set[int] = set()
    heads, filled = [], []
    for gap, (start, end) in enumerate(text.gaps):
        first, stop = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end, "left"))
        if first >= stop or ends[stop - 1] != end or text.text[starts[first] : start].strip():
            continue  # cut off, or a token is shared with what stands beside
        heads.append(inside[first])
        dropped.update(inside[first + 1 : stop])
        filled.append(gap)
    stay = [at for at in range(len(sequences)) if at not in dropped]
    places = [at for at, old in enumerate(stay) if old in set(heads)]
    made = {name: [values[at] for at in stay] for name, values in features.items()}
    for place in places:
        made["input_ids"][place] = tokenizer.mask_token_id
    return Encoded(made, places, filled)


def length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first, of at most `tokens` with padding."""
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    start = 0
    while start < len(order):
        fit = max(tokens // max(lengths[order[start]], 1), 1)
        yield order[start : start + fit]
        start += fit
