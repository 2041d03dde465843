"""One live view of a study: Runs done of all, time left, and the best so far with its interval."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from hf_smalldata.evaluation.intervals import t_interval
from hf_smalldata.evaluation.metrics import greater_is_better, within_range
from hf_smalldata.study.plan import Cell, describe


class Progress:
    """A bar; on no terminal a line for each Run. Subclasses show it in other ways."""

    def __init__(self) -> None:
        self.total, self.done, self.made, self.began = 0, 0, 0, time.monotonic()
        self.metric = ""
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, total: int, done: int) -> None:
        """Runs in all, of which some were there already."""
        self.total, self.done = total, done
        self.bar = tqdm(total=total, initial=done, unit="run", desc="study", disable=None, dynamic_ncols=True)

    def note(self, cell: Cell, metrics: dict[str, Any]) -> None:
        """A Run that is there counts for the best so far."""
        self.metric = metrics["main_metric"]
        self.values[cell.variant, cell.budget].append(metrics["results"]["model"][self.metric]["value"])

    def finished(self, cell: Cell, metrics: dict[str, Any]) -> None:
        """A Run was made."""
        value = self._count(cell, metrics)
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(self.best(), refresh=False)
            self.bar.update()
        else:
            print(f"{self.done}/{self.total}  {cell}: {self.metric} {value:.3f}; {self.best()}; "
                  f"{self.left():.0f} s left", file=sys.stderr, flush=True)  # fmt: skip

    def failed(self, cell: Cell, reason: str) -> None:
        """A Run could not be made."""
        tqdm.write(f"{cell}: {reason}", file=sys.stderr)

    def best(self) -> str:
        """The variant and budget with the best mean so far."""
        sign = 1 if greater_is_better(self.metric) else -1
        (variant, budget), values = max(self.values.items(), key=lambda item: sign * sum(item[1]) / len(item[1]))
        return f"best: {variant}, {describe(budget)} {within_range(t_interval(values), self.metric)}"

    def left(self) -> float:
        """Seconds that the Runs to come will take, if they take as long as those made so far."""
        return (time.monotonic() - self.began) / self.made * (self.total - self.done)

    def _count(self, cell: Cell, metrics: dict[str, Any]) -> float:
        """One Run more; its value."""
        self.note(cell, metrics)
        self.done, self.made = self.done + 1, self.made + 1
        return self.values[cell.variant, cell.budget][-1]


class Quiet(Progress):
    """Nothing but what went wrong."""

    def start(self, total: int, done: int) -> None:
        """Says nothing."""
        self.total, self.done = total, done

    def finished(self, cell: Cell, metrics: dict[str, Any]) -> None:
        """Says nothing."""


class Lines(Progress):
    """One JSON object a line on standard output, for programs: `start`, `run`, `failed`."""

    def start(self, total: int, done: int) -> None:
        """{"event": "start", "runs", "done"}."""
        self.total, self.done = total, done
        self._say({"event": "start", "runs": total, "done": done})

    def finished(self, cell: Cell, metrics: dict[str, Any]) -> None:
        """{"event": "run", the cell, its main metric, "done", "runs", "seconds_left"}."""
        value = self._count(cell, metrics)
        self._say({"event": "run", **vars(cell), self.metric: value, "done": self.done, "runs": self.total,
                   "seconds_left": round(self.left(), 1)})  # fmt: skip

    def failed(self, cell: Cell, reason: str) -> None:
        """{"event": "failed", the cell, "reason"}."""
        self._say({"event": "failed", **vars(cell), "reason": reason})

    def _say(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)
