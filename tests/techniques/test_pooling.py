"""Pooling: the stock head reads the mean, of the depth that leave-one-out prefers; what was chosen is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm
from transformers import ModernBertConfig, MPNetConfig

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.techniques.fewshot.pooling import TOLERANCE, Pooling
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.testing import tiny_text_model


@pytest.fixture(scope="module")
def text_deep(text, tmp_path_factory):
    """The kit of texts with a network of four blocks."""
    return replace(text, folder=tiny_text_model(tmp_path_factory.mktemp("deep"), layers=4))


@torch.no_grad()
def by_formula(model, kit, depth: int) -> torch.Tensor:
    """Mean of the token states after a block, rows one by one."""
    rows = []
    for features in kit.task.encode(kit.rows, kit.processor):
        inputs = kit.task.collate([features], kit.processor)
        states = model.eval()(**inputs, output_hidden_states=True).hidden_states[depth][0]
        rows.append(layer_norm(states.mean(0), states.shape[-1:]))
    return torch.stack(rows)


def test_the_head_reads_the_mean_of_all_tokens(text):
    model, context = text.network(), text.context()
    expected = by_formula(model, text, 2)
    found, _ = features_of(Pooling().model(model, context), context)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    facts = context.facts["pooling"]
    assert (facts["kind"], facts["blocks"], facts["of_blocks"]) == ("mean", 2, 2)
    assert 0 < facts["fold_error"] < TOLERANCE


def test_cls_leaves_the_network_as_it_is(text):
    model, context = text.network(), text.context()
    assert len(blocks(Pooling(kind="cls").model(model, context))) == 2
    assert context.facts["pooling"]["kind"] == "cls"


def test_auto_takes_what_leave_one_out_prefers(text, monkeypatch):
    asked = []

    def loss(z, *_):
        asked.append(z)
        return float(len(asked) != 2)  # the second that is asked for is the best: the first token

    monkeypatch.setattr("hf_smalldata.techniques.fewshot.pooling.loo_loss", loss)
    context = text.context()
    Pooling(kind="auto").model(text.network(), context)
    assert len(asked) == 2
    assert context.facts["pooling"]["kind"] == "cls"
    torch.testing.assert_close(asked[0].float(), by_formula(text.network(), text, 2), rtol=1e-4, atol=1e-4)


def test_auto_asks_only_rows_whose_class_has_another(text, monkeypatch):
    asked = []

    def loss(z, targets, judges):
        asked.append(judges.tolist())
        return 0.0

    monkeypatch.setattr("hf_smalldata.techniques.fewshot.pooling.loo_loss", loss)
    few = text.rows.select([0, 1, 2, 3])  # of classes 0, 1, 2, 0
    Pooling(kind="auto").model(text.network(), replace(text.context(), train=few))
    assert asked == [[True, False, False, True]] * 2


@pytest.mark.parametrize("blocks_asked", ["all", "auto"])
def test_auto_takes_the_mean_and_says_so_where_each_class_has_one_row(blocks_asked, text_deep, caplog):
    context = replace(text_deep.context(), train=text_deep.rows.select([0, 1, 2]))
    Pooling(kind="auto", blocks=blocks_asked).model(text_deep.network(), context)
    assert "leave-one-out needs a class of two rows" in caplog.text
    assert (context.facts["pooling"]["kind"], context.facts["pooling"]["blocks"]) == ("mean", 4)


def test_blocks_above_the_chosen_one_go(text_deep, monkeypatch):
    monkeypatch.setattr("hf_smalldata.techniques.fewshot.pooling.loo_loss", lambda z, *_: float(z[0, 0]))
    context = text_deep.context()
    model = Pooling(blocks="auto").model(text_deep.network(), context)
    kept = context.facts["pooling"]["blocks"]
    assert 2 <= kept <= 4
    assert len(blocks(model)) == model.config.num_hidden_layers == kept + 1


def test_a_number_of_blocks_is_kept(text_deep):
    model, context = text_deep.network(), text_deep.context()
    expected = by_formula(model, text_deep, 3)
    found, _ = features_of(Pooling(blocks=3).model(model, context), context)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    with pytest.raises(UserError, match="expected 2 to 4, got 9"):
        Pooling(blocks=9).model(text_deep.network(), text_deep.context())


def test_a_network_that_pools_by_its_config_is_told_to(text, classifier):
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = classifier(ModernBertConfig(**small, vocab_size=120, pad_token_id=0))
    context = text.context()
    assert Pooling().model(model, context).config.classifier_pooling == "mean"
    assert context.facts["pooling"] == {"kind": "mean"}


def test_a_network_with_its_own_pooling_keeps_it_and_says_so(text, image, caplog):
    Pooling().model(image.network(), text.context())
    assert "had no effect" in caplog.text


@pytest.fixture
def uneven(text, classifier):
    """A network whose positions weigh the mean, as a pretrained MPNet's do."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = classifier(MPNetConfig(**small, vocab_size=len(text.processor))).eval()
    torch.nn.init.normal_(model.mpnet.encoder.relative_attention_bias.weight)
    return model


def test_a_mean_that_positions_weigh_is_learnt_from_as_it_is_saved_and_the_run_says_so(text, uneven, caplog):
    context = text.context()
    caplog.set_level("INFO")
    model = Pooling().model(uneven, context)
    assert len(blocks(model)) == model.config.num_hidden_layers == 3
    facts = context.facts["pooling"]
    assert facts["kind"] == "weighted mean"
    assert facts["fold_error"] > TOLERANCE
    assert "MPNetForSequenceClassification weighs the mean by position" in caplog.text
    again = type(model)(model.config).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(**text.batch()).logits, model(**text.batch()).logits)


def test_pooling_twice_is_refused(text):
    model = Pooling().model(text.network(), text.context())
    with pytest.raises(UserError, match="pools already"):
        Pooling().model(model, text.context())
