"""The scripts for SLURM clusters, on two nodes that are both this machine: `srun` starts its command for each."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hf_smalldata.run import Run
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model

ROOT = Path(__file__).parents[1]
# Of --nodes, --nodelist and --exclude only which nodes they mean is looked at.
SRUN = """#!/usr/bin/env bash
trap 'kill $(jobs -p)' TERM
nodes="0 1"
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --nodelist) nodes="0"; shift ;;
    --exclude) nodes="1"; shift ;;
  esac
  shift
done
for node in $nodes; do SLURM_NODEID=$node "$@" & done
status=0
for job in $(jobs -p); do wait "$job" || status=$?; done
exit $status
"""
SCONTROL = "#!/usr/bin/env bash\necho 127.0.0.1\necho 127.0.0.2\n"


@pytest.fixture
def submitted(tmp_path):
    """A script and its words -> what it says; it must succeed."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(script: str, *words: object) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "SLURM_JOB_NODELIST": "a[1-2]", "SLURM_NNODES": "2",
                       "MAIN_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
                       "HF_HUB_OFFLINE": "1"}  # fmt: skip
        call = ["bash", str(ROOT / "scripts" / "slurm" / script), *map(str, words)]
        with (tmp_path / "job.log").open("w") as log:
            job = subprocess.Popen(call, cwd=tmp_path, env=environment, start_new_session=True, stdout=log, stderr=log)
            try:
                job.wait(timeout=300)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGTERM)  # as SLURM ends all steps of a job
        said = (tmp_path / "job.log").read_text()
        assert job.returncode == 0, said
        return said

    return run


@pytest.fixture
def recipe(tmp_path):
    tiny_text_model(tmp_path / "bert")
    rows = text_rows(8)
    labels = [list(TOPICS)[label] for label in rows["label"]]
    pd.DataFrame({"text": rows["text"], "label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    content = {"task": "text-classification", "data": {"train": str(tmp_path / "rows.csv")},
               "model": {"name": str(tmp_path / "bert")},
               "train": {"num_train_epochs": 1, "ddp_backend": "gloo"}}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
def test_one_training_on_two_nodes(submitted, recipe, tmp_path):
    said = submitted("train.sbatch", recipe, "--output", tmp_path / "run")
    assert said.count("saved and proven to reload") == 1
    assert json.loads(Run.open(tmp_path / "run").part("environment.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
def test_one_study_on_two_nodes(submitted, recipe, tmp_path):
    submitted("study.sbatch", recipe, "--seeds", "0,1", "--output", tmp_path / "study")
    assert len(list((tmp_path / "study").glob("runs/*/*/smalldata/cell.json"))) == 2
    assert (tmp_path / "study" / "report.html").is_file()


@pytest.mark.parametrize("script", ["train.sbatch", "study.sbatch"])
def test_without_a_recipe_they_say_how_they_are_called(script):
    done = subprocess.run(["bash", ROOT / "scripts" / "slurm" / script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"sbatch scripts/slurm/{script} RECIPE" in done.stderr
