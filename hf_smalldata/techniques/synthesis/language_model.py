"""Language model: a causal model that writes new training texts for each class, of which a keeper takes the good ones.

Helps with some 8 to 50 texts a class and a model that speaks their language well: it brings wording and topics that no
row has. Does little beside a sentence encoder that knows those words already, and hurts where a small model writes what
it likes: look at its rows (`hf-smalldata synthesize`), and let a study decide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from datasets import Dataset
from huggingface_hub import cached_assets_path
from pydantic import Field, PositiveFloat, PositiveInt

from hf_smalldata.data.made import real, rng_of
from hf_smalldata.destination import public_name
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import told_of
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.remembered import remembered, state_of
from hf_smalldata.techniques.synthesis.keep import Keep, groups_of, kept
from hf_smalldata.techniques.synthesis.writer import MODEL, Writer
from hf_smalldata.techniques.synthesis.written import Forms, Line


class LanguageModel(Technique):
    """New rows by a causal language model: tuned by LoRA on lines `class: text`, or shown some of them.

    The paper's way, with adapters in place of full tuning and copies dropped as well. Tagged rows are written with
    their entities marked, [New York](place), behind the types that they hold (compare
    https://arxiv.org/abs/2011.01549). What was learnt and written is kept in the Hub's cache of assets
    (HF_ASSETS_CACHE), by rows, model and settings: seeds that draw the same rows share one tuned model, and another
    ratio asks only for what is missing.
    """

    name = "language_model"
    tasks = frozenset({"text-classification", "token-classification"})
    paper = "https://arxiv.org/abs/1911.03118"
    paths = ("checkpoint",)

    checkpoint: str | None = None  # a causal language model: a Hub id or a folder. Default: a small English one
    revision: str | None = None
    tune: bool = True  # on the training rows; else it is shown some of a class each time
    epochs: PositiveInt = 5  # of tuning
    learning_rate: PositiveFloat = 5e-4
    rank: PositiveInt = 8  # of the adapters
    shots: PositiveInt = 5  # rows of the class that are shown; without tuning
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95  # tokens are drawn among the likeliest of so much probability
    temperature: PositiveFloat = 1.0
    max_tokens: PositiveInt = 64  # of a text; longer ones are left out
    write: Annotated[float, Field(ge=1)] = 4.0  # texts for each row that is wanted
    names: dict[str, str] = {}  # class (or type of entity): what it is called before texts. Default: its label
    keep: Keep = Keep()

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them those written and kept.

        Raises:
            UserError: no such model, pairs of texts, or nothing worth keeping.
        """
        originals = real(train)
        forms = Forms.of(originals, ctx, self.names, self.name)
        key = hashlib.sha256(f"{self!r} {ctx.labels!r} {ctx.seed} {originals[:]!r}".encode()).hexdigest()[:16]

        def make(path: Path) -> None:
            with torch.random.fork_rng():  # loading a model draws from it, and the other processes load none
                path.write_text(json.dumps(self._written(originals, forms, ctx)), encoding="utf-8")

        lines = [Line(*each) for each in json.loads(ctx.once(f"{self.name}-{key}.json", make).read_text("utf-8"))]
        found = [forms.row(line) for line in lines]
        who = public_name(self.checkpoint or MODEL)
        made = [{**row, "prompt": line.front, "checkpoint": who} for row, line in zip(found, lines, strict=True)
                if row is not None]  # fmt: skip
        ctx.facts[self.name] = {"generator": who, "written": len(lines), "malformed": len(lines) - len(made)}
        return kept(train, made, ctx, self.keep, self.name)

    def _written(self, originals: Dataset, forms: Forms, ctx: Context) -> list[Line]:
        """Lines of all classes, turn by turn; by one process."""
        told = [(line, group) for line, group in zip(map(forms.line, originals), groups_of(originals, ctx).tolist(),
                                                     strict=True) if line is not None]  # fmt: skip
        if not told:
            raise UserError("language_model: no row can be shown to the model: all are empty, or hold [brackets]")
        wanted = self.keep.wanted(originals, ctx)
        lines = [line for line, _ in told]
        order = rng_of(ctx.seed, self.name).permutation(len(lines)).tolist()
        asked: list[tuple[int, Line]] = []  # number of the draw, and after which front
        for group, count in enumerate(wanted):
            own = [lines[at] for at in order if told[at][1] == group]
            asked += [(number, own[number % len(own)]) for number in range(round(self.write * count)) if own]
        asked.sort(key=lambda each: each[0])
        spec = ModelSpec(name=self.checkpoint or MODEL, revision=self.revision)
        with told_of({"model.name:": "techniques.language_model.checkpoint:"}):
            source = json.dumps([spec.model_dump(), state_of(spec), [line[:2] for line in lines]])
            key = source + json.dumps(self.model_dump(exclude={"keep", "write", "names"}))
            place = cached_assets_path("hf_smalldata", "written") / "lines.sqlite"
            requests = [f"{ctx.seed}\n{number}\n{line.front}" for number, line in asked]
            found = remembered(place, key, requests, lambda some: self._bodies(spec, source, lines, some))
        return [line._replace(body=found[request][0]) for request, (_, line) in zip(requests, asked, strict=True)]

    def _bodies(
        self, spec: ModelSpec, source: str, lines: Sequence[Line], requests: Sequence[str]
    ) -> Iterator[list[list[str]]]:
        """What is written for each request; the model is loaded, and tuned, if there is any."""
        writer = Writer(spec)
        fronts = [request.split("\n", 2)[2] for request in requests]
        if self.tune:
            learning = self.rank, self.epochs, self.learning_rate
            name = hashlib.sha256(f"{source} {learning}".encode()).hexdigest()[:32]
            folder = cached_assets_path("hf_smalldata", "writers") / name
            writer.tune([(f"{line.front}:", line.body) for line in lines], *learning, folder)
            prompts = [f"{front}:" for front in fronts]
        else:
            prompts = [self._shown(lines, front, request) for front, request in zip(fronts, requests, strict=True)]
        for part in writer.write(prompts, requests, self.top_p, self.temperature, self.max_tokens):
            yield [[body] for body in part]

    def _shown(self, lines: Sequence[Line], front: str, request: str) -> str:
        """Some lines with this front, drawn anew for each request, and the front once more."""
        own = [line for line in lines if line.front == front]
        chosen: Any = rng_of(1, request).permutation(len(own))[: self.shots]
        return "".join(f"{front}: {own[at].body}\n" for at in chosen.tolist()) + f"{front}:"
