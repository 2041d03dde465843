"""The word that a masked language model fills in, by a stock classifier: the same logits, in every family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.cloze import HEADS, MaskHead, fold_head, mask_first

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
         "vocab_size": 60, "initializer_range": 0.3, "num_labels": 3}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SMALL),
    "bert relu": BertConfig(**SMALL, hidden_act="relu"),
    "roberta": RobertaConfig(**SMALL),
    "distilbert": DistilBertConfig(
        dim=32, n_layers=2, n_heads=2, hidden_dim=128, vocab_size=60, num_labels=3, initializer_range=0.3
    ),
}
PLACE, WORDS = 3, [7, 11, 20]
each_family = pytest.mark.parametrize("family", CONFIGS)


def models(config: PreTrainedConfig) -> tuple[Any, Any]:
    """A masked language model and a classifier of the same body; no normalisation is left at 1 and 0."""
    torch.manual_seed(0)
    masked = AutoModelForMaskedLM.from_config(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for name, parameter in masked.named_parameters():
            if "norm" in name.lower() or name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    classifier = AutoModelForSequenceClassification.from_config(copy.deepcopy(config)).eval()
    classifier.base_model.load_state_dict(masked.base_model.state_dict(), strict=False)
    return masked, classifier


def inputs() -> dict[str, torch.Tensor]:
    """Three rows of 12, 9 and 7 tokens."""
    torch.manual_seed(1)
    ids = torch.randint(5, 60, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 9:], mask[2, 7:] = 0, 0
    return {"input_ids": torch.where(mask > 0, ids, 1), "attention_mask": mask}


def in_front(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = batch["input_ids"]
    moved = torch.cat([ids[:, PLACE : PLACE + 1], ids[:, :PLACE], ids[:, PLACE + 1 :]], 1)
    return {**batch, "input_ids": moved}


@torch.no_grad()
def filled_in(masked: Any) -> torch.Tensor:
    """Logits of the words at the mask, in the masked language model as it is."""
    logits: torch.Tensor = masked(**inputs()).logits[:, PLACE, WORDS]
    return logits


def folded(config: PreTrainedConfig) -> tuple[torch.Tensor, Any]:
    masked, classifier = models(config)
    expected = filled_in(masked)
    mask_first(classifier, PLACE)
    fold_head(classifier, MaskHead.of(masked).narrowed(WORDS), lambda network: network(**in_front(inputs())))
    return expected, classifier


@each_family
def test_a_stock_classifier_gives_the_logits_of_the_words(family, tmp_path):
    expected, classifier = folded(CONFIGS[family])
    classifier.save_pretrained(tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        found = stock(**in_front(inputs())).logits
    assert len(blocks(stock)) == stock.config.num_hidden_layers == 3
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@each_family
def test_states_stay_as_they_were_when_the_mask_moves_to_the_front(family):
    _, classifier = models(CONFIGS[family])
    with torch.no_grad():
        before = classifier.base_model(**inputs()).last_hidden_state
        mask_first(classifier, PLACE)
        after = classifier.base_model(**in_front(inputs())).last_hidden_state
    torch.testing.assert_close(after[:, 0], before[:, PLACE])
    torch.testing.assert_close(after[:, 1 : PLACE + 1], before[:, :PLACE])
    torch.testing.assert_close(after[0, PLACE + 1 :], before[0, PLACE + 1 :])


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 1e-1)])
def test_half_precision_gives_nearly_the_same(kind, tolerance):
    expected, classifier = folded(CONFIGS["bert"])
    with torch.no_grad():
        found = classifier.to(kind)(**in_front(inputs())).logits.float()
    assert (found.softmax(-1) - expected.softmax(-1)).abs().max() < tolerance


def test_the_block_is_frozen_and_body_and_words_go_on_learning():
    _, classifier = folded(CONFIGS["bert"])
    classifier.train()(**in_front(inputs())).logits[:, 0].sum().backward()
    *below, last = (block.module for block in blocks(classifier))
    assert not any(parameter.requires_grad for parameter in last.parameters())
    assert all(float(block.output.dense.weight.grad.abs().max()) > 0 for block in below)
    assert classifier.classifier.weight.grad.abs().max() > 0


def test_a_narrow_head_has_words_of_its_own():
    masked, _ = models(CONFIGS["bert"])
    head = MaskHead.of(masked).narrowed(WORDS)
    with torch.no_grad():
        head.words.weight.zero_()
    assert masked.get_input_embeddings().weight[WORDS].abs().max() > 0


def test_other_families_are_refused_by_name():
    torch.manual_seed(0)
    masked = AutoModelForMaskedLM.from_config(MPNetConfig(**SMALL))
    with pytest.raises(UserError, match=r"mpnet.*those that do: bert, roberta"):
        MaskHead.of(masked)
    with pytest.raises(UserError, match=r"model\.template: mpnet .*bert, roberta"):
        mask_first(masked, PLACE)


def test_a_block_needs_room_for_the_head():
    narrow = BertConfig(**{**SMALL, "intermediate_size": 64})
    with pytest.raises(UserError, match="feed-forward parts of 96 to fill in words; found 64"):
        folded(narrow)


def test_every_family_is_tested():
    assert {CONFIGS[family].model_type for family in CONFIGS} | {"xlm-roberta", "camembert"} == set(HEADS)
