"""Pattern: a masked language model fills in one word after a template, and the word says the class.

Helps with 4 to 64 rows a class and a checkpoint as it was pretrained (BERT, RoBERTa, DistilBERT): nothing starts from
random values, so that words which mean the classes are a good classifier before any training. The trained cloze is
folded into the stock classifier. Does little with hundreds of rows a class, and nothing for sentence encoders, which
have lost the head that fills in words.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import get_linear_schedule_with_warmup

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.cloze import MaskHead, fold_head
from hf_smalldata.nn.precision import bfloat16_pays
from hf_smalldata.tasks.pretrained import load_masked_lm
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.fewshot.rows import BATCH_SIZE, adamw, batches, inputs_of
from hf_smalldata.training.batching import EncodedRows, by_length

logger = logging.getLogger(__name__)

WARM_UP = 0.1  # of the steps
LARGEST_NORM = 1.0  # of the gradient
LIKELY = 100  # words of which the most telling one is looked for, as in LM-BFF
TOLERANCE = 1e-3  # of probabilities: what the stock classifier may differ from the cloze


class Pattern(Technique):
    """Cloze training with `model.template` and one word for each class, folded into the stock classifier."""

    name = "pattern"
    tasks = frozenset({"text-classification"})
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/2001.07676"

    verbaliser: dict[str, str] | None = None  # class: word. Default: class names, or words that the rows suggest
    epochs: NonNegativeInt = 20
    learning_rate: PositiveFloat = 3e-5
    batch_size: PositiveInt = 8

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network that answers with the words' logits; the words are written to the Run."""
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"pattern: rows need one class each, these are for {ctx.problem_type}; leave it out")
        if ctx.model.template is None:
            raise UserError("pattern: set model.template, such as 'It was {mask}. {text}'")
        masked_lm: Any = load_masked_lm(ctx.model)
        if isinstance(model, PeftModel) or len(blocks(model)) != len(blocks(masked_lm)):
            raise UserError("pattern: needs the network as it was pretrained; put it before adapters and pooling")
        device = next(model.parameters()).device
        whole = MaskHead.of(masked_lm).to(device)
        rows = EncodedRows(ctx.train, ctx.task, ctx.processor)
        tokens = self._tokens(model, whole, rows, ctx)
        words = dict(zip(ctx.labels, _words(ctx.processor, tokens), strict=True))
        logger.info("pattern: %s", ", ".join(f"{label} is '{word}'" for label, word in words.items()))
        head = whole.narrowed(tokens)
        self._learn_once(model, head, rows, ctx)
        ctx.facts["pattern"] = {"words": words, "fold_error": _folded(model, head, rows, ctx)}
        return model

    def _tokens(self, model: nn.Module, whole: MaskHead, rows: EncodedRows, ctx: Context) -> list[int]:
        """A token for each class."""
        given = self.verbaliser
        if given is not None and set(given) != set(ctx.labels):
            raise UserError(
                f"pattern.verbaliser: expected a word for each of {', '.join(ctx.labels)}; got {', '.join(given)}"
            )
        if given is None:
            found = [word_token(ctx.processor, label.lower()) if label.isalpha() else None for label in ctx.labels]
            if None in found or len(set(found)) < len(found):
                found = suggested(*_likelihoods(model, whole, rows, ctx), found, ctx.processor)
            return [token for token in found if token is not None]
        tokens: list[int] = []
        for label in ctx.labels:
            token = word_token(ctx.processor, given[label])
            if token is None or token in tokens:
                why = "is no single token of this model" if token is None else "stands for another class already"
                raise UserError(f"pattern.verbaliser: '{given[label]}' for {label} {why}; choose another word")
            tokens.append(token)
        return tokens

    def _learn_once(self, model: nn.Module, head: MaskHead, rows: EncodedRows, ctx: Context) -> None:
        """Train body and head; the same on every process."""
        if PartialState().num_processes == 1:
            self._learn(model, head, rows, ctx)
            return
        cloze = nn.ModuleDict({"body": _body(model), "head": head})

        def make(path: Any) -> None:
            self._learn(model, head, rows, ctx)
            save_model(cloze, str(path))

        load_model(cloze, str(ctx.once(f"pattern-{torch.initial_seed()}.safetensors", make)))

    def _learn(self, model: nn.Module, head: MaskHead, rows: EncodedRows, ctx: Context) -> None:
        device = next(model.parameters()).device
        labels = torch.as_tensor(rows.raw_labels, device=device)
        learnt = [each for each in (*_body(model).parameters(), *head.parameters()) if each.requires_grad]
        count = -(-len(rows) // self.batch_size)
        steps = self.epochs * count
        optimizer = adamw(learnt, self.learning_rate)
        schedule = get_linear_schedule_with_warmup(optimizer, round(WARM_UP * steps), steps)
        rng = np.random.default_rng([ctx.seed, 0])
        model.train()
        bar = tqdm(range(self.epochs), desc="pattern", leave=False, delay=1, disable=None)
        for _ in bar:
            for part in np.array_split(rng.permutation(len(rows)), count):
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
                    logits = head(_states(model, inputs_of(rows, part.tolist(), ctx, device)))
                loss = cross_entropy(logits.float(), labels[torch.from_numpy(part).to(device)])
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(learnt, LARGEST_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            bar.set_postfix(loss=f"{loss.detach():.3f}")
        model.eval()


def word_token(tokenizer: Any, word: str) -> int | None:
    """The token that is this word within a text, if one token is."""
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def suggested(
    own: Tensor, other: Tensor, given: Sequence[int | None], tokenizer: Any, likely: int = LIKELY
) -> list[int | None]:
    """Words for the classes that have none, or one that another class has: of the likely ones the most telling.

    Args:
        own: mean log-likelihood of each token at the mask in rows of a class (C, V).
        other: the same in rows of the other classes.
        given: a token for each class, or None.
        tokenizer: which says what a whole word is.
        likely: so many words, the likeliest in rows of a class, are compared.
    """
    tokens = [token if given.count(token) == 1 else None for token in given]
    for at, token in enumerate(tokens):
        if token is not None:
            continue
        words: list[int] = []
        for candidate in own[at].argsort(descending=True).tolist():
            word = tokenizer.decode([candidate]).strip()
            if candidate not in tokens and word.isalpha() and word_token(tokenizer, word) == candidate:
                words.append(candidate)
            if len(words) == likely:
                break
        if not words:
            raise UserError("pattern: the vocabulary of this model holds too few words; set pattern.verbaliser")
        tokens[at] = max(words, key=lambda word: float(own[at, word] - other[at, word]))
    return tokens


@torch.no_grad()
def _likelihoods(model: nn.Module, whole: MaskHead, rows: EncodedRows, ctx: Context) -> tuple[Tensor, Tensor]:
    """Mean log-likelihoods (C, V) in rows of each class, and in rows of the others."""
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(len(ctx.labels), whole.words.out_features, device=device)
    order = by_length(rows, BATCH_SIZE)
    labels = torch.as_tensor(rows.raw_labels, device=device)
    for indices, inputs in zip(order, batches(rows, order, ctx, device), strict=True):
        sums.index_add_(0, labels[indices], whole(_states(model, inputs)).log_softmax(-1))
    counts = labels.bincount(minlength=len(sums)).unsqueeze(1)  # (C, 1)
    own = sums / counts.clamp(min=1)
    return own.cpu(), ((sums.sum(0) - sums) / (len(labels) - counts).clamp(min=1)).cpu()


@torch.no_grad()
def _folded(model: nn.Module, head: MaskHead, rows: EncodedRows, ctx: Context) -> float:
    """Fold the cloze into the classifier; the largest difference of a training row's probabilities.

    Raises:
        UserError: it is above `TOLERANCE`.
    """
    model.eval()
    device = next(model.parameters()).device
    order = by_length(rows, BATCH_SIZE)
    expected = [head(_states(model, inputs)).softmax(-1) for inputs in batches(rows, order, ctx, device)]
    fold_head(model, head, lambda network: network(**inputs_of(rows, order[0], ctx, device)))
    found = [model(**inputs).logits.softmax(-1) for inputs in batches(rows, order, ctx, device)]
    error = max(float((one - two).abs().max()) for one, two in zip(found, expected, strict=True))
    if not error <= TOLERANCE:
        raise UserError(f"pattern: {type(model).__name__} cannot take the cloze in: scores differ by {error:.2g}")
    return error


def _states(model: nn.Module, inputs: Batch) -> Tensor:
    """States at the mask (B, d), which stands first."""
    states: Tensor = _body(model)(**inputs).last_hidden_state[:, 0]
    return states


def _body(model: nn.Module) -> Any:
    return model.base_model


def _words(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    return [tokenizer.decode([token]).strip() for token in tokens]
