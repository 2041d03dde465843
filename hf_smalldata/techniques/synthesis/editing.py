"""Text-to-image pipelines as editors of images: loaded with what protects their users, and timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from PIL import Image, ImageOps

from hf_smalldata.errors import UserError, require
from hf_smalldata.nn.precision import bfloat16_pays

TIMED_STEPS = (1, 3)  # of denoising: the time between them is that of two


def load_editor(checkpoint: str, revision: str | None) -> Any:
    """An image-to-image pipeline of a text-to-image checkpoint, on its device; a safety checker in it stays on.

    Raises:
        UserError: not found, or no such pipeline.
    """
    diffusers = require("diffusers", extra="synthesis")
    device = PartialState().device
    half = device.type == "cuda" and bfloat16_pays(device)  # float16 would need its gradients scaled
    try:
        pipe = diffusers.AutoPipelineForImage2Image.from_pretrained(
            checkpoint, revision=revision, dtype=torch.bfloat16 if half else torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "techniques.diffusion_edit.checkpoint: expected a text-to-image pipeline of diffusers with safetensors, "
            f"could not load {Path(checkpoint).name}: {' '.join(str(error).split())[:300]}"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def side_of(pipe: Any) -> int:
    """Pixels a side that the pipeline was trained on."""
    network = getattr(pipe, "unet", None) or pipe.transformer
    return int(network.config.sample_size * pipe.vae_scale_factor)


def square(image: Image.Image, side: int) -> Image.Image:
    """From the middle, as large as the pipeline wants it."""
    return ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)


def edited(
    pipe: Any,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    seeds: Sequence[int],
    strength: float,
    steps: int,
    guidance: float,
) -> list[Image.Image | None]:
    """Each image after denoising from `strength` of the way to noise; None where the safety checker took it away."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    found = pipe(prompt=list(prompts), image=list(images), strength=strength, num_inference_steps=steps,
                 guidance_scale=guidance, generator=generators)  # fmt: skip
    flagged = getattr(found, "nsfw_content_detected", None) or [False] * len(images)
    return [None if bad else image for image, bad in zip(found.images, flagged, strict=True)]


def seconds_a_step(pipe: Any, image: Image.Image, prompt: str) -> tuple[float, float]:
    """Seconds of one denoising step and of all else, for one image: measured."""
    taken = []
    for steps in TIMED_STEPS:
        begun = time.perf_counter()
        edited(pipe, [image], [prompt], [0], 1.0, steps, 7.5)
        taken.append(time.perf_counter() - begun)
    step = max(taken[1] - taken[0], 0.0) / (TIMED_STEPS[1] - TIMED_STEPS[0])
    return step, max(taken[0] - step, 0.0)
