"""What a text-to-image pipeline learns of the classes of few images: a new word for each, or adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.errors import UserError, require
from hf_smalldata.techniques.synthesis.learning import Facts, batches, train


def words_for(pipe: Any, names: Sequence[str]) -> nn.ParameterList:
    """Textual inversion, Gal et al. 2023: a new word `<concept-k>` a class, which starts as the mean of its name's.

    The vectors (K, d) of the new words are all that is learnt.
    """
    tokenizer, encoder = _one_encoder(pipe, "textual_inversion")
    table = encoder.get_input_embeddings()
    first = len(tokenizer)
    words = [word(at) for at in range(len(names))]
    tokenizer.add_tokens(words)
    ids = [tokenizer(name, add_special_tokens=False).input_ids for name in names]
    start = torch.stack([table.weight[each].float().mean(0) for each in ids]).detach()
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    learnt = nn.Parameter(start)

    def put_in(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        at = args[0] - first
        return torch.where((at >= 0)[..., None], learnt[at.clamp(min=0)].to(output), output)

    encoder.get_input_embeddings().register_forward_hook(put_in)
    return nn.ParameterList([learnt])


def adapters_for(pipe: Any, rank: int) -> nn.ParameterList:
    """DreamBooth's aim by LoRA (Hu et al. 2022) on the attention of the denoiser, all classes in one."""
    from peft import LoraConfig

    _one_encoder(pipe, "lora")
    pipe.unet.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets))
    learning = [parameter for parameter in pipe.unet.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.data = parameter.data.float()
    return nn.ParameterList(learning)


def word(at: int) -> str:
    """The word of a class."""
    return f"<concept-{at}>"


def learn(
    pipe: Any,
    concepts: nn.Module,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    steps: int,
    rate: float,
    size: int,
) -> tuple[nn.Module, Facts]:
    """Train them to denoise the images after their prompts: the squared error of noise, or of v.

    Args:
        pipe: the pipeline.
        concepts: those of its parameters that learn.
        images: squares of its size.
        prompts: of the images.
        steps: of training.
        rate: of learning.
        size: images a step.
    """
    diffusers = require("diffusers", extra="synthesis")
    schedule = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    device = pipe.unet.device
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 127.5 - 1
    told = pipe.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt",
                          max_length=pipe.tokenizer.model_max_length).input_ids  # fmt: skip
    for part in (pipe.vae, pipe.text_encoder):
        part.requires_grad_(False)
    optimiser = torch.optim.AdamW(concepts.parameters(), rate, weight_decay=0.0)
    drawn = batches(len(pixels), size)

    def step(_: int) -> Tensor:
        chosen = next(drawn)
        with torch.no_grad():
            clean = pipe.vae.encode(pixels[chosen].to(device, pipe.vae.dtype)).latent_dist.sample()
            clean = clean * pipe.vae.config.scaling_factor
        noise = torch.randn_like(clean)
        times = torch.randint(0, schedule.config.num_train_timesteps, (len(clean),), device=device)
        states = pipe.text_encoder(told[chosen].to(device))[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=pipe.unet.dtype == torch.bfloat16):
            found = pipe.unet(schedule.add_noise(clean, noise, times), times, states).sample
        v = schedule.config.prediction_type == "v_prediction"
        target = schedule.get_velocity(clean, noise, times) if v else noise
        loss = functional.mse_loss(found.float(), target.float())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        return loss.detach()

    pipe.unet.train()
    try:
        return train("diffusion_edit", concepts, step, steps)
    finally:
        pipe.unet.eval()


def _one_encoder(pipe: Any, what: str) -> tuple[Any, Any]:
    if getattr(pipe, "text_encoder_2", None) is not None or not hasattr(pipe, "unet"):
        raise UserError(f"techniques.diffusion_edit.concept: {what} is for Stable Diffusion 1 and 2, and this is "
                        f"{type(pipe).__name__}; set it to none")  # fmt: skip
    return pipe.tokenizer, pipe.text_encoder
