"""An ordinary model folder: saved for stock `transformers.pipeline`, and proven to load there without this package."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_smalldata.tasks.pretrained import reloaded
from hf_smalldata.tasks.task import Predictions, Task

TOLERANCE = 1e-4  # of probabilities
MERGED_TOLERANCE = 1e-3  # where adapters are summed into the weights: in a deep network the rounding shows
MOST_ROWS = 100
INITIAL_ADAPTER = "initial_adapter"  # attribute of an adapted network: the adapter as it took weights out of the base
PREFIX = "base_model.model."  # of names in an adapted network

logger = logging.getLogger(__name__)

# Runs in a fresh interpreter that never sees this package. An adapter is loaded the way peft's own documentation says.
CHECK = """
import json, os, sys, warnings
warnings.filterwarnings("ignore")
import transformers
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
task, auto_class, part, folder, inputs, arguments, output, trusted = sys.argv[1:]
trusts = {"trust_remote_code": trusted == "trusted"}
rows = json.load(open(inputs, encoding="utf-8"))
if rows and str(rows[0]).endswith(".npy"):
    import numpy
    rows = [numpy.load(row) for row in rows]
if os.path.exists(os.path.join(folder, "adapter_config.json")):
    from peft import PeftConfig, PeftModel
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    config = transformers.AutoConfig.from_pretrained(folder, **trusts)
    auto = getattr(transformers, auto_class)
    model = auto.from_pretrained(base, config=config, ignore_mismatched_sizes=True, **trusts)
    model = PeftModel.from_pretrained(model, folder)
    # Networks that pad as TensorFlow does ask a convolution for its stride, which peft's layer does not tell.
    model = model.merge_and_unload() if getattr(config, "tf_padding", False) else model.get_base_model()
    processors = {"tokenizer": "AutoTokenizer", "image_processor": "AutoImageProcessor",
                  "feature_extractor": "AutoFeatureExtractor"}
    processor = getattr(transformers, processors[part]).from_pretrained(folder, **trusts)
    classify = transformers.pipeline(task, model=model, **{part: processor})
else:
    classify = transformers.pipeline(task, model=folder, **trusts)
scores = [classify(row, **json.loads(arguments)) for row in rows]
assert "hf_smalldata" not in sys.modules
json.dump(scores, open(output, "w", encoding="utf-8"), default=float)
"""


class ReloadError(RuntimeError):
    """The saved model does not do what the trained one did: a defect, never to be shipped."""


def save(model: nn.Module, processor: Any, folder: Path) -> list[Path]:
    """Save as `save_pretrained` does; adapters merged at the top and apart in `adapter/`. Returns what to prove.

    An adapter alone is of use only where the network below it is that of the checkpoint it names.
    """
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)  # type: ignore[operator]
        processor.save_pretrained(folder)
        share_weights(folder)
        return [folder]
    places = [folder]
    if stands_on_checkpoint(model):
        places.append(_save_adapter(model, folder / "adapter"))
    else:
        logger.info("the adapter alone is not saved: the network below it is not as its checkpoint has it")
    merged = _merged(model)
    for place in places:
        (merged if place == folder else merged.config).save_pretrained(place)
        processor.save_pretrained(place)
        share_weights(place)
    return places


def share_weights(folder: Path) -> None:
    """Let all read the weights who may read config.json beside them: safetensors writes for the owner alone."""
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json").stat().st_mode)


def stands_on_checkpoint(model: PeftModel) -> bool:
    """Whether the frozen weights below an adapter are those of the checkpoint, which is read once more."""
    base: Any = model.get_base_model()
    if not base.name_or_path:
        return False
    fresh = reloaded(base).state_dict()
    start = getattr(model, INITIAL_ADAPTER, {})  # parts of these layers' weights are in the adapter
    kept = {name.replace(".base_layer.", "."): tensor for name, tensor in base.state_dict().items()}
    parts = {name.removeprefix(PREFIX).partition(".lora_")[0] + ".weight" for name in start}
    return all(torch.equal(kept[name].cpu(), tensor) for name, tensor in fresh.items()
               if name in kept and name not in parts)  # fmt: skip


def _save_adapter(model: PeftModel, folder: Path) -> Path:
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card
    if start := getattr(model, INITIAL_ADAPTER, {}):
        state = _as_update(get_peft_model_state_dict(model), start)
        save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config: Any = copy.copy(model.peft_config["default"])
        config.r, config.init_lora_weights, config.inference_mode = 2 * config.r, True, True
        config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the same factor for twice the rank
        config.save_pretrained(str(folder))
    return folder


def _as_update(state: dict[str, Tensor], start: dict[str, Tensor]) -> dict[str, Tensor]:
    """An adapter that took weights out of the base, as what it adds to them: B A - B0 A0 = [B, -B0] [A; A0].

    peft's own conversion leaves the head out (0.21).
    """
    found = dict(state)
    for name, first in start.items():
        if ".lora_A." in name:
            found[name] = torch.cat([state[name], first.to(state[name])], dim=0).contiguous()
        elif ".lora_B." in name:
            found[name] = torch.cat([state[name], -first.to(state[name])], dim=1).contiguous()
    return found


def _merged(model: PeftModel) -> Any:
    """The network as it was built, with its adapters in the weights."""
    base: Any = model.get_base_model()
    for name, module in list(base.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # of which some adapters of peft merge those with a `weight` only
            base.set_submodule(name, module.modules_to_save["default"])
    return model.merge_and_unload()


def prove(
    folder: Path, task: Task, processor: Any, rows: Dataset, expected: Predictions, labels: Sequence[str],
    trusts: bool = False, tolerance: float = TOLERANCE,
) -> float:  # fmt: skip
    """Load the folder by `pipeline(...)` in a fresh process and compare what it makes of rows. The largest difference.

    Args:
        folder: as `save` left it.
        task: of the model.
        processor: as it was saved.
        rows: some rows, none longer than the model takes.
        expected: our predictions for them.
        labels: C names; () for regression.
        trusts: whether the model's own code may run, as the recipe's `trust_remote_code` says.
        tolerance: largest difference of a probability; see `tolerance_of`.

    Raises:
        ReloadError: it does not load, or differs by more.
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
                   str(place / "out.json"), "trusted" if trusts else ""]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=name)
        if done.returncode != 0:
            raise ReloadError(f"{folder} does not load with transformers.pipeline:\n{done.stderr[-2000:]}")
        answers = json.loads((place / "out.json").read_text(encoding="utf-8"))
    found = task.read(answers, rows, labels)
    difference = float(np.max([_difference(one, two) for one, two in zip(found, expected, strict=True)]))
    if not difference <= tolerance:
        raise ReloadError(f"{folder} reloads to other predictions: they differ by up to {difference:.2g}")
    return difference


def tolerance_of(model: nn.Module) -> float:
    """How far a saved model's probabilities may lie from those of the model in memory."""
    return MERGED_TOLERANCE if isinstance(model, PeftModel) else TOLERANCE


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
