"""Training rows beside their variants: those that `rows` hooks made, and draws of the `example` hooks.

Hooks of batches (mixup, cutmix) mix rows that happen to meet, so they have no variants to show.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed

from hf_smalldata.audit import audit_labels
from hf_smalldata.augmentation.family import Family, LeftOut, Row, Variant, content
from hf_smalldata.data.load import Splits
from hf_smalldata.data.made import real
from hf_smalldata.data.modality import Kind
from hf_smalldata.data.sample import draw_for
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.strata import carried
from hf_smalldata.errors import UserError, listed
from hf_smalldata.fitting import Fitting
from hf_smalldata.pipeline import read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import Task
from hf_smalldata.technique import Context, Technique, using
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.training.batching import draws

EPOCHS = 3  # draws of each row, where nobody says how many
SHOWN = ("rows", "example")  # hooks that change rows one by one
FILES: tuple[Kind, ...] = ("image", "audio")  # whose held-out rows are not read: no variant of one file is another


@dataclass(frozen=True)
class Variants:
    """Training rows with their variants, made one family after the other: a set of images does not fit in memory.

    Attributes:
        rows: the training rows of the seed, and those that `rows` hooks made.
        originals: indices into `rows` of real ones, whose families these are.
        made: indices into `rows` of made ones by the id of the real row they come from; "" for those of no row.
        augment: techniques with an `example` hook.
        lost: training rows that `rows` hooks left out, by technique.
        held_out: inputs of validation and test rows.
        audit: what `audit_labels` found, where it was asked.
        sifted: how many variants each `rows` hook of an augmentation made in vain, by reason.
    """

    task: Task
    processor: Any
    labels: tuple[str, ...]
    problem_type: ProblemType
    rows: Dataset
    originals: Sequence[int]
    made: Mapping[str, Sequence[int]]
    augment: tuple[Technique, ...]
    seed: int
    epochs: int
    lost: Mapping[str, int]
    held_out: frozenset[Hashable]
    work: _Folder | None = None  # where files of made rows may lie
    audit: Mapping[str, Any] | None = None
    sifted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.originals)

    def __iter__(self) -> Iterator[Family]:
        for at in self.originals:
            raw = self.rows[at]
            row = self._decoded(raw)
            seen = {content(row, self.task.kind)}
            made = [variant for index in self.made.get(raw["id"], ()) for variant in self._made(index, row, seen)]
            yield Family(row, raw[self.task.kind], [*made, *self._drawn(row, seen)])
        if self.made.get(""):
            free: set[Hashable] = set()
            yield Family(None, None, [one for index in self.made[""] for one in self._made(index, None, free)])

    def some(self, count: int) -> Variants:
        """The families of a few rows, of every class in turn."""
        rank: Counter[int] = Counter()
        order = []
        for at, classes in zip(self.originals, carried(self.rows.select(self.originals), self.problem_type),
                               strict=True):  # fmt: skip
            one = min(classes, default=-1)
            order.append((one < 0 and self.problem_type != "regression", rank[one], one, at))
            rank[one] += 1
        free = {"": list(self.made.get("", ()))[:count]}
        return replace(self, originals=[at for *_, at in sorted(order)[:count]], made={**self.made, **free})

    def _made(self, index: int, parent: Row | None, seen: set[Hashable]) -> Iterator[Variant]:
        """A row that a `rows` hook made, and its draws."""
        row = self._decoded(self.rows[index])
        before = None if parent is None else content(parent, self.task.kind)
        yield self._variant(row, before, {row["source"]: content(row, self.task.kind) != before}, seen)
        yield from self._drawn(row, seen)

    def _drawn(self, row: Row, seen: set[Hashable]) -> Iterator[Variant]:
        """What training sees of a row in its first epochs."""
        names = [each.name for each in self.augment]
        source = "+".join([*([row["source"]] if row["source"] else []), *names])
        for epoch in range(self.epochs if names else 0):
            steps = draws(row, self.augment, self.seed, epoch)
            inputs = [content(each, self.task.kind) for each in (row, *steps)]
            changed = {name: before != after for name, (before, after) in zip(names, pairwise(inputs), strict=True)}
            told = {"id": f"{'+'.join(names)}:{epoch}:{row['id']}", "source": source, "parent": row["id"]}
            yield self._variant({**steps[-1], **told}, inputs[0], changed, seen)

    def _variant(self, row: Row, before: Hashable, changed: dict[str, bool], seen: set[Hashable]) -> Variant:
        now = content(row, self.task.kind)
        left_out: LeftOut = ""
        if now == before:
            left_out = "unchanged"
        elif now in seen:
            left_out = "repeated"
        elif now in self.held_out:
            left_out = "held out"
        seen.add(now)
        return Variant(row, changed, left_out)

    def _decoded(self, row: Row) -> Row:
        return {"source": None, "parent": None, **self.task.decode(row, self.processor)}


def variants(
    recipe: Recipe,
    count: int | None = None,
    *,
    seed: int | None = None,
    epochs: int = EPOCHS,
    objects: Mapping[str, Any] | None = None,
    audit: bool = False,
) -> Variants:
    """The training rows of a recipe beside what its techniques make of them; nothing is trained on them.

    A row that is longer than the model can take is shown whole; training draws each of its windows.

    Args:
        recipe: with techniques that have `rows` or `example` hooks.
        count: of rows, of every class in turn; None for all.
        seed: draws the rows and the variants. Default: the first of the recipe.
        epochs: draws of each row, as its first epochs see them; techniques that make rows once make them as always.
        objects: rows from Python, as `train` takes them.
        audit: let the pretrained model say how many variants it would label otherwise.

    Raises:
        UserError: no technique has such a hook, or something in the recipe or the rows has to be mended.
    """
    check_augments(recipe)
    seed = recipe.seeds[0] if seed is None else seed
    data = read_rows(recipe, get_task(recipe.task), objects)
    drawn = draw_for(data, recipe.data, seed)
    work = _Folder()
    fitting = Fitting.of(recipe, data, work.path)
    set_seed(seed)
    context = fitting.context(drawn, seed, work.path)
    for technique in recipe.techniques:
        technique.check(drawn, context)
    rows, lost = _made_rows(drawn, using(recipe.techniques, "rows"), context)
    if audit:
        audit_labels(rows, context, using(recipe.techniques, "example"))
    kept = set(real(rows)["id"][:])
    found = Variants(
        fitting.task, fitting.processor, data.labels, data.problem_type, rows,
        [at for at, row_id in enumerate(rows["id"][:]) if row_id in kept], _by_root(rows),
        using(recipe.techniques, "example"), seed, epochs, lost, _held_out(data, fitting.task.kind), work,
        context.facts.get("label_audit"), dict(_sifted(using(recipe.techniques, "rows"), context)),
    )  # fmt: skip
    return found if count is None else found.some(count)


def check_augments(recipe: Recipe) -> None:
    """A recipe has techniques whose variants can be shown.

    Raises:
        UserError: it has none; those that fit its task are named.
    """
    if any(using(recipe.techniques, hook) for hook in SHOWN):
        return
    fitting = [name for name in REGISTRY if recipe.task in get_technique(name).tasks
               and set(SHOWN) & set(get_technique(name).model_construct().hooks())]  # fmt: skip
    given = listed([each.name for each in recipe.techniques]) or "none"
    batches = on_batches(recipe)
    known = f"those for {recipe.task}: {', '.join(fitting)}" if fitting else f"there is none for {recipe.task}"
    raise UserError(
        f"techniques: expected one that makes or changes rows, found {given}"
        + (f" ({batches})" if batches else "") + f"; {known}"
    )  # fmt: skip


def on_batches(recipe: Recipe) -> str:
    """`mixup acts on batches; not shown`, or nothing."""
    names = [each.name for each in using(recipe.techniques, "batch")]
    return f"{listed(names)} {'acts' if len(names) == 1 else 'act'} on batches; not shown" if names else ""


class _Folder:
    """A folder that goes when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _made_rows(drawn: Dataset, techniques: Iterable[Technique], ctx: Context) -> tuple[Dataset, dict[str, int]]:
    """The drawn rows through the `rows` hooks, and how many of them each left out."""
    rows, lost = drawn, {}
    for technique in techniques:
        after = technique.rows(rows, ctx)
        lost[technique.name] = len(set(rows["id"][:]) - set(after["id"][:]))
        rows = after
    return rows, lost


