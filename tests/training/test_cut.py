"""The cut: what lies below is not run, and all is as it was afterwards, in any architecture or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import DebertaV2Config, FNetConfig, ModernBertConfig, ResNetConfig, XLMConfig

from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.cut import find_cut
from hf_smalldata.training.prefix_cache import NOTHING_FROZEN, prefix_cache

PROBLEM = "single_label_classification"
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "vocab_size": 60, "pad_token_id": 0}


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
