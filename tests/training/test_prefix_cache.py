"""The prefix cache: the same training, without computing the frozen bottom again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    TimmWrapperConfig,
)

from hf_smalldata import fitting
from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Technique
from hf_smalldata.techniques.domain.cdan import Cdan
from hf_smalldata.techniques.domain.coral import Coral
from hf_smalldata.techniques.domain.dann import Dann
from hf_smalldata.techniques.domain.mcc import Mcc
from hf_smalldata.techniques.domain.mmd import Mmd
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.regularise.label_smoothing import LabelSmoothing
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.testing import tiny_audio_model
from hf_smalldata.training import store
from hf_smalldata.training.cut import Fed
from hf_smalldata.training.prefix_cache import NOTHING_FROZEN, inputs_change, prefix_cache
from hf_smalldata.training.trainer import SmallDataTrainer


class Watched(Technique):
    """Has an `example` hook that changes nothing."""

    name = "watched"
    tasks = frozenset({"text-classification"})

    def example(self, example):
        return example


class Added(Technique):
    """Has a penalty of nothing."""

    name = "added"
    tasks = frozenset({"text-classification"})

    def penalty(self, model, batch, outputs):
        return outputs.logits.sum() * 0


class Looking(Added):
    """Has a penalty that reads logits only, and says so."""

    name = "looking"
    keeps_inputs = True


class Mixing(Technique):
    """Has a `batch` hook that may change inputs."""

    name = "mixing"
    tasks = frozenset({"text-classification"})

    def batch(self, batch, model):
        return batch


class Losses(SmallDataTrainer):
    """Notes every loss."""

    seen: list[float] = []

    def compute_loss(self, *args, **kwargs):
        found = super().compute_loss(*args, **kwargs)
        self.seen.append((found[0] if isinstance(found, tuple) else found).item())
        return found


@contextmanager
def no_cache(*_args, **_kwargs):
    yield Fed(off="it is not wanted")


def train(
    kit, techniques, monkeypatch, tmp_path, cache=prefix_cache, unlabelled=None
) -> tuple[list[float], torch.Tensor, dict[str, Any]]:
    """Losses of training and validation, final weights and facts of one training with a given cache."""
    monkeypatch.setattr(fitting, "SmallDataTrainer", Losses)
    monkeypatch.setattr(fitting, "prefix_cache", cache)
    Losses.seen = []
    recipe = Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows", "unlabelled": "theirs"}, "model": {"name": str(kit.folder)},
        "techniques": techniques,
        "train": {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 0.1, "disable_tqdm": True,
                  "optim": "sgd"},  # Adam makes steps out of rounding where a gradient is zero, as that of key biases
    })  # fmt: skip
    beside = kit.rows.remove_columns("label") if unlabelled is None else unlabelled
    beside = beside.add_column("domain", ["theirs"] * len(beside))
    data = Splits(kit.rows, kit.rows.select([0, 4, 8, 1]), None, kit.labels, kit.problem_type, unlabelled=beside)
    learnt = Fitting(recipe, kit.task, kit.processor, data, tmp_path).attempt(kit.rows, 0, 0)
    weights = torch.cat([tensor.float().ravel() for tensor in learnt.model.state_dict().values()])
    return Losses.seen, weights, learnt.facts


@pytest.mark.parametrize(
    ("modality", "techniques", "where"),
    [
        ("text-classification", [Freeze(blocks=1)], "above 1 block"),
        ("text-classification", [Freeze()], "above 2 blocks"),
        pytest.param("text-classification", [Freeze(), LabelSmoothing(), Looking()], "above 2 blocks",
                     marks=pytest.mark.slow),
        ("text-classification", [Freeze(blocks=1), Lora(dropout=0)], "above 1 block"),
        ("image-classification", [Freeze(blocks=1)], "above 1 block"),
        ("image-classification", [Freeze()], "below the head"),
        ("token-classification", [Freeze(blocks=1)], "above 1 block"),
        ("token-classification", [Freeze(), LabelSmoothing()], "above 2 blocks"),
        pytest.param("sequence-classification", [Freeze(blocks=1)], "above 1 block", marks=pytest.mark.slow),
        pytest.param("audio-classification", [Freeze(blocks=1)], "above 1 block", marks=pytest.mark.slow),
        ("audio-classification", [Freeze()], "above 2 blocks"),
    ],
    ids=["text one", "text all", "text smoothed", "text lora above", "image one", "image all", "tokens one",
         "tokens all", "sequence one", "audio one", "audio all"],
)  # fmt: skip
def test_losses_and_final_weights_equal_those_without(modality, techniques, where, kits, monkeypatch, tmp_path):
    equal_with_and_without(kits[modality], techniques, where, monkeypatch, tmp_path)


@pytest.mark.parametrize("technique", [Coral(), Mmd(), Mcc(), Dann(), Cdan()], ids=lambda each: each.name)
@pytest.mark.parametrize("modality", ["text-classification", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                      ("image-classification", "audio-classification"))])  # fmt: skip
def test_unlabelled_rows_are_cached_as_labelled_ones_are(modality, technique, kits, monkeypatch, tmp_path):
    equal_with_and_without(kits[modality], [Freeze(blocks=1), technique], "above 1 block", monkeypatch, tmp_path)


def test_unlabelled_rows_that_training_hardly_meets_are_not_cached(text, monkeypatch, tmp_path):
    many = concatenate_datasets([text.rows.remove_columns("label")] * 4)
    many = many.remove_columns("id").add_column("id", [f"more/{at}" for at in range(len(many))])
    facts = train(text, [Freeze(), Coral()], monkeypatch, tmp_path, unlabelled=many)[2]
    assert facts["prefix_cache"] == "off: training meets but some of the unlabelled rows"


def equal_with_and_without(kit, techniques, where, monkeypatch, tmp_path) -> None:
    losses, weights, facts = train(kit, techniques, monkeypatch, tmp_path / "a")
    plain_losses, plain_weights, plain_facts = train(kit, techniques, monkeypatch, tmp_path / "b", no_cache)
    assert (facts["prefix_cache"], plain_facts["prefix_cache"]) == (f"on: cut {where}", "off: it is not wanted")
    assert len(losses) == 3 * 3 + 3
    np.testing.assert_allclose(losses, plain_losses, atol=1e-5)
    torch.testing.assert_close(weights, plain_weights, atol=1e-5, rtol=0)
    assert facts["trained_parameters"] == plain_facts["trained_parameters"]
    assert facts["parameters"] == plain_facts["parameters"]


@pytest.mark.parametrize(("kind", "blocks", "where"), [("whisper", 1, "above 1 block"), ("ast", 1, "above 1 block"),
                                                       ("ast", "all", "below the head")])  # fmt: skip
def test_models_of_spectrograms_take_cached_states(kind, blocks, where, audio, monkeypatch, tmp_path):
    kit = with_model(audio, tiny_audio_model(tmp_path / "model", kind=kind))
    equal_with_and_without(kit, [Freeze(blocks=blocks)], where, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("config", "blocks", "where"),
    [
        (ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"), 1, "above 1 block"),
        (ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"), "all",
         "below the head"),
        (TimmWrapperConfig(architecture="resnet10t", model_args={"stem_width": 8}, do_pooling=True), 2,
         "above 2 blocks"),
    ],
    ids=["ResNet", "ResNet all", "timm"],
)  # fmt: skip
def test_convolutional_networks_take_cached_states(config, blocks, where, image, monkeypatch, tmp_path):
    torch.manual_seed(0)
    config.num_labels = 3
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "model")
    image.processor.save_pretrained(tmp_path / "model")
    kit = replace(image, folder=tmp_path / "model")
    equal_with_and_without(kit, [Freeze(blocks=blocks)], where, monkeypatch, tmp_path)


def with_model(kit, folder: Path) -> Any:
    return replace(kit, folder=folder, processor=kit.task.load_processor(ModelSpec(name=str(folder))))


def test_it_is_off_where_padding_changes_what_a_row_is_to_the_model(audio, monkeypatch, tmp_path):
    kit = with_model(audio, tiny_audio_model(tmp_path / "model", kind="hubert"))  # normalises over time
    facts = train(kit, [Freeze(blocks=1)], monkeypatch, tmp_path)[2]
    assert facts["prefix_cache"] == "off: padding changes what HubertForSequenceClassification makes of a row"


def test_states_in_a_memory_mapped_file_give_the_same_and_leave_no_file(kits, monkeypatch, tmp_path):
    for modality in ("text-classification", "image-classification", "token-classification"):
        kit, place = kits[modality], tmp_path / modality
        expected_losses, expected_weights, _ = train(kit, [Freeze(blocks=1)], monkeypatch, place / "memory")
        for cap in (0, 3000):  # all in the file; the first batches in memory
            spilt = partial(prefix_cache, cap_bytes=cap, batch_size=2)
            losses, weights, facts = train(kit, [Freeze(blocks=1)], monkeypatch, place, spilt)
            assert facts["prefix_cache"] == "on: cut above 1 block"
            np.testing.assert_allclose(losses, expected_losses, atol=1e-6)
            torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=0)
            assert not [file for file in place.rglob("*") if file.is_file()]


def test_a_full_disk_switches_it_off_and_leaves_all_as_it_was(text, monkeypatch, tmp_path):
    full = Path("/dev/full")
    monkeypatch.setattr(store.tempfile, "TemporaryFile", lambda **_: full.open("r+b", buffering=0))
    losses, _, facts = train(text, [Freeze(blocks=1)], monkeypatch, tmp_path / "a", partial(prefix_cache, cap_bytes=0))
    assert facts["prefix_cache"] == f"off: {tmp_path / 'a' / 'seed-0'}: No space left on device"
    assert losses == train(text, [Freeze(blocks=1)], monkeypatch, tmp_path / "b", no_cache)[0]


@pytest.mark.parametrize(
    ("techniques", "why"),
    [
        ([], NOTHING_FROZEN),
        ([Lora()], "the lowest block learns, or draws anew each time"),
        ([Freeze(), Watched()], "watched draws inputs anew each epoch"),
        ([Freeze(), Added()], "added may run the model on other inputs"),
        ([Freeze(), Mixing()], "mixing changes inputs in the batch"),
    ],
    ids=["nothing frozen", "lora", "example hook", "penalty hook", "batch hook"],
)
def test_it_is_not_used_where_states_would_change_and_says_why(techniques, why, text, monkeypatch, tmp_path, caplog):
    with caplog.at_level("INFO", logger="hf_smalldata"):
        assert train(text, techniques, monkeypatch, tmp_path)[2]["prefix_cache"] == f"off: {why}"
    assert (f"seed 0: prefix cache off: {why}" in caplog.messages) == bool(techniques)  # full fine-tuning needs no word


def test_techniques_that_leave_inputs_alone_give_no_reason():
    assert inputs_change([Freeze(), LabelSmoothing(), Looking()]) == ""