def _sifted(techniques: Iterable[Technique], ctx: Context) -> Iterator[tuple[str, dict[str, int]]]:
    """Of each augmentation that leaves variants out, how many and why; generators say so themselves."""
    for technique in techniques:
        if REGISTRY.get(technique.name, "").startswith("hf_smalldata.techniques.augment."):
            facts = ctx.facts.get(technique.name, {})
            if reasons := {reason: count for reason, count in facts.items() if reason != "made" and count}:
                yield technique.name, reasons


def _by_root(rows: Dataset) -> dict[str, list[int]]:
    """Made rows by the real row that they, or the made rows they were made of, come from."""
    found: dict[str, list[int]] = defaultdict(list)
    if "source" not in rows.column_names:
        return found
    parents = rows["parent"][:] if "parent" in rows.column_names else [None] * len(rows)
    parent = dict(zip(rows["id"][:], parents, strict=True))
    for at, (row_id, source) in enumerate(zip(rows["id"][:], rows["source"][:], strict=True)):
        if source is not None:
            root = parent[row_id]
            while root is not None and parent.get(root) is not None:
                root = parent[root]
            found["" if root is None else root].append(at)
    return found


def _held_out(data: Splits, kind: Kind) -> frozenset[Hashable]:
    held = [] if kind in FILES else [rows for rows in (data.validation, data.test) if rows is not None]
    return frozenset(content(row, kind) for rows in held for row in rows)
