"""An ordinary model folder: saved for stock `transformers.pipeline`, and proven to load there without this package."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel
from torch import nn

from hf_smalldata.tasks.task import RESHAPED, Predictions, Task

TOLERANCE = 1e-4  # of probabilities
MOST_ROWS = 100

logger = logging.getLogger(__name__)

# Runs in a fresh interpreter that never sees this package. An adapter is loaded the way peft's own documentation says.
CHECK = """
import json, os, sys, warnings
warnings.filterwarnings("ignore")
import transformers
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
task, auto_class, part, folder, inputs, arguments, output = sys.argv[1:]
rows = json.load(open(inputs, encoding="utf-8"))
if rows and str(rows[0]).endswith(".npy"):
    import numpy
    rows = [numpy.load(row) for row in rows]
if os.path.exists(os.path.join(folder, "adapter_config.json")):
    from peft import PeftConfig, PeftModel
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, auto_class).from_pretrained(base, config=config, ignore_mismatched_sizes=True)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    processors = {"tokenizer": "AutoTokenizer", "image_processor": "AutoImageProcessor",
                  "feature_extractor": "AutoFeatureExtractor"}
    processor = getattr(transformers, processors[part]).from_pretrained(folder)
    classify = transformers.pipeline(task, model=model, **{part: processor})
else:
    classify = transformers.pipeline(task, model=folder)
scores = [classify(row, **json.loads(arguments)) for row in rows]
assert "hf_smalldata" not in sys.modules
json.dump(scores, open(output, "w", encoding="utf-8"), default=float)
"""


class ReloadError(RuntimeError):
    """The saved model does not do what the trained one did: a defect, never to be shipped."""


def save(model: nn.Module, processor: Any, folder: Path) -> list[Path]:
    """Save as `save_pretrained` does; adapters merged at the top and apart in `adapter/`. Returns what to prove."""
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)  # type: ignore[operator]
        processor.save_pretrained(folder)
        return [folder]
    if getattr(model.get_base_model(), RESHAPED, False):
        logger.info("the adapter alone is not saved: at another input size it does not fit the checkpoint it is for")
        merged: Any = model.merge_and_unload()
        merged.save_pretrained(folder)
        processor.save_pretrained(folder)
        return [folder]
    adapter = folder / "adapter"
    model.save_pretrained(str(adapter))
    (adapter / "README.md").unlink(missing_ok=True)  # peft's empty card
    merged = model.merge_and_unload()
    merged.save_pretrained(folder)
    merged.config.save_pretrained(adapter)
    for place in (folder, adapter):
        processor.save_pretrained(place)
    return [folder, adapter]


def prove(
    folder: Path, task: Task, processor: Any, rows: Dataset, expected: Predictions, labels: Sequence[str]
) -> float:
    """Load the folder by `pipeline(...)` in a fresh process and compare what it makes of rows. The largest difference.

    Args:
        folder: as `save` left it.
        task: of the model.
        processor: as it was saved.
        rows: some rows, none longer than the model takes.
        expected: our predictions for them.
        labels: C names; () for regression.

    Raises:
        ReloadError: it does not load, or differs by more than 1e-4.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        inputs = []
        for at in range(len(rows)):  # one decoded file in memory at a time
            (value,) = task.pipeline_inputs(rows.select([at]), processor)
            inputs.append(_portable(value, place / str(at)))
        (place / "in.json").write_text(json.dumps(inputs), encoding="utf-8")
        command = [sys.executable, "-I", "-c", CHECK, task.pipeline_tag, task.model_class, task.processor_argument,
                   str(folder.resolve()), str(place / "in.json"), json.dumps(all_scores(task, labels)),
                   str(place / "out.json")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=name)
        if done.returncode != 0:
            raise ReloadError(f"{folder} does not load with transformers.pipeline:\n{done.stderr[-2000:]}")
        answers = json.loads((place / "out.json").read_text(encoding="utf-8"))
    found = task.read(answers, rows, labels)
    difference = float(np.max([_difference(one, two) for one, two in zip(found, expected, strict=True)]))
    if not difference <= TOLERANCE:
        raise ReloadError(f"{folder} reloads to other predictions: they differ by up to {difference:.2g}")
    return difference


def _difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Largest difference where `found` tells a score; NaN, which no tolerance takes, where `expected` is no number."""
    told = ~np.isnan(found)
    return float(np.abs(found[told] - expected[told]).max()) if np.isfinite(expected).all() else float("nan")


def all_scores(task: Task, labels: Sequence[str]) -> dict[str, Any]:
    """Arguments of a pipeline call that gives the score of every label."""
    arguments = dict(task.pipeline_arguments)
    return {**arguments, "top_k": len(labels)} if task.kind in ("image", "audio") else arguments


def _portable(value: Any, file: Path) -> Any:
    """An input as JSON has it; images and waveforms as the path of a file."""
    if isinstance(value, np.ndarray):
        np.save(file.with_suffix(".npy"), value)
        return str(file.with_suffix(".npy"))
    if hasattr(value, "save"):
        value.save(file.with_suffix(".png"), compress_level=1)
        return str(file.with_suffix(".png"))
    return value
