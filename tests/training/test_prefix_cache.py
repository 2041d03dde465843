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
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    DebertaV2Config,
    FNetConfig,
    ModernBertConfig,
    ResNetConfig,
    TimmWrapperConfig,
    XLMConfig,
)

from hf_smalldata import fitting
from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Technique
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.regularise.label_smoothing import LabelSmoothing
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.testing import tiny_audio_model
from hf_smalldata.training import store
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.cut import Fed, find_cut
from hf_smalldata.training.prefix_cache import NOTHING_FROZEN, inputs_change, prefix_cache
from hf_smalldata.training.trainer import SmallDataTrainer

PROBLEM = "single_label_classification"
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "vocab_size": 60, "pad_token_id": 0}


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
    kit, techniques, monkeypatch, tmp_path, cache=prefix_cache
) -> tuple[list[float], torch.Tensor, dict[str, Any]]:
    """Losses of training and validation, final weights and facts of one training with a given cache."""
    monkeypatch.setattr(fitting, "SmallDataTrainer", Losses)
    monkeypatch.setattr(fitting, "prefix_cache", cache)
    Losses.seen = []
    recipe = Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows"}, "model": {"name": str(kit.folder)}, "techniques": techniques,
        "train": {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 0.1, "disable_tqdm": True,
                  "optim": "sgd"},  # Adam makes steps out of rounding where a gradient is zero, as that of key biases
    })  # fmt: skip
    data = Splits(kit.rows, kit.rows.select([0, 4, 8, 1]), None, kit.labels, kit.problem_type)
    learnt = Fitting(recipe, kit.task, kit.processor, data, tmp_path).attempt(kit.rows, 0, 0)
    weights = torch.cat([tensor.float().ravel() for tensor in learnt.model.state_dict().values()])
    return Losses.seen, weights, learnt.facts


@pytest.mark.parametrize(
    ("modality", "techniques", "where"),
    [
        ("text-classification", [Freeze(blocks=1)], "above 1 block"),
        ("text-classification", [Freeze()], "above 2 blocks"),
        ("text-classification", [Freeze(), LabelSmoothing(), Looking()], "above 2 blocks"),
        ("text-classification", [Freeze(blocks=1), Lora(dropout=0)], "above 1 block"),
        ("image-classification", [Freeze(blocks=1)], "above 1 block"),
        ("image-classification", [Freeze()], "below the head"),
        ("token-classification", [Freeze(blocks=1)], "above 1 block"),
        ("token-classification", [Freeze(), LabelSmoothing()], "above 2 blocks"),
        ("sequence-classification", [Freeze(blocks=1)], "above 1 block"),
        ("audio-classification", [Freeze(blocks=1)], "above 1 block"),
        ("audio-classification", [Freeze()], "above 2 blocks"),
    ],
    ids=["text one", "text all", "text smoothed", "text lora above", "image one", "image all", "tokens one",
         "tokens all", "sequence one", "audio one", "audio all"],
)  # fmt: skip
def test_losses_and_final_weights_equal_those_without(modality, techniques, where, kits, monkeypatch, tmp_path):
    equal_with_and_without(kits[modality], techniques, where, monkeypatch, tmp_path)


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


def rows_of(kit) -> EncodedRows:
    return EncodedRows(kit.rows, kit.task, kit.processor)


def kept(network, batch) -> int:
    """Bottom blocks below the cut that the cache finds."""
    cut = find_cut(network, batch)
    return 0 if cut is None else len(cut.bottom)


def test_what_learns_above_the_cut_leaves_the_bottom_cached(text):
    network = Freeze().model(text.network(), text.context())
    network.bert.encoder.layer[1].output.requires_grad_(True)
    assert kept(network, text.batch(1)) == 1
    network.bert.encoder.layer[0].output.requires_grad_(True)
    assert kept(network, text.batch(1)) == 0


def test_live_dropout_below_keeps_the_cache_off(text):
    network = text.network()
    network.bert.requires_grad_(False)  # frozen weights, but dropout still draws
    assert kept(network, text.batch(1)) == 0
    assert kept(Freeze().model(text.network(), text.context()), text.batch(1)) == 2


