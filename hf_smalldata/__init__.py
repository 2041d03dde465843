"""hf_smalldata: a few labelled rows and a pretrained Hugging Face model in; a model of known quality out.

What is named below is imported when first used, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_smalldata.augmentation import variants
    from hf_smalldata.errors import UserError
    from hf_smalldata.pipeline import train
    from hf_smalldata.prediction import predict
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.run import Run
    from hf_smalldata.technique import Technique

# Nothing is sent anywhere unless the user publishes.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "Technique", "UserError", "predict", "train", "variants"]

_HOME = {"Recipe": "recipe", "Run": "run", "Technique": "technique", "UserError": "errors", "predict": "prediction",
         "train": "pipeline", "variants": "augmentation"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hf_smalldata' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hf_smalldata.{_HOME[name]}"), name)
