"""What was published works for others: loaded by id over HTTP in a process that has only the Hub's address."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from hf_smalldata.testing import TOPICS, tiny_text_model

TEXTS = ["the cat saw a dog", "rice and soup", "then the snow was very cloud"]

# Each a user of their own: trains and publishes; loads the model; loads the adapter alone.
TRAIN = """
import sys
from hf_smalldata.cli import main
for words in (["train", "recipe.yaml", "--output", "run"],
              ["publish", "run", "--repo", "me/adapter", "--adapter-only", "--yes"]):
    sys.argv = ["hf-smalldata", *words]
    try:
        main()
    except SystemExit as left:
        assert left.code in (0, None), words
"""
REFUSED = """
import sys
from hf_smalldata.cli import main
for name in ("me/gated", "me/private"):
    sys.argv = ["hf-smalldata", "train", "recipe.yaml", "publish=null", f"model.name={name}", "--output", "run"]
    try:
        main()
    except SystemExit as left:
        assert left.code == 2
"""
LOAD = """
import json, re, sys
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification
texts, found = json.loads(sys.argv[1]), {}
for name in ("me/whole", "me/adapter"):
    exec(re.search("```python\\n(.*?)```", ModelCard.load(name).text, re.DOTALL)[1])  # as its card says
    found[name] = [{each["label"]: each["score"] for each in answer} for answer in classify(texts, top_k=None)]
model = AutoModelForSequenceClassification.from_pretrained("me/whole")
found["labels"] = sorted(model.config.id2label.values())
print(json.dumps(found))
"""


@pytest.fixture
def process(tmp_path):
    """Code and its arguments -> a finished process whose Hub is the small one."""

    def run(hub, code, *words, token=""):
        keys = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
        environment = {key: value for key, value in os.environ.items() if key not in keys}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / f"home-{bool(token)}"),
                        "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
        environment |= {"HF_TOKEN": token} if token else {}
        return subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=False)  # fmt: skip

    return run


@pytest.fixture
def filled(hub_server, tmp_path, topics):
    """A Hub with a base model, and a recipe that trains it and says where the result goes."""
    base = tiny_text_model(tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: mit\n---\n")
    recipe = {"task": "text-classification", "data": {"name": str(topics)}, "model": {"name": "me/base"},
              "techniques": ["lora"], "train": {"num_train_epochs": 2, "learning_rate": 1e-2},
              "publish": {"repo": "me/whole"}}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    hub = hub_server.Hub()
    hub.repos["me/base"] = hub_server.Repo(False, files={file.name: file.read_bytes() for file in base.iterdir()})
    with hub.running():
        yield hub


@pytest.mark.slow
def test_a_recipe_publishes_and_model_and_adapter_load_by_their_ids(process, filled, hub_server, tmp_path):
    done = process(filled, TRAIN, token=hub_server.TOKEN)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"adapter/adapter_model.safetensors", "model.safetensors"} <= set(filled.repos["me/whole"].files)
    data = ModelCard(filled.repos["me/adapter"].files["README.md"].decode()).data
    assert (data.base_model, data.base_model_relation, data.license) == ("me/base", "adapter", "mit")
    done = process(filled, LOAD, json.dumps(TEXTS))  # without a token
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    values = {
        name: np.array([[a[key] for key in sorted(a)] for a in found[name]]) for name in ("me/whole", "me/adapter")
    }
    np.testing.assert_allclose(values["me/adapter"], values["me/whole"], atol=1e-5)
    assert found["labels"] == sorted(TOPICS)
    assert np.ptp(values["me/whole"], axis=0).max() > 1e-3


@pytest.mark.slow
def test_a_gated_or_private_model_without_a_token_is_one_clear_message(process, filled, hub_server, tmp_path):
    files = filled.repos["me/base"].files
    filled.repos["me/gated"] = hub_server.Repo(False, gated=True, files=files)
    filled.repos["me/private"] = hub_server.Repo(True, files=files)
    done = process(filled, REFUSED)
    assert done.returncode == 0, done.stderr[-2000:]
    gated, private = done.stderr.strip().splitlines()
    assert gated.startswith(
        "error: model.name: me/gated is gated; accept its terms on its page, then log in with `hf auth"
    )
    assert private.startswith("error: model.name: me/private was not found")
    assert "(after `hf auth login` if it is private)" in private
    assert not (tmp_path / "run").exists()
