"""The contract of a modality: what its rows are, and how they become a model's input.

A task knows columns, processor, model class, encoding and collation. It knows nothing of techniques, recipes or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

from hf_smalldata.data.spec import ProblemType

Features = dict[str, Any]  # one encoded row: numpy arrays or lists, unpadded
Batch = dict[str, Tensor]


class ModelSpec(BaseModel):
    """The `model:` section of a recipe: a pretrained model and how it is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # a Hub id, a folder, or a bundled name
    revision: str | None = None
    trust_remote_code: bool = False  # runs the model repository's own code: only for repositories you trust
    max_length: PositiveInt | None = None  # tokens; longer texts are cut. Default: what the model can take
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = None


class Task(ABC):
    """One modality. Stateless: the processor carries every setting that prediction needs as well."""

    name: ClassVar[str]  # the Hub's pipeline tag
    input_column: ClassVar[Literal["text", "image"]]  # the column of a row that a model reads
    model_class: ClassVar[str]  # the transformers Auto class
    pipeline_arguments: ClassVar[Mapping[str, Any]] = {}  # what a stock pipeline call needs for this task

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
    def pipeline_inputs(self, rows: Dataset) -> list[Any]:
        """Rows as a stock `transformers.pipeline` of this task takes them."""

    def decode(self, row: dict[str, Any], processor: Any) -> dict[str, Any]:
        """A row as techniques' `example` hooks see it: files decoded, once."""
        return row

    def length(self, features: Features) -> int:
        """Cost of a row, for batches of like length; 1 where all rows cost the same."""
        return 1


def targets(labels: Sequence[Any], num_labels: int, problem_type: ProblemType) -> Tensor:
    """Labels -> float targets (B, C): one-hot, multi-hot, or (B, 1) values for regression."""
    if problem_type == "single_label_classification":
        return torch.nn.functional.one_hot(torch.as_tensor(labels), num_labels).float()
    return torch.as_tensor(labels, dtype=torch.float32).view(len(labels), num_labels)
