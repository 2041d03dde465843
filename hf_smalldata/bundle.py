"""An ordinary model folder: saved for stock `transformers.pipeline`, and proven to load there without this package."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from torch import nn

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.tasks.task import Task

TOLERANCE = 1e-4  # of probabilities
MOST_ROWS = 100

# Runs in a fresh interpreter that never sees this package. An adapter is loaded the way peft's own documentation says.
CHECK = """
import json, os, sys, warnings
warnings.filterwarnings("ignore")
import transformers
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
task, auto_class, folder, inputs, arguments, output = sys.argv[1:]
rows = json.load(open(inputs, encoding="utf-8"))
if os.path.exists(os.path.join(folder, "adapter_config.json")):
    from peft import PeftConfig, PeftModel
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, auto_class).from_pretrained(base, config=config, ignore_mismatched_sizes=True)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    part = "tokenizer" if task.startswith("text") else "image_processor"
    classify = transformers.pipeline(task, model=model, **{part: folder})
else:
    classify = transformers.pipeline(task, model=folder)
scores = [classify(row, **json.loads(arguments)) for row in rows]
assert "hf_smalldata" not in sys.modules
json.dump(scores, open(output, "w", encoding="utf-8"))
"""


class ReloadError(RuntimeError):
    """The saved model does not do what the trained one did: a defect, never to be shipped."""


def save(model: nn.Module, processor: Any, folder: Path) -> list[Path]:
    """Save as `save_pretrained` does; adapters merged at the top and apart in `adapter/`. Returns what to prove."""
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)  # type: ignore[operator]
        processor.save_pretrained(folder)
        return [folder]
    adapter = folder / "adapter"
    model.save_pretrained(str(adapter))
    (adapter / "README.md").unlink(missing_ok=True)  # peft's empty card
    merged: Any = model.merge_and_unload()
    merged.save_pretrained(folder)
    merged.config.save_pretrained(adapter)
    for place in (folder, adapter):
        processor.save_pretrained(place)
    return [folder, adapter]


def prove(
    folder: Path, task: Task, inputs: Sequence[Any], expected: np.ndarray, labels: Sequence[str], problem: ProblemType
) -> float:
    """Load the folder by `pipeline(...)` in a fresh process and compare with `expected` (N, C). The largest difference.

    Raises:
        ReloadError: it does not load, or differs by more than 1e-4.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = [_portable(value, place / f"{index}.png") for index, value in enumerate(inputs)]
        (place / "in.json").write_text(json.dumps(rows), encoding="utf-8")
        arguments = dict(task.pipeline_arguments) | ({"top_k": len(labels)} if task.name.startswith("image") else {})
        command = [sys.executable, "-I", "-c", CHECK, task.name, task.model_class, str(folder.resolve()),
                   str(place / "in.json"), json.dumps(arguments), str(place / "out.json")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=name)
        if done.returncode != 0:
            raise ReloadError(f"{folder} does not load with transformers.pipeline:\n{done.stderr[-2000:]}")
        scores = json.loads((place / "out.json").read_text(encoding="utf-8"))
    found = np.array([_ordered(row, labels, problem) for row in scores])
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise ReloadError(f"{folder} reloads to other predictions: they differ by up to {difference:.2g}")
    return difference


def _portable(value: Any, file: Path) -> Any:
    if hasattr(value, "save"):
        value.save(file)
        return str(file)
    return value


def _ordered(row: Any, labels: Sequence[str], problem: ProblemType) -> list[float]:
    """A pipeline's list of {label, score} in the order of our labels."""
    answers = row if isinstance(row, list) else [row]
    if problem == "regression":
        return [answers[0]["score"]]
    scores = {answer["label"]: answer["score"] for answer in answers}
    return [scores[label] for label in labels]
