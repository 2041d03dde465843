"""Class names as phrases: what reads names in place of labels needs names that mean something."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasets import Dataset, concatenate_datasets

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


def with_names(rows: Dataset, labels: Sequence[str], template: str) -> Dataset:
    """Texts with one more for each class: its name in the template. A pair has no second text there."""
    names = filled(template, labels)
    made = {"id": [f"label:{at}" for at in range(len(names))], "text": names, "label": list(range(len(names)))}
    columns = {name: made.get(name, [""] * len(names)) for name in ("id", "text", "text_pair", "label")}
    kept = [name for name in columns if name in rows.column_names]
    added = Dataset.from_dict({name: columns[name] for name in kept}, features=rows.select_columns(kept).features)
    return concatenate_datasets([rows.select_columns(kept), added])
