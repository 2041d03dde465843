"""Joint: rows of other domains are learnt together with the target's, in an even balance of domains.

Helps when a few target rows stand beside hundreds of a related domain: none is forgotten for the other, and each batch
holds about as many of each. Costs an epoch as long as all domains together. Hurts where labels mean other things
elsewhere, or where the repeated target rows are so few that they are learnt by heart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from datasets import Dataset
from pydantic import Field

from hf_smalldata.data.made import with_made
from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Context, Need, Technique

TARGET = ""  # no source is called so


def repeats(counts: Mapping[str, int], balance: float) -> dict[str, int]:
    """How often the rows of each domain are seen in an epoch: (most rows of a domain / its rows) ^ balance, rounded.

    Args:
        counts: rows of each domain.
        balance: 1: domains are alike often; 0: rows are.
    """
    most = max(counts.values())
    return {name: max(1, round((most / count) ** balance)) for name, count in counts.items()}


class Joint(Technique):
    """Source rows behind the training rows, and rows of small domains several times.

    Source rows bear `joint` in the column `source`: what makes variants of real rows makes them of the target's alone.
    """

    name = "joint"
    tasks = ALL_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"source"})
    paper = "https://arxiv.org/abs/1907.05019"

    balance: float = Field(default=1.0, ge=0, le=1)  # 1: domains are seen alike often; 0: rows are

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, repeated ones, and those of the source."""
        if ctx.source is None:
            raise UserError("joint: there are no source rows; set data.source")
        domains: list[str] = ctx.source["domain"][:]
        times = repeats({TARGET: len(train), **Counter(domains)}, self.balance)
        made: list[dict[str, Any]] = [{**row, "parent": row["id"]} for row in train for _ in range(times[TARGET] - 1)]
        made += [dict(row) for row, domain in zip(ctx.source, domains, strict=True) for _ in range(times[domain])]
        ctx.facts[self.name] = {"repeats": {name or "target": count for name, count in times.items()}}
        return with_made(train, made, self.name)
