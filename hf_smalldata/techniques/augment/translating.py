"""Translation by a sequence-to-sequence model: many texts in a pass, the best by beam, or drawn for each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from transformers import LogitsProcessor

from hf_smalldata.errors import require
from hf_smalldata.tasks.pretrained import load_config, load_whole
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.tasks.text import load_tokenizer, pad_tokens
from hf_smalldata.techniques.augment.filling import length_batches

CLASS = "AutoModelForSeq2SeqLM"
TOKENS_AT_ONCE = 4096  # of the source, times beams
LONGEST_RATIO = 2  # tokens of a translation for each of the source, besides 16


class Drawn(LogitsProcessor):
    """Makes greedy search draw: the likeliest token after Gumbel noise is a draw from the softmax.

    So what is drawn for a row hangs on its own generator alone, not on the rows beside it in the batch, as it would
    with torch's.

    Args:
        rngs: of each row of the batch.
        top_k: so many tokens are drawn from.
        temperature: of the softmax.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], top_k: int, temperature: float) -> None:
        self.rngs, self.top_k, self.temperature = rngs, top_k, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) -> 0 for the drawn token, minus infinity for all others."""
        best = scores.topk(min(self.top_k, scores.shape[1]))
        noise = np.stack([rng.gumbel(size=best.values.shape[1]) for rng in self.rngs])
        noisy = best.values / self.temperature + torch.from_numpy(noise).to(scores)
        drawn = best.indices.gather(1, noisy.argmax(1, keepdim=True))
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


class Translator:
    """A model of one direction, on its device.

    Args:
        spec: of its checkpoint.

    Raises:
        UserError: not found, no such model, no tokenizer, or the library of it is not installed.
    """

    def __init__(self, spec: ModelSpec) -> None:
        if load_config(CLASS, spec).model_type == "marian":
            require("sentencepiece", extra="text")  # which its tokenizer reads
        self.tokenizer = load_tokenizer(CLASS, spec)
        self.model: Any = load_whole(CLASS, spec).to(PartialState().device).eval()

    def best(self, texts: Sequence[str], beams: int, count: int = 1) -> list[list[str]]:
        """The `count` likeliest translations of each text, by a search that keeps `beams` of them at a time."""
        found: list[list[str]] = [[] for _ in texts]
        for indices, inputs in self._batches(texts, TOKENS_AT_ONCE // beams):
            said = self._say(inputs, num_beams=beams, num_return_sequences=count)
            for at, start in zip(indices, range(0, len(said), count), strict=True):
                found[at] = said[start : start + count]
        return found

    def drawn(
        self, texts: Sequence[str], rngs: Sequence[np.random.Generator], top_k: int, temperature: float
    ) -> list[str]:
        """A translation of each text, drawn token by token."""
        found = [""] * len(texts)
        for indices, inputs in self._batches(texts, TOKENS_AT_ONCE):
            draws = Drawn([rngs[at] for at in indices], top_k, temperature)
            for at, text in zip(indices, self._say(inputs, num_beams=1, logits_processor=[draws]), strict=True):
                found[at] = text
        return found

    def _batches(self, texts: Sequence[str], tokens: int) -> Any:
        encoded = self.tokenizer(list(texts), truncation=True)
        rows = [{name: encoded[name][at] for name in ("input_ids", "attention_mask")} for at in range(len(texts))]
        for indices in length_batches([len(row["input_ids"]) for row in rows], tokens):
            yield indices, pad_tokens([rows[at] for at in indices], self.tokenizer)

    @torch.inference_mode()
    def _say(self, inputs: dict[str, Tensor], **settings: Any) -> list[str]:
        room = self.tokenizer.model_max_length - 1
        longest = min(LONGEST_RATIO * inputs["input_ids"].shape[1] + 16, room)
        given = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        tokens = self.model.generate(**given, max_new_tokens=longest, do_sample=False, **settings)
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
