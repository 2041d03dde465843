"""What synthesis.py compares speed with: plain loops of the same networks and losses, and diffusers' pipeline."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.techniques.synthesis.diff_augment import augmented
from hf_smalldata.techniques.synthesis.diffusion_scratch import TRAIN_TIMES
from hf_smalldata.techniques.synthesis.gan import NOISE
from hf_smalldata.techniques.synthesis.gan_networks import Discriminator


def plain_diffusion(technique: Any, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> None:
    schedule = DDIMScheduler(TRAIN_TIMES, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    optimiser = torch.optim.AdamW(network.parameters(), technique.learning_rate)
    for _ in range(technique.steps):
        chosen = torch.randint(0, len(pixels), (technique.batch_size,))
        clean, noise = pixels[chosen], torch.randn(len(chosen), *pixels.shape[1:])
        times = torch.randint(0, TRAIN_TIMES, (len(chosen),))
        found = network(schedule.add_noise(clean, noise, times), times, labels[chosen])
        loss = functional.mse_loss(found, schedule.get_velocity(clean, noise, times))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def plain_gan(technique: Any, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> None:
    judge = Discriminator(tuple(pixels.shape[1:]), classes + 1, technique.channels)
    ours, theirs = (torch.optim.Adam(each.parameters(), technique.learning_rate) for each in (network, judge))
    for _ in range(technique.steps):
        chosen = torch.randint(0, len(pixels), (technique.batch_size,))
        real, wanted = augmented(pixels[chosen], technique.augment), labels[chosen]
        made = network(torch.randn(len(chosen), NOISE), wanted)
        seen = augmented(made.detach(), technique.augment)
        loss = functional.relu(1 - judge(real, wanted)).mean() + functional.relu(1 + judge(seen, wanted)).mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        ours.zero_grad()
        (-judge(augmented(made, technique.augment), wanted).mean()).backward()
        ours.step()


def plain_vae(technique: Any, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), technique.learning_rate)
    for _ in range(technique.steps):
        chosen = torch.randint(0, len(pixels), (technique.batch_size,))
        mean, log_variance = network.encode(pixels[chosen], labels[chosen])
        found = network.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean), labels[chosen])
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        loss = pixels[0].numel() / 2 * functional.mse_loss(found, pixels[chosen]).log() + divergence
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


PLAIN = {"diffusion_scratch": plain_diffusion, "gan": plain_gan, "vae": plain_vae}


def ddim_pipeline(network: Any, count: int, steps: int) -> None:
    """Draw with the pipeline of diffusers, which knows no classes, from a network of the same size and layout."""
    config = {key: value for key, value in network.network.config.items() if key != "num_class_embeds"}
    unet = UNet2DModel.from_config(config).to(memory_format=torch.channels_last).eval()
    pipeline = DDIMPipeline(unet, DDIMScheduler(TRAIN_TIMES, beta_schedule="squaredcos_cap_v2"))
    pipeline.set_progress_bar_config(disable=True)
    pipeline(batch_size=count, num_inference_steps=steps, output_type="np")
