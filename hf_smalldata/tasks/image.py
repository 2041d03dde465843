"""Image classification, for any `AutoModelForImageClassification` and for timm checkpoints through transformers.

Files are decoded once and kept as bytes of the model's input size, never of the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from tqdm.auto import tqdm

from hf_smalldata.data.images import open_image
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import require
from hf_smalldata.tasks.pretrained import load_classifier, load_processor
from hf_smalldata.tasks.task import Batch, Features, ModelSpec, Task


class ImageClassification(Task):
    """Rows with `image`; the checkpoint's own processor sizes and normalises them."""

    name = "image-classification"
    input_column = "image"
    model_class = "AutoModelForImageClassification"
    pipeline_arguments: ClassVar[dict[str, Any]] = {}

    def load_processor(self, spec: ModelSpec) -> Any:
        """The checkpoint's image processor."""
        require("torchvision", extra="image")
        return load_processor("AutoImageProcessor", self.model_class, spec)

    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """An image classifier with a new head."""
        return load_classifier(self.model_class, spec, labels, problem_type)

    def decode(self, row: dict[str, Any], processor: Any) -> dict[str, Any]:
        """The row with its image decoded to RGB."""
        return {**row, "image": open_image(row["image"])}

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Pixels at the model's input size: bytes (3, H, W) where the processor's arithmetic allows it exactly."""
        mean, std = normalisation(processor)
        images = tqdm(rows["image"], desc="reading images", leave=False, delay=1, disable=None)
        return [{"pixel_values": _pixels(image, processor, mean, std)} for image in images]

    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """pixel_values (B, 3, H, W), normalised."""
        pixels = torch.from_numpy(np.stack([row["pixel_values"] for row in features]))
        if pixels.dtype == torch.uint8:
            mean, std = (torch.from_numpy(value) for value in normalisation(processor))
            pixels = (pixels.float() / 255 - mean) / std
        return {"pixel_values": pixels}

    def pipeline_inputs(self, rows: Dataset) -> list[Any]:
        """Decoded RGB images."""
        return [open_image(value) for value in rows["image"]]


def normalisation(processor: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (3, 1, 1) that a processor applies to pixels in [0, 1]; 0 and 1 if none."""
    if hasattr(processor, "data_config"):  # timm
        mean, std = processor.data_config["mean"], processor.data_config["std"]
    elif getattr(processor, "do_normalize", False):
        mean, std = processor.image_mean, processor.image_std
    else:
        mean, std = [0.0] * 3, [1.0] * 3
    return np.asarray(mean, np.float32).reshape(-1, 1, 1), np.asarray(std, np.float32).reshape(-1, 1, 1)


def _pixels(image: Any, processor: Any, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """One image through the processor: uint8 if that loses nothing, else float32. (3, H, W)."""
    decoded = open_image(image)
    values = processor(decoded, return_tensors="pt")["pixel_values"][0].numpy().astype(np.float32)
    exact = (values * std + mean) * 255
    whole = exact.round()
    fits = np.abs(exact - whole).max() < 1e-2 and whole.min() >= 0 and whole.max() <= 255
    kept: np.ndarray[Any, Any] = whole.astype(np.uint8) if fits else values
    return kept
