"""Text VAE: points between texts, drawn in the encoder's space, and a language model that writes what lies near them.

Helps with 8 to 50 short texts a class and a language model that goes on well from examples: each new text is asked for
at another place between the rows, so that they differ as rows do. Does little beside a sentence encoder that was
trained on such texts: with a small language model, reviews and questions were learnt no better than without.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
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
from hf_smalldata.techniques.fewshot.rows import pretrained_features
from hf_smalldata.techniques.synthesis.feature_vae import CODE, Space
from hf_smalldata.techniques.synthesis.generator import normal
from hf_smalldata.techniques.synthesis.keep import SAME, Keep, check_rows_a_class, directions, kept
from hf_smalldata.techniques.synthesis.writer import MODEL, Writer
from hf_smalldata.techniques.synthesis.written import Forms, Line

Array = np.ndarray[Any, Any]


class Point(NamedTuple):
    """A place in the space of features, of which a text is wanted."""

    number: int  # among those of its class
    label: int
    at: Array  # (K,)
    shown: list[int]  # the class's rows that lie nearest, the nearest last


class Written(NamedTuple):
    """A text that was written for a point."""

    of: int  # the point
    text: str


class TextVae(Technique):
    """A conditional VAE of the pretrained model's features draws points of each class; a text is written for each.

    Sentences from a continuous space, as in the paper, with two pretrained networks in place of the recurrent ones:
    texts become points by the model that is trained (see `feature_vae`), and points texts by a causal language model
    that is not trained. It is shown the rows of the class that lie nearest (Liu et al. 2022,
    https://arxiv.org/abs/2101.06804) and goes on; of several texts the one that lies nearest to the point, and is no
    copy, is taken. What was written is kept in the Hub's cache of assets (HF_ASSETS_CACHE).
    """

    name = "text_vae"
    tasks = frozenset({"text-classification"})
    paper = "https://arxiv.org/abs/1511.06349"
    paths = ("checkpoint",)

    checkpoint: str | None = None  # a causal language model: a Hub id or a folder. Default: a small English one
    revision: str | None = None
    shots: PositiveInt = 5  # rows that are shown for a point
    candidates: PositiveInt = 4  # texts written for a point, of which one is taken
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95  # tokens are drawn among the likeliest of so much probability
    temperature: PositiveFloat = 1.0
    max_tokens: PositiveInt = 64  # of a text; longer ones are left out
    tries: Annotated[float, Field(ge=1)] = 2.0  # points for each row that is wanted, as the keeper drops some
    names: dict[str, str] = {}  # class: what it is called before texts. Default: its label
    keep: Keep = Keep()

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them those written and kept.

        Raises:
            UserError: no such model, pairs of texts, rows of several classes or of too few a class, nothing worth
                keeping.
        """
        originals = real(train)
        forms = Forms.of(originals, ctx, self.names, self.name)
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"{self.name}: for rows of one class each, and these are {ctx.problem_type}; use "
                            "language_model")  # fmt: skip
        check_rows_a_class(train, ctx, self.name)
        key = hashlib.sha256(f"{self!r} {ctx.labels!r} {ctx.seed} {originals[:]!r}".encode()).hexdigest()[:16]

        def make(path: Path) -> None:
            with torch.random.fork_rng():  # loading a model draws from it, and the other processes load none
                path.write_text(json.dumps(self._made(originals, forms, ctx)), encoding="utf-8")

        found = json.loads(ctx.once(f"{self.name}-{key}.json", make).read_text("utf-8"))
        if not found["rows"]:
            raise UserError(f"{self.name}: none of the {found['facts']['written']} texts that were written ends within "
                            f"{self.max_tokens} tokens; raise max_tokens, or give another checkpoint")  # fmt: skip
        ctx.facts[self.name] = {"generator": public_name(self.checkpoint or MODEL), **found["facts"]}
        return kept(train, found["rows"], ctx, self.keep, self.name)

    def _made(self, originals: Dataset, forms: Forms, ctx: Context) -> dict[str, Any]:
        """Rows, and facts about them; by one process."""
        lines = [forms.line(row) for row in originals]
        features, labels = pretrained_features(ctx, originals), np.asarray(originals["label"][:])
        points = self._points(features, labels, np.array([line is not None for line in lines]), originals, ctx)
        prompts = [prompt_of([line for at in point.shown if (line := lines[at])]) for point in points]
        names = [f"{ctx.seed}\n{point.label}\n{point.number}\n{prompt}"
                 for point, prompt in zip(points, prompts, strict=True)]  # fmt: skip
        written = [Written(of, " ".join(text.split())) for of, some in enumerate(self._texts(names)) for text in some]
        whole = [each for each in written if each.text]
        facts = {"points": len(points), "written": len(written), "malformed": len(written) - len(whole)}
        if not whole:
            return {"rows": [], "facts": facts}
        places = np.stack([point.at for point in points])
        found = pretrained_features(ctx, Dataset.from_dict({"text": [each.text for each in whole]}))
        (z, x), (_, towards) = directions(features, found), directions(features, places)
        to_point = (x * towards[[each.of for each in whole]]).sum(1)
        copies = (x @ z.T).max(1) > min(self.keep.max_similarity, SAME)
        chosen = nearest([each.of for each in whole], to_point, copies)
        ids, who = originals["id"][:], public_name(self.checkpoint or MODEL)
        rows = []
        for at in chosen:
            point = points[whole[at].of]
            shown = [ids[row] for row in point.shown]
            rows.append({
                "text": whole[at].text, "label": point.label, "parent": shown[-1], "number": point.number,
                "shown": shown, "cosine_to_point": round(float(to_point[at]), 4), "checkpoint": who,
            })  # fmt: skip
        means = {"cosine_to_point": to_point[chosen].mean(), "cosine_of_candidates": to_point.mean()}
        return {"rows": rows, "facts": {**facts, **{name: round(float(mean), 4) for name, mean in means.items()}}}

    def _points(self, features: Array, labels: Array, shown: Array, originals: Dataset, ctx: Context) -> list[Point]:
        """What the VAE draws, class by class; the n-th of a class is the same however many are drawn."""
        space = Space.of(features, labels, ctx.seed)
        points = []
        for label, wanted in enumerate(self.keep.wanted(originals, ctx)):
            own = np.flatnonzero((labels == label) & shown)
            count = math.ceil(self.tries * wanted) if len(own) else 0
            rngs = [rng_of(ctx.seed, f"{self.name}:{label}", number) for number in range(count)]
            if count:
                drawn = space.features(normal(rngs, (CODE,), "cpu"), np.full(count, label))
                z, x = directions(features, drawn)
                order = np.argsort(x @ z[own].T, axis=1, kind="stable")[:, -self.shots :]
                points += [Point(number, label, drawn[number], own[order[number]].tolist()) for number in range(count)]
        return points

    def _texts(self, names: Sequence[str]) -> list[list[str]]:
        """Candidates for each point: its name is its seed, label, number and prompt."""
        spec = ModelSpec(name=self.checkpoint or MODEL, revision=self.revision)
        with told_of({"model.name:": f"techniques.{self.name}.checkpoint:"}):
            how = self.candidates, self.top_p, self.temperature, self.max_tokens
            key = json.dumps([self.name, spec.model_dump(), state_of(spec), how])
            file = cached_assets_path("hf_smalldata", "written") / "texts.sqlite"
            found = remembered(file, key, names, lambda some: self._written(spec, some))
        return [found[name] for name in names]

    def _written(self, spec: ModelSpec, names: Sequence[str]) -> Iterator[list[list[str]]]:
        prompts = [name.split("\n", 3)[3] for name in names for _ in range(self.candidates)]
        draws = [f"{name}\n{number}" for name in names for number in range(self.candidates)]
        parts = Writer(spec).write(prompts, draws, self.top_p, self.temperature, self.max_tokens)
        texts = chain.from_iterable(parts)
        while some := list(islice(texts, self.candidates)):
            yield [some]


def prompt_of(lines: Sequence[Line]) -> str:
    """Lines of one class, and the front of one more."""
    return "".join(f"{line.front}: {line.body}\n" for line in lines) + f"{lines[-1].front}:"


def nearest(points: Sequence[int], cosines: Array, copies: Array) -> list[int]:
    """Of the texts of each point the one nearest to it; a copy of a real row only where all are copies.

    Args:
        points: of each text (M,).
        cosines: with its point (M,).
        copies: whether it is one (M,).

    Returns:
        Places of the chosen, by point.
    """
    best: dict[int, int] = {}
    for at in np.lexsort((-cosines, copies)).tolist():
        best.setdefault(points[at], at)
    return [best[point] for point in sorted(best)]
