"""A causal language model that writes lines: tuned on lines by LoRA, or shown some; drawn in batches, each alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import LogitsProcessor, get_linear_schedule_with_warmup

from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import load_whole
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.tasks.text import load_tokenizer
from hf_smalldata.whole import whole

logger = logging.getLogger(__name__)

MODEL = "HuggingFaceTB/SmolLM2-135M"  # English; a larger one writes better
CLASS = "AutoModelForCausalLM"
BATCH_SIZE = 8  # lines to learn from
AT_ONCE = 32  # lines to write
MOST_TOKENS = 1000  # of a nucleus
IGNORED = -100  # no loss here, as transformers has it


class Nucleus(LogitsProcessor):
    """Makes greedy search draw from the smallest set of tokens that have a probability of `top_p` together.

    Holtzman et al. 2020, https://arxiv.org/abs/1904.09751. A Gumbel number of the row's own generator is added to each
    logit: the largest is a draw from the softmax, and hangs on no other row of the batch.

    Args:
        rngs: of each row of the batch.
        top_p: 1 draws from all tokens, near 0 the likeliest.
        temperature: of the softmax.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], top_p: float, temperature: float) -> None:
        self.rngs, self.top_p, self.temperature = rngs, top_p, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) -> 0 for the drawn token, minus infinity for all others."""
        log_p = (scores.float() / self.temperature).log_softmax(-1)
        best = log_p.topk(min(MOST_TOKENS, log_p.shape[1]))  # descending
        before = best.values.exp().cumsum(-1) - best.values.exp()
        inside = best.values.masked_fill(before >= self.top_p, -torch.inf)
        noise = np.stack([rng.gumbel(size=inside.shape[1]) for rng in self.rngs])
        drawn = best.indices.gather(1, (inside + torch.from_numpy(noise).to(inside)).argmax(1, keepdim=True))
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


class Writer:
    """A causal language model on its device.

    Args:
        spec: of its checkpoint.

    Raises:
        UserError: not found, or no such model.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.name = spec.name
        self.tokenizer = load_tokenizer(CLASS, spec)
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"model.name: {spec.name} has no token that ends a text (eos_token); give another model")
        self.model: Any = load_whole(CLASS, spec).to(PartialState().device)
        size = max(self.tokenizer.get_vocab().values()) + 1
        written = self.tokenizer.batch_decode([[token] for token in range(size)])
        self.ends = {self.tokenizer.eos_token_id, *(at for at, text in enumerate(written) if "\n" in text)}

    def tune(
        self, lines: Sequence[tuple[str, str]], rank: int, epochs: int, learning_rate: float, folder: Path
    ) -> None:
        """Learn to write bodies behind their prompts; adapters are kept in a folder, and taken from there next time.

        The loss is that of the body and of the end of the line; what stands before is given.

        Raises:
            UserError: training diverged.
        """
        if folder.exists():
            self.model = PeftModel.from_pretrained(self.model, str(folder)).merge_and_unload()
            return
        with torch.random.fork_rng():
            torch.manual_seed(0)
            adapted = self._learnt([self._encoded(*line) for line in lines], rank, epochs, learning_rate)
        with whole(folder) as partial:
            adapted.save_pretrained(partial)
        self.model = adapted.merge_and_unload()

    def write(
        self, prompts: Sequence[str], names: Sequence[str], top_p: float, temperature: float, longest: int
    ) -> Iterator[list[str]]:
        """What is written after each prompt, up to the end of the line, in lists of `AT_ONCE`.

        Args:
            prompts: end where the model goes on; of one that is too long for the model the end is read.
            names: of the draws: equal names and prompts draw the same.
            top_p: of the nucleus.
            temperature: of the softmax.
            longest: tokens; a line that has not ended there is told as "".
        """
        self.model.eval()
        places = getattr(self.model.config, "max_position_embeddings", None)  # None: as many as it is given
        room = 0 if places is None else max(places - longest, 1)
        bar = tqdm(range(0, len(prompts), AT_ONCE), desc=f"{Path(self.name).name} writes", leave=False, delay=1,
                   disable=None)  # fmt: skip
        for start in bar:
            some = slice(start, start + AT_ONCE)
            draws = Nucleus([rng_of(0, name) for name in names[some]], top_p, temperature)
            inputs = self._padded([self.tokenizer(prompt)["input_ids"][-room:] for prompt in prompts[some]], left=True)
            with torch.inference_mode():
                tokens = self.model.generate(
                    **inputs, max_new_tokens=longest, do_sample=False, num_beams=1, logits_processor=[draws],
                    eos_token_id=[*self.ends], pad_token_id=self.tokenizer.pad_token_id,
                )  # fmt: skip
            yield [self._read(row) for row in tokens[:, inputs["input_ids"].shape[1] :].tolist()]

    def _read(self, tokens: list[int]) -> str:
        end = next((at for at, token in enumerate(tokens) if token in self.ends), None)
        return "" if end is None else self.tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()

    def _learnt(self, lines: Sequence[tuple[list[int], int]], rank: int, epochs: int, learning_rate: float) -> Any:
        config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.05,
                            target_modules="all-linear")  # fmt: skip
        model: Any = get_peft_model(self.model, config).train()
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        steps = epochs * math.ceil(len(lines) / BATCH_SIZE)
        optimiser = torch.optim.AdamW(learning, learning_rate, weight_decay=0.0)
        schedule = get_linear_schedule_with_warmup(optimiser, steps // 10, steps)
        orders = [torch.randperm(len(lines)).tolist() for _ in range(epochs)]
        batches = [order[at : at + BATCH_SIZE] for order in orders for at in range(0, len(lines), BATCH_SIZE)]
        bar = tqdm(batches, desc=f"{Path(self.name).name} learns", leave=False, delay=1, disable=None)
        for step, batch in enumerate(bar, start=1):
            loss = self._loss(model, [lines[at] for at in batch])
            if not torch.isfinite(loss):
                raise UserError(f"language_model: the loss was no number at step {step} of {steps}; lower "
                                f"techniques.language_model.learning_rate ({learning_rate:g})")  # fmt: skip
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            bar.set_postfix(loss=f"{loss.item():.2f}")
        return model

    def _loss(self, model: Any, lines: Sequence[tuple[list[int], int]]) -> Tensor:
        inputs = self._padded([tokens for tokens, _ in lines])
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
        for row, (_, given) in enumerate(lines):
            labels[row, :given] = IGNORED
        loss: Tensor = model(**inputs, labels=labels).loss
        return loss

    def _encoded(self, prompt: str, body: str) -> tuple[list[int], int]:
        """Token ids of a line, and how many of the first are given."""
        given = self.tokenizer(prompt)["input_ids"]
        body_ids = self.tokenizer(f" {body}", add_special_tokens=False, truncation=True)["input_ids"]
        return [*given, *body_ids, self.tokenizer.eos_token_id], len(given)

    def _padded(self, rows: Sequence[Sequence[int]], left: bool = False) -> dict[str, Tensor]:
        """input_ids and attention_mask (B, T); `left` puts the ends of rows beside each other, to go on from there."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            place = slice(longest - len(row), longest) if left else slice(len(row))
            ids[at, place], mask[at, place] = torch.tensor(row), 1
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}
