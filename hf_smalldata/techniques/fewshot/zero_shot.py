"""Zero-shot: the names of the classes alone, read by another pretrained model that learns from no row.

Helps to tell what your labels are worth: where it comes near the trained model, names would have done. Does nothing to
the trained model, and says little where names are codes, or where the other model has seen public rows like yours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers
from accelerate import PartialState
from datasets import Dataset
from pydantic import PositiveInt
from scipy.special import softmax
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import load_config, load_processor, load_whole, told_of
from hf_smalldata.tasks.task import ModelSpec, Predictions
from hf_smalldata.tasks.text import load_tokenizer
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.fewshot.beside import once_for
from hf_smalldata.techniques.fewshot.template import filled
from hf_smalldata.training.text_embeddings import text_embeddings

Array = np.ndarray[Any, Any]

MODELS = {
    "text-classification": "MoritzLaurer/deberta-v3-base-zeroshot-v2.0-c",
    "image-classification": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
}
TEMPLATES = {"text-classification": "This text is about {}.", "image-classification": "a photo of a {}."}
CLASSIFIER = "AutoModelForSequenceClassification"
CLIP = "AutoModelForZeroShotImageClassification"
SCALE = 20.0  # of cosines, as sentence encoders are trained with: probabilities hang on it, the order does not
BATCH_SIZE = 16
AT_ONCE = 256  # images that are decoded at the same time
SETTINGS = {  # whose checkpoint is at fault is told by this technique's settings, not by the recipe's model
    "model.name:": "techniques.zero_shot.checkpoint:", "model.max_length:": "techniques.zero_shot.max_length:",
}  # fmt: skip


class ZeroShot(Technique):
    """A row of the results: an NLI model or a sentence encoder for texts, a model like CLIP for images."""

    name = "zero_shot"
    tasks = frozenset(MODELS)
    paper = "https://arxiv.org/abs/1909.00161"
    paths = ("checkpoint",)

    checkpoint: str | None = None  # a Hub id or a folder; default: one for texts, one for images
    revision: str | None = None
    template: str | None = None  # with {} for the name; default: "This text is about {}." or "a photo of a {}."
    max_length: PositiveInt | None = None  # tokens of a text; default: what the checkpoint can take

    def baseline(self, test: Dataset, ctx: Context) -> Predictions:
        """Probabilities (N, C), computed once for all seeds.

        Raises:
            UserError: rows that have not one class each, pairs of texts, names that are numbers, or no such checkpoint.
        """
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"zero_shot: for single-label rows, and these are {ctx.problem_type}; leave it out")
        if "text_pair" in test.column_names:
            raise UserError("zero_shot: for rows of one text, and these are pairs; leave it out")
        phrases = filled(self.template or TEMPLATES[ctx.task.name], ctx.labels)
        spec = ModelSpec(name=self._checkpoint(ctx), revision=self.revision, max_length=self.max_length)

        def ask() -> Array:
            if ctx.task.kind == "image":
                return by_captions(spec, test, phrases, ctx)
            texts = list(test["text"])
            return by_entailment(spec, texts, phrases) if _has_entailment(spec) else by_cosine(spec, texts, phrases)

        with told_of(SETTINGS):
            return once_for(test, ctx, ("zero-shot", spec, phrases), ask)

    def baseline_name(self, ctx: Context) -> str:
        """`zero-shot (name of the checkpoint)`, without the folders or the owner before it."""
        return f"zero-shot ({self._checkpoint(ctx).rstrip('/').rsplit('/', 1)[-1]})"

    def _checkpoint(self, ctx: Context) -> str:
        return self.checkpoint or MODELS[ctx.task.name]


def by_entailment(spec: ModelSpec, texts: Sequence[str], phrases: Sequence[str]) -> Array:
    """Softmax over phrases of how far a text entails them (N, C); one forward pass a text and phrase."""
    ask = _pipeline(
        "zero-shot-classification", load_whole(CLASSIFIER, spec), tokenizer=load_tokenizer(CLASSIFIER, spec)
    )
    answers = ask(list(texts), candidate_labels=list(phrases), hypothesis_template="{}", batch_size=BATCH_SIZE)
    return _in_order([dict(zip(each["labels"], each["scores"], strict=True)) for each in answers], phrases)


def by_cosine(spec: ModelSpec, texts: Sequence[str], phrases: Sequence[str]) -> Array:
    """Softmax over phrases of the scaled cosine between their embeddings and a text's (N, C)."""
    both = text_embeddings(spec, [*texts, *phrases])
    rows, names = both[: len(texts)], both[len(texts) :]
    return np.asarray(softmax(SCALE * (rows @ names.T).numpy(), axis=1))


def by_captions(spec: ModelSpec, rows: Dataset, phrases: Sequence[str], ctx: Context) -> Array:
    """Probabilities (N, C) of the phrases as captions of images; those of SigLIP are made to sum to 1."""
    tokenizer, processor = (load_processor(part, CLIP, spec) for part in ("AutoTokenizer", "AutoImageProcessor"))
    ask = _pipeline(
        "zero-shot-image-classification", load_whole(CLIP, spec), tokenizer=tokenizer, image_processor=processor
    )
    answers = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows.select(range(start, min(start + AT_ONCE, len(rows))))
        images = ctx.task.pipeline_inputs(part, ctx.processor)
        answers += ask(images, candidate_labels=list(phrases), hypothesis_template="{}", batch_size=BATCH_SIZE)
    scores = _in_order([{one["label"]: one["score"] for one in each} for each in answers], phrases)
    return np.asarray(scores / scores.sum(1, keepdims=True))


def _has_entailment(spec: ModelSpec) -> bool:
    """As the stock pipeline looks for it."""
    return any(str(label).lower().startswith("entail") for label in load_config(CLASSIFIER, spec).label2id)


def _pipeline(task: str, model: nn.Module, **parts: Any) -> Any:
    make: Any = transformers.pipeline
    return make(task, model=model, device=PartialState().device, **parts)


def _in_order(answers: Sequence[dict[str, float]], phrases: Sequence[str]) -> Array:
    return np.array([[answer[phrase] for phrase in phrases] for answer in answers])
