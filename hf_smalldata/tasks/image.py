"""Image classification, for any `AutoModelForImageClassification` and for timm checkpoints through transformers.

Files are decoded once and kept as bytes of the model's input size, never of the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from hf_smalldata.data.images import open_image
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError, require
from hf_smalldata.tasks.image_size import output_size, resize_model, resize_timm_processor, size_settings
from hf_smalldata.tasks.pretrained import load_classifier, load_processor
from hf_smalldata.tasks.task import Batch, Features, ModelSpec, Task

DETAIL = 2  # of augmented images, times the model's input: a crop of a quarter of the area is still sharp
SMALL = 64  # pixels of the shorter side that are never reduced


class ImageClassification(Task):
    """Rows with `image`, and `window` if grey values are to be shown through one; the checkpoint's own processor sizes
    and normalises them.
    """

    name = "image-classification"
    pipeline_tag = "image-classification"
    kind = "image"
    processor_argument = "image_processor"
    model_class = "AutoModelForImageClassification"

    def load_processor(self, spec: ModelSpec) -> Any:
        """The checkpoint's image processor, set to `image_size` if that is given.

        Raises:
            UserError: no image processor, or one that can't give that size.
        """
        require("torchvision", extra="image")
        processor = load_processor("AutoImageProcessor", self.model_class, spec)
        side = spec.image_size
        if side is None:
            return processor
        if hasattr(processor, "data_config"):  # timm
            processor = resize_timm_processor(processor, side)
        else:
            settings = size_settings(processor, side)
            processor = load_processor("AutoImageProcessor", self.model_class, spec, **settings)
        if (found := output_size(processor, side)) != (side, side):
            raise UserError(
                f"model.image_size: the image processor of {spec.name} can't be set to {side} x {side} pixels, "
                f"it gives {found[0]} x {found[1]}; leave it out for the model's own size"
            )
        return processor

    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """An image classifier with a new head that takes images of `image_size`.

        Raises:
            UserError: not found, another modality, or an architecture that can't change its size.
        """
        model = load_classifier(self.model_class, spec, labels, problem_type)
        return model if spec.image_size is None else resize_model(model, spec.image_size, spec.name)

    def decode(self, row: dict[str, Any], processor: Any) -> dict[str, Any]:
        """The row with its image decoded to RGB, its shorter side at most `DETAIL` times that of the model's input."""
        return {**row, "image": _reduced(_decoded(row), processor)}

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Pixels at the model's input size: bytes (3, H, W) where the processor's arithmetic allows it exactly."""
        mean, std = normalisation(processor)
        read = tqdm(rows, desc="reading images", leave=False, delay=1, disable=None)
        return [{"pixel_values": _pixels(_decoded(row), processor, mean, std)} for row in read]  # one decoded at a time

    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """pixel_values (B, 3, H, W), normalised."""
        pixels = torch.from_numpy(np.stack([row["pixel_values"] for row in features]))
        if pixels.dtype == torch.uint8:
            mean, std = (torch.from_numpy(value) for value in normalisation(processor))
            pixels = (pixels.float() / 255 - mean) / std
        return {"pixel_values": pixels}

    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Decoded RGB images."""
        return [_decoded(row) for row in rows]


def normalisation(processor: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (3, 1, 1) that a processor applies to pixels in [0, 1]; 0 and 1 if none."""
    if hasattr(processor, "data_config"):  # timm
        mean, std = processor.data_config["mean"], processor.data_config["std"]
    elif getattr(processor, "do_normalize", False):
        mean, std = processor.image_mean, processor.image_std
    else:
        mean, std = [0.0] * 3, [1.0] * 3
    return np.asarray(mean, np.float32).reshape(-1, 1, 1), np.asarray(std, np.float32).reshape(-1, 1, 1)


def _decoded(row: Mapping[str, Any]) -> Image.Image:
    return open_image(row["image"], row.get("window"))


def _reduced(image: Image.Image, processor: Any) -> Image.Image:
    """An image without what the model could not see of it: all training rows that are augmented lie in memory."""
    shorter = min(image.size)
    if shorter <= SMALL:
        return image
    shown = processor(image, return_tensors="pt")["pixel_values"].shape[-2:]
    scale = min(DETAIL * max(shown) / shorter, 1)
    size = [max(round(side * scale), 1) for side in image.size]
    return image if scale == 1 else image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _pixels(image: Image.Image, processor: Any, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """One image through the processor: uint8 if that loses nothing, else float32. (3, H, W)."""
    values = processor(image, return_tensors="pt")["pixel_values"][0].numpy().astype(np.float32)
    exact = (values * std + mean) * 255
    whole = exact.round()
    fits = np.abs(exact - whole).max() < 1e-2 and whole.min() >= 0 and whole.max() <= 255
    kept: np.ndarray[Any, Any] = whole.astype(np.uint8) if fits else values
    return kept
