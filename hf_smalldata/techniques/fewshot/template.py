"""Class names as phrases: what reads names in place of labels needs names that mean something."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_smalldata.errors import UserError, listed

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def filled(template: str, labels: Sequence[str]) -> list[str]:
    """The template with each name in place of its {}; underscores become blanks.

    Raises:
        UserError: no {} in the template, or names that are numbers, which say nothing of their class.
    """
    if "{}" not in template:
        raise UserError(f"template: expected {{}} where the class name goes, got {template!r}")
    numbers = [label for label in labels if NUMBER.fullmatch(label.strip())]
    if numbers:
        raise UserError(f"template: expected class names in words, found the numbers {listed(numbers)}, which say "
                        "nothing of what they stand for; write names into the label column (such as positive and "
                        "negative), or leave out the technique that reads them")  # fmt: skip
    return [template.replace("{}", " ".join(label.replace("_", " ").split())) for label in labels]
