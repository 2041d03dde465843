"""The contract of a modality: what its rows are, and how they become a model's input.

A task knows columns, processor, model class, encoding and collation. It knows nothing of techniques, recipes or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from hf_smalldata.data.modality import Kind
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.tasks.prompt import check_template
from hf_smalldata.tasks.windows import mean_by_row

Features = dict[str, Any]  # one encoded row: numpy arrays or lists, unpadded
Batch = dict[str, Tensor]
Answers = list[dict[str, Any]]  # what a user reads of one row: {label, score}, and for entities start, end and word
Predictions = np.ndarray[Any, Any]  # (N, C); for tokens (N,) of arrays (words, C)


class ModelSpec(BaseModel):
    """The `model:` section of a recipe: a pretrained model and how it is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # a Hub id, a folder, or a bundled name
    revision: str | None = None
    trust_remote_code: bool = False  # runs the model repository's own code: only for repositories you trust
    max_length: PositiveInt | None = None  # tokens; longer texts are cut. Default: what the model can take
    template: str | None = None  # of every text, such as "It was {mask}. {text}": the classifier reads the mask
    prompt_tokens: PositiveInt | None = None  # new tokens before every text; set by `prompt_tuning`, which learns them
    image_size: PositiveInt | None = None  # pixels a side. Default: the checkpoint's own
    seconds: PositiveFloat | None = None  # of sound; longer clips are cut. Default: what the model can take, 30 at most
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = None

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str | None) -> str | None:
        return None if template is None else check_template(template)

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.template is not None and self.prompt_tokens is not None:
            raise ValueError("expected a template or prompt tokens before a text, got both; leave one of them out")
        return self


class Task(ABC):
    """One modality. Stateless: the processor carries every setting that prediction needs as well."""

    name: ClassVar[str]  # as in recipes
    pipeline_tag: ClassVar[str]  # the Hub's name for it
    kind: ClassVar[Kind]  # what a model reads: also the column of a row that holds it
    model_class: ClassVar[str]  # the transformers Auto class
    processor_argument: ClassVar[str]  # by which `transformers.pipeline` takes the processor
    pipeline_arguments: ClassVar[Mapping[str, Any]] = {}  # what a stock pipeline call needs to give all scores

    @abstractmethod
    def load_processor(self, spec: ModelSpec) -> Any:
        """The tokenizer, image processor or feature extractor, set to the recipe's input size."""

    @abstractmethod
    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """The pretrained body with a new head: a logit for each label, or one output for regression."""

    @abstractmethod
    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Rows -> unpadded features, in order, without labels."""

    @abstractmethod
    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """Features -> tensors (B, ...), padded to the longest of the batch, without labels."""

    @abstractmethod
    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Rows as a stock `transformers.pipeline` of this task takes them: texts, dicts, PIL images or waveforms."""

    def cut(self, rows: Dataset, processor: Any) -> Dataset:
        """Rows -> rows that are none too long for the model: a long one becomes overlapping windows.

        The windows of row `id` are `id#0`, `id#1`, … (see `windows`); a row that fits keeps its id, and where all fit
        the rows themselves come back.
        """
        return rows

    def merge(self, values: Predictions, windows: Dataset, rows: Dataset) -> Predictions:
        """Predictions of the windows that `cut` made of `rows` -> predictions of the rows, their means."""
        return values if windows is rows else mean_by_row(values, windows["id"][:], rows["id"][:])

    def decode(self, row: dict[str, Any], processor: Any) -> dict[str, Any]:
        """A row as techniques' `example` hooks see it: files decoded, once."""
        return row

    def align(self, label: Any, features: Features) -> Any:
        """The label of a row as the collator takes it: for tokens a tag index for each of the model's own tokens."""
        return label

    def targets(self, labels: Sequence[Any], num_labels: int, problem_type: ProblemType) -> Tensor:
        """Aligned labels -> float targets (B, C): one-hot, multi-hot, or (B, 1) values for regression."""
        if problem_type == "single_label_classification":
            return torch.nn.functional.one_hot(torch.as_tensor(labels), num_labels).float()
        return torch.as_tensor(labels, dtype=torch.float32).view(len(labels), num_labels)

    def select(self, logits: np.ndarray, features: Features) -> np.ndarray:
        """Of the logits of one row those that are its prediction: (C,), or for tokens (T, C) -> (words, C)."""
        return logits

    def same_length(self, processor: Any) -> bool:
        """Whether a batch must hold rows of one length for each to get the very logits that it gets alone."""
        return False

    def settled(self, spec: ModelSpec, processor: Any, rows: Dataset) -> ModelSpec:
        """The settings of a model with what its training rows decide, where the recipe leaves it open."""
        return spec

    def length(self, features: Features) -> int:
        """Cost of a row, for batches of like length; 1 where all rows cost the same."""
        return 1

    def read(self, answers: Sequence[Any], rows: Dataset, labels: Sequence[str]) -> Predictions:
        """What a stock pipeline answered to `pipeline_inputs(rows)`, as predictions; scores it does not tell are NaN.

        Args:
            answers: for each row the pipeline's list of {label, score}, or one of them.
            rows: the rows that were asked.
            labels: C names; () for regression.
        """
        return np.array([_ordered(answer, labels) for answer in answers])

    def answer(self, values: np.ndarray, row: dict[str, Any], labels: Sequence[str]) -> Answers:
        """The prediction of one row as a user reads it: {label, score}, best first."""
        if not labels:
            return [{"label": "value", "score": float(values[0])}]
        return [{"label": labels[at], "score": float(values[at])} for at in np.argsort(-values, kind="stable")]


def _ordered(answer: Any, labels: Sequence[str]) -> list[float]:
    """A pipeline's {label, score} in the order of our labels."""
    answers = answer if isinstance(answer, list) else [answer]
    if not labels:
        return [answers[0]["score"]]
    scores = {each["label"]: each["score"] for each in answers}
    return [scores[label] for label in labels]
