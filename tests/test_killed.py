"""Commands that are killed (SIGKILL) at any moment: what they make is there whole or not at all, and the same command
finishes the work. `HF_SMALLDATA_KILLS=20 scripts/test -m slow tests/test_killed.py` kills each as often.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hf_smalldata.errors import UserError
from hf_smalldata.run import Run
from hf_smalldata.study import Study
from hf_smalldata.testing import TOPICS, image_folder, text_rows, tiny_image_model, tiny_text_model
from hf_smalldata.whole import alone

KILLS = int(os.environ.get("HF_SMALLDATA_KILLS", "4"))
ANY = {"agreement": False, "max_similarity": 1.0}  # rows of a tiny teacher's making
LATEST = 0.98  # of the time that a whole run takes


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    tiny_text_model(folder / "bert")
    tiny_image_model(folder / "vit")
    rows = text_rows(8)
    labels = [list(TOPICS)[label] for label in rows["label"]]
    pd.DataFrame({"text": rows["text"], "label": labels}).to_csv(folder / "rows.csv", index=False)
    image_folder(folder / "photos", 6)
    texts = {"task": "text-classification", "data": {"train": str(folder / "rows.csv")},
             "model": {"name": str(folder / "bert")}, "train": {"num_train_epochs": 4}, "seeds": [0, 1]}  # fmt: skip
    images = {"task": "image-classification", "data": {"name": str(folder / "photos")},
              "model": {"name": str(folder / "vit")}, "train": {"num_train_epochs": 1},
              "techniques": [{"vae": {"steps": 150, "channels": 8, "side": 16, "keep": ANY}}]}  # fmt: skip
    for name, recipe in (("texts", texts), ("images", images)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def started(words: list[object], cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_ASSETS_CACHE": str(cwd / "assets")}
    call = [sys.executable, "-m", "hf_smalldata", *map(str, words)]
    return subprocess.Popen(call, cwd=cwd, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip


def assert_whole(command: str, output: Path) -> None:
    """Each thing that is there under its own name can be read as what it is."""
    if command == "train" and output.exists():
        assert set(Run(output).metrics["results"]) >= {"model"}
        assert (output / "model.safetensors").is_file()
    if command == "synthesize" and output.exists():
        lines = (output / "provenance.jsonl").read_text().splitlines()
        assert lines
        assert all(json.loads(line) for line in lines)
        assert json.loads((output / "quality.json").read_text())
    if command == "study":
        for found in output.glob("runs/*/*/smalldata/metrics.json"):
            assert json.loads(found.read_text())["results"]
            assert len(pd.read_parquet(found.with_name("predictions.parquet")))
        if (output / "results.json").exists():
            assert Study(output).results["results"]


WORDS = {
    "train": ["texts.yaml", "--output"],
    "study": ["texts.yaml", "--ablate", "techniques=[label_smoothing]", "--output"],
    "synthesize": ["images.yaml", "--per-class", "3", "--out"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", WORDS)
def test_whenever_a_command_is_killed_its_output_is_whole_or_absent_and_the_same_command_finishes(
    command, place, tmp_path
):
    words = [command, *WORDS[command]]
    words[1] = place / words[1]
    begun = time.monotonic()
    first = started([*words, tmp_path / "first"], tmp_path)
    said, _ = first.communicate(timeout=600)
    assert first.returncode == 0, said
    seconds = time.monotonic() - begun
    rng = np.random.default_rng()
    for at in range(KILLS):
        output, moment = tmp_path / f"out{at}", rng.uniform(0.3, LATEST) * seconds
        running = started([*words, output], tmp_path)
        time.sleep(moment)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        assert_whole(command, output)
        if command != "study" and output.exists():
            continue  # it was done already
        again = started([*words, output], tmp_path)
        said, _ = again.communicate(timeout=600)
        assert again.returncode == 0, f"killed after {moment:.2f} s: {said}"
        assert_whole(command, output)
        left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
        assert left == set(), f"killed after {moment:.2f} s"


def test_two_commands_do_not_write_one_output_and_a_killed_one_is_no_obstacle(tmp_path):
    target = tmp_path / "run"
    code = f"import pathlib, time\nfrom hf_smalldata.whole import alone\nwith alone(pathlib.Path({str(target)!r})):\n" \
           "    print('in', flush=True)\n    time.sleep(60)"  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with pytest.raises(UserError, match="run: another process is writing it; wait"), alone(target):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    for same in (tmp_path / "link" / "run", tmp_path / "link" / ".." / tmp_path.name / "run"):
        with pytest.raises(UserError, match="another process"), alone(same):
            pass
    (tmp_path / "link").unlink()
    with alone(tmp_path / "elsewhere"), alone(target, main=False):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with alone(target):
        pass
    with alone(target):
        pass
    assert list(tmp_path.iterdir()) == []
