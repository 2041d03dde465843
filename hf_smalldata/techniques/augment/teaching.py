"""A masked language model learns, from few rows, how the words of a text go with the name of its class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import DataCollatorForLanguageModeling

from hf_smalldata.techniques.augment.filling import Filler, logits_at_gaps
from hf_smalldata.training.batching import to_device

BATCH_SIZE = 16
LEARNING_RATE = 5e-5  # as in the paper on conditional BERT
LARGEST_NORM = 1.0  # of the gradient


def teach(filler: Filler, texts: Sequence[str], fronts: Sequence[str], steps: int, seed: int) -> None:
    """Train the model of `filler` in place: 15 % of a text's tokens are to be filled in, with its front in sight.

    Args:
        filler: whose tokenizer cuts texts, never fronts.
        texts: to learn from.
        fronts: of each text, the name of its class.
        steps: of 16 texts.
        seed: of order, masks and dropout; torch's global generator goes on as if nothing had been drawn.
    """
    tokenizer, model = filler.tokenizer, filler.model
    encoded = tokenizer(list(fronts), list(texts), truncation="only_second")
    rows = [
        {"input_ids": ids, "special_tokens_mask": [int(sequence != 1) for sequence in encoded.sequence_ids(at)]}
        | {name: encoded[name][at] for name in encoded if name != "input_ids"}
        for at, ids in enumerate(encoded["input_ids"])
    ]
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    rng, device = np.random.default_rng([seed, 0]), next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        model.train()
        order: list[int] = []
        for _ in tqdm(range(steps), desc="teaching class names", leave=False, delay=1, disable=None):
            while len(order) < BATCH_SIZE:
                order += rng.permutation(len(rows)).tolist()
            chosen, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
            batch = to_device(dict(masking([rows[at] for at in chosen])), device)
            labels = batch.pop("labels")
            masks = labels >= 0
            if not masks.any():
                continue  # a few very short texts, none of whose tokens was drawn
            loss = cross_entropy(logits_at_gaps(model, batch, masks), labels[masks])
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
