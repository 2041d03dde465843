"""A model that was trained for one task is the start of another: body always, head where the labels are the same."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_smalldata.nn.fold import has_pooling
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.relabel import by_label
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.fewshot.pooling import Pooling

BOTH = ["text-classification", "image-classification"]
PROBLEM = "single_label_classification"


def logits(model, kit) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(**kit.batch(6)).logits


@pytest.fixture
def saved(tmp_path):
    """Saves a network of a kit as a Run has it at its top."""

    def save(kit, network):
        network.save_pretrained(tmp_path / "run")
        kit.processor.save_pretrained(tmp_path / "run")
        return ModelSpec(name=str(tmp_path / "run"))

    return save


def load(kit, spec, labels):
    return kit.task.load_model(spec, labels, PROBLEM)


@pytest.mark.parametrize("modality", BOTH)
def test_the_head_is_kept_by_the_names_of_labels_whatever_their_order(modality, kits, saved, caplog):
    kit = kits[modality]
    network = kit.network()
    turned = [kit.labels[at] for at in (2, 0, 1)]
    with caplog.at_level(logging.INFO):
        again = load(kit, saved(kit, network), turned)
    torch.testing.assert_close(logits(again, kit), logits(network, kit)[:, [2, 0, 1]])
    assert again.config.id2label == dict(enumerate(turned))
    assert "its head is for the same labels and was kept" in caplog.text


@pytest.mark.parametrize("modality", BOTH)
@pytest.mark.parametrize("labels", [("x", "y", "z"), ("x", "y")], ids=["as many", "fewer"])
def test_a_head_for_other_labels_is_replaced_and_the_body_is_kept(labels, modality, kits, saved, caplog):
    kit = kits[modality]
    network = kit.network()
    with caplog.at_level(logging.INFO):
        again = load(kit, saved(kit, network), labels)
    outputs = by_label(network)
    assert outputs == ["classifier.weight", "classifier.bias"]
    for name, parameter in network.named_parameters():
        if name not in outputs:
            assert torch.equal(parameter, again.get_parameter(name))
    assert logits(again, kit).shape == (6, len(labels))
    if len(labels) == 3:
        assert not torch.equal(network.classifier.weight, again.classifier.weight)
    assert f"its head is for other labels ({', '.join(kit.labels)}) and was replaced by a new one" in caplog.text


def test_a_body_without_a_head_brings_none(text, tmp_path, caplog):
    text.network().bert.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO):
        load(text, ModelSpec(name=str(tmp_path)), text.labels)
    assert "its head" not in caplog.text


def test_outputs_are_told_from_layers_that_are_as_wide_as_there_are_labels(classifier, text):
    config = text.network().config
    config.num_labels = config.hidden_size
    assert by_label(classifier(config)) == ["classifier.weight", "classifier.bias"]


def test_the_labels_of_timm_are_known_by_name_too(timm, image, tmp_path):
    model = timm("mobilenetv3_small_050")
    model.config.label_names = list(image.labels)
    model.config.pretrained_cfg = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    model.save_pretrained(tmp_path)
    assert len(by_label(AutoModelForImageClassification.from_pretrained(tmp_path))) == 2
    again = get_task("image-classification").load_model(ModelSpec(name=str(tmp_path)), image.labels[::-1], PROBLEM)
    torch.testing.assert_close(logits(again, image), logits(model, image).flip(1))


def test_a_pooling_block_that_a_run_brings_stays_as_it_is(text, saved, caplog):
    network = Pooling().model(text.network(), text.context())
    expected = logits(network, text)
    with caplog.at_level(logging.INFO):
        again = load(text, saved(text, network), text.labels)
    torch.testing.assert_close(logits(again, text), expected, atol=1e-4, rtol=1e-4)
    assert has_pooling(again)
    block = again.bert.encoder.layer[2]
    assert not any(parameter.requires_grad for parameter in block.parameters())
    assert not any(module.training for module in again.train().bert.encoder.layer[2].modules())
    assert "its last block pools and stays as it is" in caplog.text


def test_a_run_of_another_image_size_is_read_at_its_own_size_and_at_others(image, saved):
    network = image.task.load_model(ModelSpec(name=str(image.folder), image_size=48), image.labels, PROBLEM)
    network.save_pretrained(image.work / "wide")
    image.task.load_processor(ModelSpec(name=str(image.folder), image_size=48)).save_pretrained(image.work / "wide")
    for size, side in ((None, 48), (64, 64)):
        spec = ModelSpec(name=str(image.work / "wide"), image_size=size)
        pixels = image.task.encode(image.rows.select([0]), image.task.load_processor(spec))[0]["pixel_values"]
        assert np.shape(pixels)[-1] == side
        again = load(image, spec, image.labels)
        assert torch.equal(again.classifier.weight, network.classifier.weight)
        batch = image.task.collate([{"pixel_values": pixels}], image.processor)
        assert again.eval()(**batch).logits.isfinite().all()
