"""The parameters of a network by depth: what learns in the stem, in each block, and in the head above them."""

from __future__ import annotations

from torch import nn

from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.heads import head_names


def levels(model: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters that learn, from the stem upwards: stem, blocks, head. A level where nothing learns is left out.

    What stands beside the blocks is stem if the network lists it before them, else it goes with the head. Embeddings
    are stem wherever they are listed: relative positions that all blocks share belong below them.

    Raises:
        UserError: the network has no blocks.
    """
    found = blocks(model)
    top = len(found) + 1
    depth = {id(parameter): at for at, block in enumerate(found, 1) for parameter in block.module.parameters()}
    depth |= {id(parameter): top for name in head_names(model) for parameter in model.get_submodule(name).parameters()}
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    grouped: list[list[nn.Parameter]] = [[] for _ in range(top + 1)]
    passed = False  # whether the blocks are listed already
    for parameter in model.parameters():
        at = depth.get(id(parameter), top if passed and id(parameter) not in tables else 0)
        passed = passed or 0 < at < top
        if parameter.requires_grad:
            grouped[at].append(parameter)
    return [level for level in grouped if level]
