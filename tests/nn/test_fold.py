"""Mean pooling inside stock classifiers: the same as by formula, in every family, in half precision, and fast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import layer_norm
from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    EsmConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.features import embedded, readout
from hf_smalldata.nn.fold import FAMILIES, fold_mean, foldable, hasten, keep_bottom

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
         "vocab_size": 120, "initializer_range": 0.3, "num_labels": 3}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
    "electra": ElectraConfig(**SMALL, embedding_size=16),
    "distilbert": DistilBertConfig(dim=32, n_layers=3, n_heads=2, hidden_dim=64, vocab_size=120, num_labels=3),
    "mpnet": MPNetConfig(**SMALL),
    "deberta-v2": DebertaV2Config(
        **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=32, share_att_key=True
    ),
    "esm": EsmConfig(**SMALL, pad_token_id=1, mask_token_id=4, position_embedding_type="rotary", token_dropout=True),
}
UNEVEN = "mpnet"  # its positions weigh the mean
each_family = pytest.mark.parametrize("family", CONFIGS)


def config(family: str, **more: str) -> PreTrainedConfig:
    """A copy: folding changes it."""
    made = copy.deepcopy(CONFIGS[family])
    for name, value in more.items():
        setattr(made, name, value)
    return made


def inputs() -> dict[str, torch.Tensor]:
    """Three rows of 9, 6 and 4 tokens."""
    torch.manual_seed(0)
    ids = torch.randint(5, 120, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:], mask[2, 4:] = 0, 0
    return {"input_ids": torch.where(mask > 0, ids, 1), "attention_mask": mask}


@torch.no_grad()
def states(model) -> torch.Tensor:
    return model.base_model(**inputs()).last_hidden_state


def mean(model) -> torch.Tensor:
    """By formula, of the network before anything is appended."""
    found, mask = states(model), inputs()["attention_mask"].unsqueeze(-1)
    return layer_norm((found * mask).sum(1) / mask.sum(1), (32,))


@each_family
def test_the_first_token_holds_what_the_formula_says(family, classifier):
    model = classifier(config(family)).eval()
    expected, largest = mean(model), float(states(model).abs().max())
    fold_mean(model, largest)
    found = states(model)[:, 0]
    tolerance = 1.0 if family == UNEVEN else 1e-2  # in units of the standard deviation of features
    assert (found - expected).abs().max() < tolerance
    if family == UNEVEN:
        assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.7


def test_the_mean_is_as_strong_as_float16_holds(classifier):
    found = [fold_mean(classifier(config("bert")), largest) for largest in (6.0, 10.0, 14.7)]
    assert found == [4096.0, 2560.0, 1792.0]


@each_family
def test_padding_changes_nothing(family, classifier):
    model = classifier(config(family)).eval()
    fold_mean(model, 10.0)
    together = states(model)[1, 0]
    alone = model.base_model(input_ids=inputs()["input_ids"][1:2, :6]).last_hidden_state[0, 0]
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@each_family
def test_the_fast_block_gives_what_the_stock_block_gives(family, classifier):
    model = classifier(config(family)).eval()
    fold_mean(model, 10.0)
    stock, names = states(model)[:, 0], set(model.state_dict())
    assert hasten(model) is (family not in ("mpnet", "deberta-v2"))
    torch.testing.assert_close(states(model)[:, 0], stock, rtol=1e-4, atol=1e-4)
    assert set(model.state_dict()) == names


def test_a_fast_block_follows_every_form_of_mask(classifier):
    for attention in ("eager", "sdpa"):
        model = classifier(config("bert", _attn_implementation=attention)).eval()
        fold_mean(model, 10.0)
        stock = states(model)[:, 0]
        hasten(model)
        torch.testing.assert_close(states(model)[:, 0], stock, rtol=1e-4, atol=1e-4)


def test_a_network_that_does_not_pool_is_not_touched(classifier):
    model = classifier(config("bert"))
    kinds = [type(block.module) for block in blocks(model)]
    assert not hasten(model)
    assert [type(block.module) for block in blocks(model)] == kinds
    assert model.config.num_hidden_layers == 3


@each_family
def test_a_folded_network_is_saved_and_loaded_as_a_stock_one(family, classifier, tmp_path):
    model = classifier(config(family)).eval()
    fold_mean(model, 10.0)
    hasten(model)
    expected = model(**inputs()).logits.detach()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 4
    torch.testing.assert_close(again(**inputs()).logits.detach(), expected, rtol=1e-3, atol=1e-4)


@each_family
def test_a_shortened_network_ends_where_it_was_cut(family, classifier, tmp_path):
    model = classifier(config(family)).eval()
    with torch.no_grad():
        expected = model.base_model(**inputs(), output_hidden_states=True).hidden_states[2]
    keep_bottom(model, 2)
    if family != "esm":  # which normalises above its blocks
        torch.testing.assert_close(states(model), expected)
    fold_mean(model, 10.0)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert len(blocks(again)) == again.config.num_hidden_layers == 3
    torch.testing.assert_close(states(again), states(model))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_half_precision_stays_within_its_range(family, kind, tolerance, classifier):
    model = classifier(config(family)).eval()
    fold_mean(model, float(states(model).abs().max()))
    out = readout(model, lambda network: network(**inputs()))
    out.fill(torch.randn(3, 32) / 6, torch.zeros(3))
    expected = model(**inputs()).logits.softmax(-1).detach()
    found = model.to(kind)(**inputs()).logits.float().softmax(-1).detach()
    assert torch.isfinite(found).all()
    assert (found - expected).abs().max() < tolerance


def test_nothing_of_the_block_learns_and_gradients_reach_below(classifier):
    model = classifier(config("bert")).train()
    fold_mean(model, 10.0)
    hasten(model)
    out = readout(model, lambda network: network(**inputs()))
    embedded(model.train(), inputs(), out)[:, 0].sum().backward()
    *below, last = (block.module for block in blocks(model))
    assert not any(parameter.requires_grad for parameter in last.parameters())
    assert all(float(block.output.dense.weight.grad.abs().max()) > 0 for block in below)


def test_every_family_is_tested():
    assert {"bert", "roberta", "electra", "distilbert", "mpnet", "deberta-v2", "esm"} <= set(FAMILIES)
    assert set(CONFIGS) <= set(FAMILIES)


def test_other_networks_are_not_foldable(classifier, image):
    assert not foldable(image.network())
