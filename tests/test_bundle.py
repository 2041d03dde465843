"""What is saved is an ordinary model folder, and a fresh process proves that it does what the trained model did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ResNetConfig, pipeline

from hf_smalldata import bundle
from hf_smalldata.bundle import ReloadError, prove, save, tolerance_of
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.peft.lora import Lora


def trained(kit, network):
    """The network after a step, and its probabilities of the kit's rows."""
    network.train()
    network(**kit.batch()).logits[:, 0].sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.3 * parameter.grad)
        network.eval()
        return network, network(**kit.batch(6)).logits.softmax(-1).numpy()


def inputs(kit):
    return kit.rows.select(range(6))


def in_process(kit, folder: Path) -> np.ndarray:
    more = {"truncation": True} if kit.task.kind == "text" else {}
    given = kit.task.pipeline_inputs(inputs(kit), kit.processor)
    answers = pipeline(kit.task.pipeline_tag, model=str(folder))(given, top_k=3, **more)
    return np.array([[{a["label"]: a["score"] for a in answer}[label] for label in kit.labels] for answer in answers])


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_a_full_model_is_saved_as_an_ordinary_folder(modality, kits, tmp_path):
    kit = kits[modality]
    network, expected = trained(kit, kit.network())
    assert save(network, kit.processor, tmp_path) == [tmp_path]
    assert {"config.json", "model.safetensors"} <= {file.name for file in tmp_path.iterdir()}
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == dict(zip("012", kit.labels, strict=True))
    np.testing.assert_allclose(in_process(kit, tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["plain", "rslora", "dora"])
@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_adapters_are_merged_at_the_top_and_kept_apart(modality, more, kits, tmp_path):
    kit = kits[modality]
    network, expected = trained(kit, Lora(dropout=0.0, **more).model(kit.network(), kit.context()))
    assert save(network, kit.processor, tmp_path) == [tmp_path, tmp_path / "adapter"]
    assert not any("lora_" in name for name in load_file(tmp_path / "model.safetensors"))
    np.testing.assert_allclose(in_process(kit, tmp_path), expected, atol=1e-5)
    adapter = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json"} <= adapter
    assert "README.md" not in adapter


@pytest.mark.skipif(os.name != "posix", reason="of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_weights_are_readable_for_whom_the_other_files_are(mask, kits, tmp_path):
    kit = kits["text-classification"]
    network, _ = trained(kit, Lora(dropout=0.0, init="pissa").model(kit.network(), kit.context()))
    before = os.umask(mask)
    try:
        save(network, kit.processor, tmp_path)
    finally:
        os.umask(before)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"model.safetensors", "adapter_model.safetensors"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_a_saved_model_is_proven(modality, kits, tmp_path):
    kit = kits[modality]
    network, expected = trained(kit, kit.network())
    save(network, kit.processor, tmp_path)
    assert prove(tmp_path, kit.task, kit.processor, inputs(kit), expected, kit.labels) < 1e-5


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_both_folders_of_an_adapter_are_proven(modality, kits, tmp_path):
    kit = kits[modality]
    network, expected = trained(kit, Lora(dropout=0.0).model(kit.network(), kit.context()))
    for made in save(network, kit.processor, tmp_path):
        assert prove(made, kit.task, kit.processor, inputs(kit), expected, kit.labels) < 1e-5


def test_adapters_in_the_weights_may_round_otherwise(text):
    plain, adapted = text.network(), Lora().model(text.network(), text.context())
    assert tolerance_of(plain) == 1e-4
    assert tolerance_of(adapted) == 1e-3


def test_a_tampered_adapter_is_found(text, tmp_path):
    network, expected = trained(text, Lora(dropout=0.0).model(text.network(), text.context()))
    _, adapter = save(network, text.processor, tmp_path)
    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_B" in name)
    save_file({**weights, name: torch.randn_like(weights[name])}, adapter / "adapter_model.safetensors")
    with pytest.raises(ReloadError, match="reloads to other predictions"):
        prove(adapter, text.task, text.processor, inputs(text), expected, text.labels)


def test_a_tampered_weight_is_found(text, tmp_path):
    network, expected = trained(text, text.network())
    save(network, text.processor, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"] + 0.1 * torch.randn(3, 32)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ReloadError, match=f"^{tmp_path} reloads to other predictions: they differ by up to 0."):
        prove(tmp_path, text.task, text.processor, inputs(text), expected, text.labels)


def test_labels_that_changed_places_are_found(text, tmp_path):
    network, expected = trained(text, text.network())
    network.config.id2label = dict(enumerate(reversed(text.labels)))
    save(network, text.processor, tmp_path)
    with pytest.raises(ReloadError, match="reloads to other predictions"):
        prove(tmp_path, text.task, text.processor, inputs(text), expected, text.labels)


def test_a_prediction_that_is_not_a_number_proves_nothing(text, tmp_path):
    network, expected = trained(text, text.network())
    save(network, text.processor, tmp_path)
    expected[0, 0] = np.nan
    with pytest.raises(ReloadError):
        prove(tmp_path, text.task, text.processor, inputs(text), expected, text.labels)


def test_adapters_of_a_convolutional_network_reload_by_a_fresh_process(image, classifier, tmp_path, fresh_process):
    """Base model, adapter and head come together, and statistics of norms did not move."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3,
                          id2label=dict(enumerate(image.labels)))  # fmt: skip
    base = tmp_path / "base"
    classifier(config).save_pretrained(base)
    shutil.copy(image.folder / "preprocessor_config.json", base)
    network = type(classifier(config)).from_pretrained(base)
    network, expected = trained(image, Lora(dropout=0.0).model(network, image.context()))
    _, adapter = save(network, image.processor, tmp_path / "made")
    assert prove(adapter, image.task, image.processor, inputs(image), expected, image.labels) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["token-classification", "audio-classification", "sequence-classification"])
def test_models_of_other_modalities_reload_by_a_fresh_process(modality, kits, sources, tmp_path, fresh_process):
    recipe = Recipe.parse({"task": modality, "data": sources[modality], "model": {"name": str(kits[modality].folder)},
                           "train": {"num_train_epochs": 1}})  # fmt: skip
    assert train(recipe, tmp_path / "run").metrics["runs"][0]["reload"]["."] < 1e-4


def test_a_folder_that_does_not_load_is_a_defect_with_its_traceback(text, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "OSError: no file named model.safetensors")
    monkeypatch.setattr(bundle, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    with pytest.raises(ReloadError, match=r"does not load with transformers\.pipeline:\nOSError: no file named"):
        prove(tmp_path, text.task, text.processor, inputs(text), np.zeros((6, 3)), text.labels)
