"""Diffusion edits: a text-to-image model redraws each training image to some degree; its label stays.

Helps with a few photos of things that the model knows, in settings that the photos do not show. Does little where
augmentation is enough, and hurts for what the model never saw, such as medical images: at high strengths it draws what
the prompt says, in its own style. Without a GPU it takes hours.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from accelerate import PartialState
from datasets import Dataset
from huggingface_hub import cached_assets_path
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from tqdm.auto import tqdm

from hf_smalldata.data.images import open_image
from hf_smalldata.data.made import real, rng_of
from hf_smalldata.destination import public_name
from hf_smalldata.errors import UserError
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.synthesis import concepts, editing
from hf_smalldata.techniques.synthesis.keep import Keep, check_rows_a_class, kept
from hf_smalldata.techniques.synthesis.learning import Facts, learnt
from hf_smalldata.whole import whole

logger = logging.getLogger(__name__)

CHECKPOINT = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SLOW_S = 600.0  # without a GPU, above which it is asked for
AT_ONCE = {"cuda": 8, "cpu": 1}  # images in a pass
TRAINING_COST = 3.0  # of a step forward and back, in steps of denoising


class DiffusionEdit(Technique):
    """DA-Fusion: image to image, at a strength drawn from a set, after a prompt with the class's name.

    With `concept` the model first learns from the training rows what a class looks like, as a new word (the paper's
    way) or by adapters. The paper shows a made row in place of a real one with probability 0.5; here all are rows, and
    `keep.ratio: 1` gives the same shares. An image has the same variants in all seeds: they are kept in the Hub's cache
    of assets (HF_ASSETS_CACHE), and what is interrupted goes on from there.
    """

    name = "diffusion_edit"
    tasks = frozenset({"image-classification"})
    paper = "https://arxiv.org/abs/2302.07944"
    paths = ("checkpoint",)
    extra: ClassVar[str | None] = "synthesis"

    checkpoint: str | None = None  # a text-to-image pipeline: a Hub id or a folder. Default: Stable Diffusion 1.5
    revision: str | None = None
    per_row: PositiveInt = 10  # images made of each row
    strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.25, 0.5, 0.75, 1.0)  # 0: as it was, 1: from noise
    prompt: str = "a photo of a {label}"
    concept: Literal["none", "textual_inversion", "lora"] = "none"  # how the classes are learnt first
    concept_steps: PositiveInt = 1000
    concept_learning_rate: PositiveFloat = 5e-4
    concept_batch_size: PositiveInt = 4
    rank: PositiveInt = 8  # of the adapters; with lora
    guidance: float = Field(default=7.5, ge=0)
    sampling_steps: PositiveInt = 50  # from noise; at a strength, that share of them
    side: PositiveInt | None = None  # pixels of the pipeline's images. Default: what it was trained on
    allow_slow: bool = False  # without a GPU, though it takes hours
    keep: Keep = Keep(ratio=10.0, max_similarity=1.0)  # likeness to a real row is meant here

    @field_validator("prompt")
    @classmethod
    def _names_the_class(cls, prompt: str) -> str:
        if "{label}" not in prompt:
            raise ValueError("expected a text with {label} in it, such as 'a photo of a {label}'")
        return prompt

    @model_validator(mode="after")
    def _a_step_each(self) -> DiffusionEdit:
        if not self.strengths or min(self.strengths) * self.sampling_steps < 1:
            raise ValueError("strengths: expected at least one, each with a step: strength x sampling_steps >= 1")
        return self

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the redrawn ones.

        Raises:
            UserError: no such pipeline, no GPU and no leave to be slow, or nothing worth keeping.
        """
        if self.concept != "none":
            check_rows_a_class(train, ctx, self.name)
        if ctx.problem_type == "regression":
            raise UserError(f"{self.name}: for classes, which prompts name, and these rows have values; leave it out")
        originals = real(train)
        folder = self._folder(originals, ctx)
        with PartialState().main_process_first():
            facts = self._make(originals, ctx, folder)
        made, flagged, name = [], 0, public_name(self.checkpoint or CHECKPOINT)
        for row, digest, prompt in zip(originals, _digests(originals), self._prompts(originals, ctx), strict=True):
            for number in range(self.per_row):
                file = folder / f"{digest}-{number}.png"
                if not file.stat().st_size:
                    flagged += 1
                    continue
                redrawn = {"bytes": file.read_bytes(), "path": None}
                made.append({"image": redrawn, "label": row["label"], "parent": row["id"], "prompt": prompt,
                             "strength": self._strength(digest, number), "checkpoint": name})  # fmt: skip
        ctx.facts[self.name] = {"generator": name, "unsafe": flagged, **facts}
        return kept(train, made, ctx, self.keep, self.name)

    def _folder(self, originals: Dataset, ctx: Context) -> Path:
        """Where images are kept: named by all that they depend on but their own row."""
        settings = self.model_dump(exclude={"keep", "allow_slow", "per_row"})
        learnt_from = list(zip(_digests(originals), map(str, originals["label"]), strict=True))
        key = repr([settings, ctx.labels, learnt_from if self.concept != "none" else None])
        name = f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        folder = cached_assets_path("hf_smalldata", "generators") / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _make(self, originals: Dataset, ctx: Context, folder: Path) -> Facts:
        """Those images that are not there yet; an empty file stands for what the safety checker took away.

        Returns:
            what there is to tell of learning a concept.
        """
        digests = _digests(originals)
        missing: dict[float, list[tuple[int, int]]] = defaultdict(list)
        for number in range(self.per_row):
            for at, digest in enumerate(digests):
                if not (folder / f"{digest}-{number}.png").exists():
                    missing[self._strength(digest, number)].append((at, number))
        if not missing:
            return {}
        with torch.random.fork_rng():
            pipe = editing.load_editor(self.checkpoint or CHECKPOINT, self.revision)
            opened = [open_image(row["image"], row.get("window")) for row in originals]
            squares = [editing.square(image, self.side or editing.side_of(pipe)) for image in opened]
            if pipe.device.type == "cpu":
                self._refuse_slow(pipe, squares[0], missing)
            prompts, facts = self._taught(pipe, originals, squares, ctx)
            size = AT_ONCE.get(pipe.device.type, 1)
            passes = [(strength, some[start : start + size]) for strength, some in missing.items()
                      for start in range(0, len(some), size)]  # fmt: skip
            for strength, some in tqdm(passes, desc=f"{self.name}: redrawing", leave=False, delay=1, disable=None):
                seeds = [int(rng_of(0, digests[at], number, 1).integers(2**63)) for at, number in some]
                found = editing.edited(pipe, [squares[at] for at, _ in some], [prompts[at] for at, _ in some], seeds,
                                       strength, self.sampling_steps, self.guidance)  # fmt: skip
                for image, (at, number) in zip(found, some, strict=True):
                    _save(image, min(opened[at].size), folder / f"{digests[at]}-{number}.png")
        return facts

    def _taught(
        self, pipe: Any, originals: Dataset, squares: Sequence[Image.Image], ctx: Context
    ) -> tuple[list[str], Facts]:
        """The prompt of each row, after the pipeline has learnt what is in it."""
        prompts = self._prompts(originals, ctx)
        if self.concept == "none":
            return prompts, {}

        def build() -> torch.nn.Module:
            if self.concept == "lora":
                return concepts.adapters_for(pipe, self.rank)
            return concepts.words_for(pipe, _spoken(ctx))

        def learn(made: Any) -> Any:
            return concepts.learn(pipe, made, squares, prompts, self.concept_steps, self.concept_learning_rate,
                                  self.concept_batch_size)  # fmt: skip

        settings = [self.checkpoint, self.revision, self.concept, self.concept_steps, self.concept_learning_rate,
                    self.concept_batch_size, self.side]  # fmt: skip
        _, facts = learnt(self.name, [settings, prompts, _digests(originals)], build, learn, 0)
        return prompts, {"concept": facts}

    def _prompts(self, originals: Dataset, ctx: Context) -> list[str]:
        """With the names of each row's classes, or the new words for them."""
        names = _spoken(ctx)
        if self.concept == "textual_inversion":
            names = [concepts.word(at) for at in range(len(names))]
        several = ctx.problem_type == "multi_label_classification"
        given = [[name for name, yes in zip(names, label, strict=True) if yes] if several else [names[label]]
                 for label in originals["label"]]  # fmt: skip
        return [self.prompt.replace("{label}", " and ".join(each) or "something else") for each in given]

    def _strength(self, digest: str, number: int) -> float:
        return float(rng_of(0, digest, number).choice(self.strengths))

    def _refuse_slow(self, pipe: Any, image: Image.Image, missing: Mapping[float, Sequence[Any]]) -> None:
        """Say how long it takes without a GPU, by one image's steps.

        Raises:
            UserError: long, and `allow_slow` is not set.
        """
        step, other = editing.seconds_a_step(pipe, image, self.prompt)
        count = sum(map(len, missing.values()))
        steps = sum(max(int(strength * self.sampling_steps), 1) * len(some) for strength, some in missing.items())
        seconds = steps * step + count * other
        if self.concept != "none":
            seconds += self.concept_steps * self.concept_batch_size * TRAINING_COST * step
        told = f"{count} images take about {seconds / 3600:.1f} hours without a GPU ({step:.1f} s a step, measured)"
        if seconds > SLOW_S and not self.allow_slow:
            raise UserError(f"{self.name}: {told}; set allow_slow: true to wait that long, lower per_row or "
                            "sampling_steps, or run it where a GPU is")  # fmt: skip
        logger.info("%s: %s", self.name, told)


def _spoken(ctx: Context) -> list[str]:
    return [name.replace("_", " ") for name in ctx.labels]


def _digests(rows: Dataset) -> list[str]:
    """A name for the input and the label of each row."""
    found = []
    for row in rows:
        image = open_image(row["image"], row.get("window"))
        told = f"{image.size} {row['label']} ".encode() + image.tobytes()
        found.append(hashlib.sha256(told).hexdigest()[:24])
    return found


def _save(image: Image.Image | None, side: int, file: Path) -> None:
    """Whole, and not larger than the row was; empty where there is none."""
    stream = BytesIO()
    if image is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(stream, "PNG")
    with whole(file) as partial:
        partial.write_bytes(stream.getvalue())
