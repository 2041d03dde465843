"""The `train:` section of a recipe: `transformers.TrainingArguments` by their own names, with defaults for few rows."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import TrainingArguments

from hf_smalldata.errors import UserError, did_you_mean
from hf_smalldata.training.selection import Selection

# What differs from the Trainer's own defaults, and why.
DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 10,  # few rows make few steps an epoch
    "warmup_steps": 0.1,  # a share of all steps: a new head should not shake the body (Mosbach et al., 2021)
    "weight_decay": 0.01,
    "per_device_eval_batch_size": 64,
    "save_strategy": "no",  # the best weights are kept in memory
    "eval_strategy": "no",  # becomes "epoch" where something tells the best epoch
    "logging_strategy": "no",
    "report_to": "none",
}
BASE_RATE, BASE_WIDTH = 5e-5, 768  # full fine-tuning of BERT-base and the like
HIGHEST_RATE, OTHER_RATE = 5e-4, 1e-4

OURS: dict[str, Any] = {"early_stopping_patience": None, "early_stopping_threshold": 0.0, "select_by": "validation"}

# Names of earlier transformers releases -> what to write now.
RETIRED: dict[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps (a value in [0, 1) is a ratio)",
    "overwrite_output_dir": "the command's --overwrite",
    "logging_dir": "the TENSORBOARD_LOGGING_DIR environment variable",
    "save_safetensors": "nothing: weights are always saved as safetensors",
    "no_cuda": "use_cpu",
    "group_by_length": "nothing: batches are always of like lengths",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "fp16_backend": "fp16",
    "tokenizer": "model.name",
}
# Arguments that a Run sets itself -> where the user says it.
OWNED: dict[str, str] = {
    "output_dir": "the command's --output",
    "seed": "seeds",
    "data_seed": "seeds",
    "resume_from_checkpoint": "the command's --resume",
    "load_best_model_at_end": "nothing: with validation rows the best weights are always restored",
    "remove_unused_columns": "nothing: rows are read by the task",
    "label_names": "data.label_column",
    "label_smoothing_factor": "techniques: [{label_smoothing: {epsilon: …}}]",
    "push_to_hub": "publish: {repo: owner/name}",
    "hub_model_id": "publish: {repo: owner/name}",
    "hub_token": "hf auth login",
    "train_sampling_strategy": "nothing: batches are always of like lengths",
    "dataloader_persistent_workers": "nothing: workers start anew each epoch, to draw anew",
    "do_train": "nothing", "do_eval": "nothing", "do_predict": "nothing",
}  # fmt: skip


def settings() -> dict[str, Any]:
    """Every argument that a recipe may set, with its type in the installed transformers."""
    hints = get_type_hints(TrainingArguments)
    names = [field.name for field in dataclasses.fields(TrainingArguments) if field.init and field.name not in OWNED]
    return {name: hints[name] for name in names} | {
        "learning_rate": float | Literal["auto"],
        "early_stopping_patience": int | None,
        "early_stopping_threshold": float,
        "select_by": Selection,
    }


def check(train: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The section with values of the right types, and all that is wrong with it."""
    known, problems, values = settings(), [], {}
    for name, given in train.items():
        value = "no" if given is False and name.endswith("_strategy") else given  # YAML reads a bare `no` as false
        if name in RETIRED and name not in known:
            problems.append(f"train.{name}: gone from transformers; use {RETIRED[name]}")
        elif name in OWNED:
            problems.append(f"train.{name}: set by the run itself; use {OWNED[name]}")
        elif name not in known:
            problems.append(f"train.{name}: unknown setting{did_you_mean(str(name), known)}")
        else:
            try:
                adapter = TypeAdapter(known[name], config=ConfigDict(arbitrary_types_allowed=True))
                values[name] = adapter.validate_python(value)
            except ValidationError as error:
                problems.append(f"train.{name}: {error.errors()[0]['msg'].lower()}, got {value!r}")
    problems += [problem for problem in _ranges(values) if problem]
    if not problems:
        problems += _whole(values)
    return values, problems


def training_arguments(train: Mapping[str, Any], output_dir: Path, seed: int, **more: Any) -> TrainingArguments:
    """The arguments of one training. `more` are those that only the run knows.

    Raises:
        UserError: there are other processes that this one cannot join.
    """
    values = {name: value for name, value in {**DEFAULTS, **train, **more}.items() if name not in OURS}
    if values.get("learning_rate") == "auto":
        del values["learning_rate"]  # of no training: what is asked for is all else
    if (processes := os.environ.get("WORLD_SIZE", "1")) == "1":
        values.pop("ddp_backend", None)  # of several processes; torch refuses it for one
    elif "ddp_timeout" in values and (values.get("use_cpu") or parse_flag_from_env("ACCELERATE_USE_CPU")):
        # transformers passes it on for GPUs alone
        PartialState(cpu=True, backend=values.get("ddp_backend"), timeout=timedelta(seconds=values["ddp_timeout"]))
    values |= precision(values)
    values.setdefault("disable_tqdm", not sys.stderr.isatty())  # else it follows the log level of transformers
    values.setdefault("dataloader_pin_memory", torch.cuda.is_available())
    values.setdefault("accelerator_config", {"split_batches": True})  # a batch is shared out: same result on any count
    found = TrainingArguments(
        output_dir=str(output_dir),
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        label_names=["labels"],
        **values,
    )
    if processes != "1" and found.world_size == 1:
        raise UserError(f"started as {processes} processes, of which each would train for itself; on a machine without "
                        "GPUs set train.use_cpu: true, or use accelerate launch --cpu")  # fmt: skip
    return found


def learning_rate_of(config: Any) -> float:
    """The learning rate `auto` of full fine-tuning: the narrower a network, the higher.

    Inversely to the square of its width, from 5e-5 at 768: 2e-4 at 384, 3e-5 at 1024; never above 5e-4. Small encoders
    at the rate of BERT-base have not begun to learn when few rows have been seen ten times (`docs/measured.md`).

    Args:
        config: of a transformers model. Where it tells no width, as those of convolutions, the rate is 1e-4.
    """
    parts = (config, getattr(config, "vision_config", None))
    width = next((found for part in parts if (found := getattr(part, "hidden_size", None))), None)
    return min(BASE_RATE * (BASE_WIDTH / width) ** 2, HIGHEST_RATE) if width else OTHER_RATE


def precision(values: Mapping[str, Any]) -> dict[str, bool]:
    """bfloat16 on a GPU that multiplies in it, unless `train:` says otherwise: twice as fast in half the memory."""
    if {"bf16", "fp16"} & set(values):
        return {}
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return {"bf16": able and not values.get("use_cpu", False)}


def _ranges(values: Mapping[str, Any]) -> list[str]:
    positive = ("learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size",
                "gradient_accumulation_steps", "early_stopping_patience")  # fmt: skip
    not_negative = ("num_train_epochs", "weight_decay", "warmup_steps", "max_grad_norm", "early_stopping_threshold")
    given = {name: value for name, value in values.items() if value not in (None, "auto")}
    wrong = [(name, "greater than 0") for name in positive if name in given and not given[name] > 0]
    wrong += [(name, "at least 0") for name in not_negative if values.get(name) is not None and not values[name] >= 0]
    return [f"train.{name}: input should be {expected}, got {values[name]}" for name, expected in wrong]


def _whole(values: Mapping[str, Any]) -> list[str]:
    """What transformers itself says of the arguments together: choices, devices, precisions."""
    try:
        training_arguments(values, Path("unused"), seed=0)
    except (ValueError, ImportError, TypeError) as error:
        return [f"train: {' '.join(str(error).split())}"]
    return []