def test_looking_for_a_cut_moves_no_statistics(classifier, image):
    network = classifier(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    network.resnet.embedder.requires_grad_(False)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    find_cut(network, image.batch(1))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_a_head_that_alone_learns_is_all_that_runs(image, tmp_path):
    network = Freeze().model(image.network(), image.context())
    before = network.eval()(**image.batch()).logits
    ran: list[str] = []
    network.vit.register_forward_hook(lambda *_: ran.append("body"))
    with cached(image, network, tmp_path) as (fed, rows, collate):
        ran.clear()
        assert set(rows[0]) == {"label", "prefix"}
        fed_logits(network, fed, rows, collate)
        assert ran == []
    assert torch.equal(network.eval()(**image.batch()).logits, before)


def test_live_dropout_before_a_lone_head_keeps_the_whole_network_running(timm, image):
    network = timm("mobilenetv2_035", drop_rate=0.5)
    Freeze().model(network, image.context())
    assert kept(network, image.batch(1)) > 0  # the blocks, not the head's input


@contextmanager
def cached(kit, network, folder: Path):
    collate = collator(kit.task, kit.processor, len(kit.labels), kit.problem_type)
    rows = rows_of(kit)
    with prefix_cache(network, [rows], collate, folder) as fed:
        yield fed, rows, collate


def inputs_of(batch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name not in ("labels", "prefix")}


def fed_logits(network, fed, rows, collate) -> torch.Tensor:
    network.eval()
    batch = collate([rows[index] for index in range(len(rows))])
    fed.hidden = batch["prefix"]
    with torch.no_grad():
        return network(**inputs_of(batch)).logits


def test_the_model_and_the_rows_are_restored_even_after_an_error(text, tmp_path):
    network = Freeze().model(text.network(), text.context())
    before = network.eval()(**text.batch()).logits
    modules = [id(module) for module in network.modules()]

    def interrupted() -> None:
        with cached(text, network, tmp_path) as (fed, rows, _):
            assert fed.on
            assert "prefix" in rows[0]
            seen.append(rows)
            raise KeyboardInterrupt

    seen: list[EncodedRows] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "prefix" not in seen[0][0]
    assert [id(module) for module in network.modules()] == modules
    assert torch.equal(network.eval()(**text.batch()).logits, before)


def test_frozen_blocks_are_not_run_within(text, tmp_path):
    network = Freeze(blocks=1).model(text.network(), text.context())
    ran: list[str] = []
    for at, layer in enumerate(network.bert.encoder.layer):
        layer.output.dense.register_forward_hook(lambda *_, at=at: ran.append(f"layer {at}"))
    with cached(text, network, tmp_path) as (fed, rows, collate):
        ran.clear()
        fed_logits(network, fed, rows, collate)
    assert ran == ["layer 1"]


@pytest.mark.parametrize(
    "config",
    [
        DebertaV2Config(**TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8,
                        max_position_embeddings=64, pooler_hidden_size=32),
        ModernBertConfig(**TEXT, global_attn_every_n_layers=2),
    ],
    ids=["blocks return tuples", "blocks have attributes that are read"],
)  # fmt: skip
@pytest.mark.parametrize("blocks", [1, 2, "all"])
def test_other_architectures_take_cached_states(blocks, config, classifier, text, tmp_path):
    config.num_labels = 3
    network = Freeze(blocks=blocks).model(without_types(classifier(config)), text.context()).eval()
    with torch.no_grad():
        expected = network(**text.batch(12)).logits
    with cached(text, network, tmp_path) as (fed, rows, collate):
        assert fed.on
        assert not fed.off
        torch.testing.assert_close(fed_logits(network, fed, rows, collate), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (XLMConfig(vocab_size=60, emb_dim=32, n_layers=3, n_heads=2, pad_index=0),
         "XLMForSequenceClassification passes more between blocks than one output"),
        (FNetConfig(vocab_size=60, hidden_size=32, num_hidden_layers=3, intermediate_size=64, pad_token_id=0),
         "padding changes what FNetForSequenceClassification makes of a row"),
    ],
    ids=["states go around the blocks", "padding mixes into the states"],
)  # fmt: skip
def test_it_is_not_used_where_it_would_not_be_exact(config, why, classifier, text, tmp_path):
    config.num_labels = 3
    network = Freeze(blocks=2).model(without_types(classifier(config)), text.context())
    with cached(text, network, tmp_path) as (fed, rows, _):
        assert fed.off == why
        assert "prefix" not in rows[0]
        assert all("forward" not in vars(module) for module in list(network.modules())[1:])


def without_types(network: nn.Module) -> nn.Module:
    """A network that takes what the tiny tokenizer gives and needs no more."""
    made = network.forward

    def forward(input_ids=None, attention_mask=None, token_type_ids=None):
        more = {} if type(network).__name__.startswith("FNet") else {"attention_mask": attention_mask}
        return made(input_ids=input_ids, **more)

    network.forward = forward
    return network


def test_a_network_without_blocks_trains_without_a_cache(text, tmp_path):
    network = nn.ModuleDict({"first": nn.Linear(2, 2)})
    with cached(text, network, tmp_path) as (fed, _, _):
        assert fed.off == NOTHING_FROZEN


def test_without_rows_there_is_nothing_to_cache(text, tmp_path):
    network = Freeze().model(text.network(), text.context())
    with prefix_cache(network, [], collator(text.task, text.processor, 3, PROBLEM), tmp_path) as fed:
        assert fed.off == "there are no rows"
