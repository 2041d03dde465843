"""The head that a checkpoint brings along: kept for the same labels, by name; replaced for others.

A Run of one task is a good start for another: what it learnt of texts or images stays, and its head too where it
answers the same question.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from hf_smalldata.errors import listed
from hf_smalldata.nn.initialise import reinitialise


@torch.no_grad()
def relabel(model: nn.Module, old: Sequence[str], new: Sequence[str], absent: Collection[str]) -> str:
    """Let a loaded network answer by the labels of its new task.

    Args:
        model: with an output for each of `new`.
        old: labels of the checkpoint, in the order of its outputs.
        new: labels of the task.
        absent: names of parameters that the checkpoint does not have.

    Returns:
        What became of the checkpoint's head, in words; empty where it brings none.
    """
    outputs = by_label(model)
    if not outputs or set(outputs) & set(absent):
        return ""
    if sorted(old) != sorted(new) or len(set(old)) < len(old):
        for name in {name.rpartition(".")[0] for name in outputs} if len(old) == len(new) else ():
            reinitialise(model, model.get_submodule(name))  # of another number they are new already
        return f"its head is for other labels ({listed(list(old))}) and was replaced by a new one"
    order = [old.index(label) for label in new]
    for name in outputs:
        parameter = model.get_parameter(name)
        parameter.copy_(parameter[order].clone())
    return "its head is for the same labels and was kept"


def by_label(model: Any) -> list[str]:
    """Names of the parameters that have a row for each label: those of another shape in a network of one more."""
    config = copy.deepcopy(model.config)
    config.num_labels = model.config.num_labels + 1
    if hasattr(config, "label_names"):  # timm's own list
        config.label_names = None
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        larger = dict(type(model)(config).named_parameters())
    return [name for name, parameter in model.named_parameters() if parameter.shape != larger[name].shape]
