"""A tiny text-to-image pipeline, built in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)


def tiny_image_pipeline(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion for 32 x 32 pixels that reads letters, with a safety checker; random weights."""
    torch.manual_seed(seed)
    special = ["<|startoftext|>", "<|endoftext|>"]
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz0123456789-_,." for end in ("", "</w>")]
    tokenizer = CLIPTokenizer({word: at for at, word in enumerate([*special, *letters])}, [], model_max_length=40)
    body = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    words = CLIPTextConfig(**body, vocab_size=len(tokenizer), max_position_embeddings=40, bos_token_id=0,
                           eos_token_id=1, pad_token_id=1)  # fmt: skip
    pixels = CLIPVisionConfig(**body, image_size=32, patch_size=8, projection_dim=16)
    sizes: dict[str, Any] = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4, **sizes,
        ),
        text_encoder=CLIPTextModel(words),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=16, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=32,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=8, **sizes,
        ),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=StableDiffusionSafetyChecker(CLIPConfig(
            text_config=words.to_dict(), vision_config=pixels.to_dict(), projection_dim=16
        )),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
