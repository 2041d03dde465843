"""Compact embedding: of a vocabulary of 30,000 tokens, few rows use 2,000; only their vectors are trained.

The gradient of all other vectors is zero in every step, so a dense optimiser spends half of a small encoder's memory
on numbers that do not move. The result is that of the whole table, except that weight decay does not shrink vectors
that no row has used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.training.batching import EncodedRows

WORTH = 2  # vectors there are for each that is used, below which the table stays whole


@contextmanager
def compact_embedding(model: nn.Module, rows: Sequence[EncodedRows]) -> Iterator[bool]:
    """Within: the table of token vectors holds only those that `rows` use. Afterwards it is whole again.

    Args:
        model: after all model hooks.
        rows: every set of rows that the model will see; none leaves the model alone.

    Yields:
        Whether the table was cut. It is not for models without a token table, with a frozen one, or one that serves
        as output weights too.
    """
    table = _table(model)
    used = _used_tokens(rows)
    if table is None or used is None or WORTH * len(used) > table.num_embeddings:
        yield False
        return
    whole = table.weight
    place = torch.full((table.num_embeddings,), -1, device=whole.device)  # a token that is not there is an error
    place[used] = torch.arange(len(used), device=whole.device)
    in_use = table.padding_idx is not None and table.padding_idx in used
    padding = int(place[table.padding_idx]) if in_use else None

    def look_up(input: Tensor) -> Tensor:
        return functional.embedding(place[input], table.weight, padding)

    table.weight = nn.Parameter(whole.detach()[used].clone())
    table.forward = look_up  # type: ignore[method-assign]
    try:
        yield True
    finally:
        vars(table).pop("forward")
        with torch.no_grad():
            whole[used] = table.weight.to(whole.device)
        table.weight = whole


def _table(model: nn.Module) -> nn.Embedding | None:
    """The table of token vectors, if it is a plain one of its own that learns."""
    get = getattr(model, "get_input_embeddings", None)
    try:
        table = get() if get is not None else None
    except NotImplementedError:  # how transformers says that there is none
        return None
    if type(table) is not nn.Embedding or table.max_norm is not None or table.sparse:
        return None
    if not table.weight.requires_grad:
        return None
    owners = [module for module in model.modules() if any(p is table.weight for p in module._parameters.values())]
    return table if len(owners) == 1 else None


def _used_tokens(rows: Sequence[EncodedRows]) -> Tensor | None:
    """Ids of all tokens in rows, sorted, and that of padding; None where rows have no tokens."""
    found: set[int] = set()
    for part in rows:
        if not part.features or "input_ids" not in part.features[0]:
            return None
        found.update(token for features in part.features for token in features["input_ids"])
        found.add(int(part.processor.pad_token_id))
    return torch.tensor(sorted(found)) if found else None
