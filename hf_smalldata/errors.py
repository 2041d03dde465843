"""Errors a user can mend, and the words they are told in.

Every message says what was expected, what was found and what to do. The command line prints a `UserError` without a
traceback and exits with code 2; anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType


class UserError(Exception):
    """Something in the user's input is wrong: one clear message, no traceback, exit code 2."""


class Problems(UserError):
    """All problems of one input at once, a line each.

    Args:
        where: what was read, e.g. a file name.
        problems: one sentence a problem, at least one.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in {where}:", *(f"  {problem}" for problem in self.problems)]))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'lora'?` for the nearest of `names`, or the names themselves when none is near.

    Used as the tail of a message: `f"unknown technique 'lorra'{did_you_mean('lorra', known)}"`.
    """
    known = sorted(map(str, names))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def listed(items: Sequence[object], most: int = 20) -> str:
    """`a, b, c and 4 more`: items by name, never more than `most` of them."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def spoken(facts: Mapping[str, object], most: int = 20) -> str:
    """`penalty 0.3, cv loss 0.197`: named values as a log tells them, numbers to three digits, dicts in brackets."""
    return listed([f"{name.replace('_', ' ')} {_value(value)}" for name, value in facts.items()], most)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({spoken(value)})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Raises:
        UserError: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".", maxsplit=1)[0]
        if error.name != package:
            raise
        raise UserError(f"{package} is not installed; run: pip install 'hf_smalldata[{extra}]'") from None
