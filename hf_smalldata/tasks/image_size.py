"""Another input size for a pretrained image model: smaller is cheaper by the square, larger shows small things.

Most networks take any size. Vision transformers learnt a position for each patch: theirs are interpolated once, so that
the saved model is a stock one of the new size. What has weights for each pixel otherwise can't change.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from hf_smalldata.errors import UserError

MOST_PREFIX = 8  # positions before those of the patches: of class, distillation and register tokens
_REFUSED = (RuntimeError, ValueError, AssertionError, TypeError, LookupError)  # as networks say it


def size_settings(processor: Any, side: int) -> dict[str, Any]:
    """Settings (`size`, `crop_size`) that make a transformers image processor give `side` x `side` pixels.

    Both are scaled alike, so that as much is cut off the edges as before.
    """
    scale = side / output_size(processor, side)[0]
    return {
        name: {key: round(pixels * scale) for key, pixels in dict(value).items() if pixels is not None}
        for name in ("size", "crop_size")
        if (value := getattr(processor, name, None)) is not None
    }


def output_size(processor: Any, side: int) -> tuple[int, int]:
    """Height and width that a processor gives an image of `side` x `side` pixels."""
    pixels = processor(Image.new("RGB", (side, side)), return_tensors="pt")["pixel_values"]
    return pixels.shape[-2], pixels.shape[-1]


def resize_timm_processor(processor: Any, side: int) -> Any:
    """A timm model's processor for `side` x `side` pixels, else as it was."""
    return type(processor)(pretrained_cfg={**processor.data_config, "input_size": (3, side, side)})


def resize_model(model: Any, side: int, name: str) -> nn.Module:
    """The network itself where it takes `side` x `side` pixels, else one that does, with its weights.

    Args:
        model: an image classifier in evaluation mode.
        side: height and width in pixels.
        name: the model's, for messages.

    Raises:
        UserError: the architecture can't change its size, or not to this one.
    """
    is_timm = model.config.model_type == "timm_wrapper"
    if is_timm:  # a saved timm model has its processor's settings in here
        model.config.pretrained_cfg = {**model.config.pretrained_cfg, "input_size": [3, side, side]}
    if _takes(model, side):
        return model  # type: ignore[no-any-return]
    try:
        resized = type(model)(_resized_config(model.config, side, is_timm)).eval()
        resized.load_state_dict(_fitted(model.state_dict(), resized.state_dict()))
        _run(resized, side)
    except _REFUSED as error:
        raise UserError(
            f"model.image_size: {name} can't take {side} x {side} pixels ({str(error).splitlines()[0]}); leave it out "
            "for the model's own size, or try a multiple of its patches"
        ) from error
    return resized  # type: ignore[no-any-return]


def interpolate_positions(positions: Tensor, count: int) -> Tensor:
    """Learnt positions of a square grid of patches, (N, d) or (1, N, d), for a grid of another size: `count` for N.

    Bicubic, as `interpolate_pos_encoding` of transformers' models; positions of special tokens, which come first, stay.

    Raises:
        ValueError: N and `count` are no squares with equally many before them.
    """
    old = positions.shape[-2]
    prefix = next((p for p in range(MOST_PREFIX + 1) if _is_square(old - p) and _is_square(count - p)), None)
    if prefix is None:
        raise ValueError(f"expected positions of square grids, found {old} and {count}")
    special, patches = positions[..., :prefix, :], positions[..., prefix:, :]
    width = positions.shape[-1]
    grid = patches.reshape(1, round((old - prefix) ** 0.5), -1, width).permute(0, 3, 1, 2)  # (1, d, H, W)
    side = round((count - prefix) ** 0.5)
    new = nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    new = new.permute(0, 2, 3, 1).reshape(*positions.shape[:-2], side * side, width)
    return torch.cat([special, new], dim=-2)


def _takes(model: nn.Module, side: int) -> bool:
    try:
        _run(model, side)
    except _REFUSED:
        return False
    return True


@torch.no_grad()
def _run(model: nn.Module, side: int) -> None:
    model(pixel_values=torch.zeros(1, 3, side, side))


def _resized_config(config: Any, side: int, is_timm: bool) -> Any:
    config = copy.deepcopy(config)
    if is_timm:
        config.model_args = {**(config.model_args or {}), "img_size": side}
        return config
    inner = getattr(config, "vision_config", config)  # CLIP and its kin
    if not hasattr(inner, "image_size"):
        raise ValueError("its config knows no image_size")
    inner.image_size = side if isinstance(inner.image_size, int) else [side, side]
    return config


def _fitted(old: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
    """The old weights in the new shapes."""
    fitted = dict(old)
    for key, target in new.items():
        if old[key].shape == target.shape:
            continue
        if "pos" not in key or old[key].shape[-1] != target.shape[-1] or old[key].dim() not in (2, 3):
            raise ValueError(f"{key} has weights for one size only")
        if "relative" in key and not (_is_square(old[key].shape[-2]) and _is_square(target.shape[-2])):
            raise ValueError(f"{key} has special tokens behind its grid")  # BEiT
        fitted[key] = interpolate_positions(old[key], target.shape[-2])
    return fitted


def _is_square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number
