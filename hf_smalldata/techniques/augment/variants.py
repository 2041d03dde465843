"""Variants of rows that a model makes: made by one process for all, sifted, and made once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from hf_smalldata.data.made import with_made
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.training.text_embeddings import text_embeddings

logger = logging.getLogger(__name__)

Variant = dict[str, Any]  # `parent`, the id of a row, and those columns that are other than its own, `text` among them


def with_variants(
    technique: Technique,
    train: Dataset,
    ctx: Context,
    min_similarity: float,
    make: Callable[[], tuple[Sequence[Variant], Mapping[str, int]]],
) -> Dataset:
    """Training rows, and behind them the variants that are worth learning from.

    How many were made, and how many were left out and why, goes to `ctx.facts`.

    Args:
        technique: whose name the made rows bear; its settings say what is made.
        train: of which all columns count.
        ctx: of the run; its seed counts.
        min_similarity: see `like_parents`.
        make: variants that JSON can hold, and counts of those that were left out already; called in one process.
    """

    def write(path: Path) -> None:
        with torch.random.fork_rng():  # loading a model draws from it, and the other processes load none
            found, counts = make()
            fresh, facts = distinct(train, found)
            kept = like_parents(train, fresh, ctx.model, min_similarity)
        facts = {"made": len(kept), **facts, **counts, "unlike": len(fresh) - len(kept)}
        path.write_text(json.dumps([kept, facts]), encoding="utf-8")

    settings = f"{technique!r} {ctx.model!r} {ctx.labels!r} {ctx.seed} {train[:]!r}"
    key = hashlib.sha256(settings.encode()).hexdigest()[:16]
    made, facts = json.loads(ctx.once(f"{technique.name}-{key}.json", write).read_text(encoding="utf-8"))
    ctx.facts[technique.name] = facts
    told = ", ".join(f"{count} {name}" for name, count in facts.items())
    if not made:
        logger.warning("%s: had no effect: %s", technique.name, told)
        return train
    logger.info("%s: %s", technique.name, told)
    parents = {row["id"]: row for row in train}
    return with_made(train, [{**parents[each["parent"]], **each} for each in made], technique.name)


def distinct(train: Dataset, variants: Sequence[Variant]) -> tuple[list[Variant], dict[str, int]]:
    """Variants that are like no row and no variant before, and how many were the `same` as one, or `empty`."""
    second = train["text_pair"][:] if "text_pair" in train.column_names else [None] * len(train)
    pairs = dict(zip(train["id"], second, strict=True))
    seen = set(zip(train["text"], second, strict=True))
    kept: list[Variant] = []
    counts: Counter[str] = Counter(same=0, empty=0)
    for variant in variants:
        content = variant["text"], pairs[variant["parent"]]
        if content in seen or not variant["text"].strip():
            counts["same" if variant["text"].strip() else "empty"] += 1
            continue
        seen.add(content)
        kept.append(variant)
    return kept, dict(counts)


def like_parents(train: Dataset, variants: Sequence[Variant], model: ModelSpec, least: float) -> list[Variant]:
    """Variants whose embedding has a cosine of at least `least` with that of the row they were made of.

    Args:
        train: the rows.
        variants: of them.
        model: whose body embeds, as it was pretrained. A sentence encoder tells meanings apart; a plain language model
            puts all texts near each other, so that only gibberish is left out.
        least: 0 lets all pass, and nothing is computed.
    """
    if least == 0 or not variants:
        return list(variants)
    texts = dict(zip(train["id"], train["text"], strict=True))
    parents = list(dict.fromkeys(each["parent"] for each in variants))
    vectors = text_embeddings(model, [*(texts[parent] for parent in parents), *(each["text"] for each in variants)])
    place = {parent: at for at, parent in enumerate(parents)}
    own = vectors[[place[each["parent"]] for each in variants]]  # (V, d)
    cosines = (own * vectors[len(parents) :]).sum(1).tolist()
    return [each for each, cosine in zip(variants, cosines, strict=True) if cosine >= least]
