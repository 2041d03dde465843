"""What few-shot techniques share: rows of a run as batches and embeddings, by the network as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from hf_smalldata.kept import digest, fingerprint_below
from hf_smalldata.nn.features import Readout, Run, embeddings, readout
from hf_smalldata.tasks.task import Batch
from hf_smalldata.tasks.windows import mean_by_row
from hf_smalldata.technique import Context, Technique
from hf_smalldata.training.batching import EncodedRows, by_length, draws, encoded_alone, to_device
from hf_smalldata.training.text_embeddings import text_embeddings

Array = np.ndarray[Any, Any]

BATCH_SIZE = 32


def features_of(
    model: nn.Module,
    ctx: Context,
    rows: Dataset | None = None,
    read: Callable[[nn.Module, Run], Readout] = readout,
    augment: Sequence[Technique] = (),
) -> tuple[Tensor, Readout]:
    """Embeddings of rows, and the layer that reads them; the layers between it and the pooled state become linear.

    Args:
        model: put into evaluation mode.
        ctx: of the run.
        rows: default `ctx.train`; a row that is cut into windows has the mean of theirs.
        read: finds that layer.
        augment: techniques with an `example` hook, of which rows are embedded as they are drawn in the first epoch.

    Returns:
        (N, d) float32 on the CPU, in the order of the rows, and the readout.
    """
    given = ctx.train if rows is None else rows
    windows = ctx.task.cut(given, ctx.processor)
    features = [encoded_alone(row, ctx.task, ctx.processor) for row in drawn_of(windows, augment, ctx)] or None
    encoded = EncodedRows(windows, ctx.task, ctx.processor, features=features)
    device = next(model.parameters()).device
    out = read(model, lambda network: network(**inputs_of(encoded, [0], ctx, device)))
    order = by_length(encoded, BATCH_SIZE)
    network = fingerprint_below(out.layer, model) if ctx.kept.cap_bytes else ""

    def embed(inputs: Batch) -> Tensor:
        return embeddings(model, [inputs], out).cpu()

    found = torch.cat([
        ctx.kept.states(digest(inputs, network), partial(embed, inputs), _bytes) if network else embed(inputs)
        for inputs in batches(encoded, order, ctx, device)
    ])  # fmt: skip
    place = torch.empty(len(encoded), dtype=torch.long)
    place[[at for batch in order for at in batch]] = torch.arange(len(encoded))
    found = found[place]
    if windows is not given:
        found = torch.from_numpy(mean_by_row(found.numpy(), windows["id"][:], given["id"][:]))
    return found, out


class Embed(Protocol):
    """What embeds rows."""

    def __call__(self, rows: Dataset, augment: Sequence[Technique] = ()) -> Array:
        """Rows, drawn as `example` hooks draw them for the first epoch where there are any -> embeddings (N, d)."""


def pretrained_features(ctx: Context, rows: Dataset) -> Array:
    """Embeddings (N, d) by the run's pretrained model as it is: see `pretrained_embedder`."""
    return pretrained_embedder(ctx, rows)(rows)


def pretrained_embedder(ctx: Context, like: Dataset) -> Embed:
    """What rows are compared by: embeddings by the run's pretrained model as it is, which is loaded for it.

    Of single texts, tagged ones among them, the mean of all tokens: better than what a classifier of texts reads.

    Args:
        ctx: of the run.
        like: rows with the columns of those that will be asked.

    Raises:
        UserError: when it is called, the network has no pooled embedding.
    """
    if ctx.task.kind == "tokens" or (ctx.task.kind == "text" and "text_pair" not in like.column_names):

        def of_texts(rows: Dataset, augment: Sequence[Technique] = ()) -> Array:
            texts = [row["text"] for row in drawn_of(rows, augment, ctx)] or rows["text"][:]
            return np.asarray(text_embeddings(ctx.model, texts))

        return of_texts
    with torch.random.fork_rng():  # a new head is drawn
        model = ctx.task.load_model(ctx.model, ctx.labels, ctx.problem_type).to(PartialState().device)

    def by_network(rows: Dataset, augment: Sequence[Technique] = ()) -> Array:
        with torch.random.fork_rng():
            return np.asarray(features_of(model, ctx, rows, augment=augment)[0])

    return by_network


def drawn_of(rows: Dataset, augment: Sequence[Technique], ctx: Context) -> Iterator[dict[str, Any]]:
    """Rows, decoded, as `example` hooks draw them for the first epoch; none without such hooks."""
    for row in rows if augment else ():
        yield draws(ctx.task.decode(row, ctx.processor), augment, ctx.seed, 0)[-1]


def batches(rows: EncodedRows, order: list[list[int]], ctx: Context, device: torch.device) -> Iterator[Batch]:
    """The model's inputs for each batch of indices."""
    for indices in order:
        yield inputs_of(rows, indices, ctx, device)


def inputs_of(rows: EncodedRows, indices: list[int], ctx: Context, device: torch.device) -> Batch:
    """The model's inputs for some rows."""
    return to_device(ctx.task.collate([rows.features[at] for at in indices], ctx.processor), device)


def learn_once(model: nn.Module, ctx: Context, key: str, learn: Callable[[], None]) -> None:
    """Train the model in place in the main process, and give its weights to all: few rows are not worth sharing out.

    What learns afterwards, and torch's random numbers, are the same in every process.

    Args:
        model: which `learn` trains.
        ctx: of the run.
        key: a file name that is unique in the run.
        learn: the training.
    """
    first = EncodedRows(ctx.task.cut(ctx.train.select([0]), ctx.processor), ctx.task, ctx.processor)
    device = next(model.parameters()).device
    readout(model, lambda network: network(**inputs_of(first, [0], ctx, device)))  # freezes what becomes linear

    def make(path: Path) -> None:
        learn()
        save_model(model, str(path))

    with torch.random.fork_rng():
        if PartialState().num_processes == 1:
            learn()
        else:
            load_model(model, str(ctx.once(key, make)))


def body(model: nn.Module, out: Readout) -> list[nn.Parameter]:
    """Parameters that a pre-phase trains: what is not frozen, no table of token vectors, not the head."""
    other = {id(p) for p in (*_tables(model), *out.layer.parameters())}
    return [p for p in model.parameters() if p.requires_grad and id(p) not in other]


def adamw(learnt: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay; all parameters, of one device, in one pass where torch can."""
    fused = learnt[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(learnt, learning_rate, weight_decay=0.0, fused=fused)


@contextmanager
def tables_held(model: nn.Module) -> Iterator[None]:
    """Within: no gradient is computed for tables of token vectors, of which few rows use few."""
    tables = [p for p in _tables(model) if p.requires_grad]
    for table in tables:
        table.requires_grad_(False)
    try:
        yield
    finally:
        for table in tables:
            table.requires_grad_(True)


def _bytes(found: Tensor) -> int:
    return found.nbytes


def _tables(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters())
