"""Diffusion from scratch: a small class-conditional model, trained on the rows themselves, makes more of them.

Helps where images are small and simple (cells, characters, textures), with some tens of rows a class, and where
augmentation does not reach what varies. Does little for photos of scenes, which it cannot learn from so few; and next
to a pretrained network that needs no more rows it does not pay for its minutes. For sounds use vae.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.techniques.synthesis.generator import PixelGenerator, normal
from hf_smalldata.techniques.synthesis.learning import Facts, batches, train

TRAIN_TIMES = 1000  # steps from an image to noise
PATCHED = 16  # pixels of the shorter side after folding patches into channels: 4 to 16 times cheaper


def guided(with_class: Tensor, without: Tensor, scale: float) -> Tensor:
    """That without + scale (with_class - without), any shape: eq. 6 of Ho and Salimans 2022, whose w is scale - 1."""
    return without + scale * (with_class - without)


def min_snr_weight(snr: Tensor, gamma: float = 5.0) -> Tensor:
    """min(snr, gamma) / (snr + 1) for predictions of v, (B,): Hang et al. 2023, sec. 3.4."""
    return snr.clamp(max=gamma) / (snr + 1)


def forgotten(labels: Tensor, share: float, none: int) -> Tensor:
    """Labels (B,) of which a share is `none`: Ho and Salimans 2022, algorithm 1."""
    return torch.where(torch.rand(labels.shape, device=labels.device) < share, none, labels)


class DiffusionScratch(PixelGenerator):
    """Learns to take noise away, and draws by DDIM with classifier-free guidance. Predicts v (Salimans and Ho 2022)."""

    name = "diffusion_scratch"
    tasks = frozenset({"image-classification"})
    paper = "https://arxiv.org/abs/2006.11239"
    drawing: ClassVar[frozenset[str]] = PixelGenerator.drawing | {"guidance", "sampling_steps"}

    channels: int = Field(default=64, ge=8, multiple_of=8)  # of the first level; twice as many on those below
    forget: float = Field(default=0.15, ge=0, lt=1)  # share of rows that learn without their class, for guidance
    guidance: float = Field(default=1.5, ge=0)  # 1: none; more makes classes plainer and rows more alike
    sampling_steps: int = Field(default=50, ge=2, le=TRAIN_TIMES)
    flip: bool = False  # learn mirror images too: not of characters

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """A UNet on patches; class C is none."""
        from diffusers import UNet2DModel

        patch = max(min(shape[1:]) // PATCHED, 1)
        side = shape[1] // patch, shape[2] // patch
        depth = shape[0] * patch**2
        width = self.channels
        network = UNet2DModel(
            sample_size=side, in_channels=depth, out_channels=depth, layers_per_block=1, num_class_embeds=classes + 1,
            block_out_channels=(width, 2 * width, 2 * width), norm_num_groups=8, attention_head_dim=width // 2,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        return Patched(network, patch).to(memory_format=torch.channels_last)

    def fit(self, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> tuple[nn.Module, Facts]:
        """Squared error of v, weighed by min-SNR."""
        device = next(network.parameters()).device
        pixels, labels = pixels.to(device), labels.to(device)
        schedule = _schedule()
        kept = schedule.alphas_cumprod.to(device)
        optimiser = torch.optim.AdamW(network.parameters(), self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        warm = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: min((at + 1) / 100, 1.0))
        drawn = batches(len(pixels), self.batch_size)

        def step(_: int) -> Tensor:
            chosen = next(drawn).to(device)
            clean = mirrored(pixels[chosen]) if self.flip else pixels[chosen]
            noise, times = torch.randn_like(clean), torch.randint(0, TRAIN_TIMES, (len(clean),), device=device)
            noisy, target = schedule.add_noise(clean, noise, times), schedule.get_velocity(clean, noise, times)
            found = network(noisy, times, forgotten(labels[chosen], self.forget, classes))
            errors = functional.mse_loss(found, target, reduction="none").mean((1, 2, 3))
            loss = (min_snr_weight(kept[times] / (1 - kept[times])) * errors).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            warm.step()
            return loss.detach()

        return train(self.name, network, step, self.steps)

    def draw(self, network: nn.Module, labels: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """DDIM from noise (M, channels, height, width), which is all that is drawn."""
        assert isinstance(network, Patched)
        schedule = _schedule()
        schedule.set_timesteps(self.sampling_steps)
        noisy, none = normal(rngs, network.shape, labels.device), network.none
        for time in schedule.timesteps:
            if self.guidance == 1:
                found = network(noisy, time, labels)
            else:
                both = network(noisy.repeat(2, 1, 1, 1), time, torch.cat([labels, torch.full_like(labels, none)]))
                with_class, without = both.chunk(2)
                found = guided(with_class, without, self.guidance)
            noisy = schedule.step(found, time, noisy).prev_sample
        return noisy


class Patched(nn.Module):
    """A UNet that sees patches as channels: (B, c, H, W) -> the same shape."""

    def __init__(self, network: Any, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: channels, height, width."""
        height, width = self.network.config.sample_size
        return self.network.config.in_channels // self.patch**2, height * self.patch, width * self.patch

    @property
    def none(self) -> int:
        """The class of rows without one."""
        return int(self.network.config.num_class_embeds) - 1

    def forward(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """The v (B, c, H, W) of noisy images at times (B,) or ()."""
        folded = functional.pixel_unshuffle(noisy, self.patch).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.network(folded, times, class_labels=labels, return_dict=False)[0]
        return functional.pixel_shuffle(found, self.patch)


def mirrored(pixels: Tensor) -> Tensor:
    """About half of the images (B, C, H, W) as in a mirror."""
    return torch.where(torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5, pixels.flip(3), pixels)


def _schedule() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMES, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
        clip_sample=True, set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip
