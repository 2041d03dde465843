"""BitFit: biases and the head learn, and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers import ModernBertConfig

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft.bitfit import BitFit
from hf_smalldata.techniques.transfer.freeze import Freeze

HEAD = ("bert.pooler.", "classifier.")


def learning(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_biases_and_the_head_change_in_training(text, trainer):
    network = text.network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    model = BitFit().model(network, text.context())
    trainer(text, model, [BitFit()]).train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= {name for name in before if name.endswith("bias") or name.startswith(HEAD)}
    assert {"bert.embeddings.LayerNorm.bias", "bert.encoder.layer.0.attention.self.query.bias"} <= moved


def test_a_block_of_bert_has_biases_of_ten_widths_and_one_inner_width(text):
    model = BitFit().model(text.network(), text.context())
    block = [p for p in model.bert.encoder.layer[0].parameters() if p.requires_grad]
    assert sum(parameter.numel() for parameter in block) == 7 * 32 + 64  # q, k, v, o, two norms, second layer; first


@pytest.mark.parametrize("modality", ["image-classification", "audio-classification"])
def test_it_holds_for_images_and_sounds(modality, kits):
    kit = kits[modality]
    model = BitFit().model(kit.network(), kit.context())
    weights = {name for name in learning(model) if not name.endswith("bias")}
    assert weights == {name for name in learning(model) if name.startswith(("classifier", "projector")) and
                       not name.endswith("bias")}  # fmt: skip


def test_shifts_of_norms_learn_in_a_convolutional_network_and_their_statistics_stay(timm, image):
    model = BitFit().model(timm("mobilenetv3_small_050"), image.context()).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(**image.batch()).logits.sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert "timm_model.bn1.bias" in learning(model)
    assert "timm_model.bn1.weight" not in learning(model)


def test_biases_of_frozen_blocks_stay_frozen(text):
    model = BitFit().model(Freeze(blocks=1).model(text.network(), text.context()), text.context())
    assert {name.split(".")[3] for name in learning(model) if not name.startswith(HEAD)} == {"1"}


def test_a_network_without_biases_is_refused(classifier, text):
    model = classifier(ModernBertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                        intermediate_size=64, pad_token_id=0))  # fmt: skip
    with pytest.raises(UserError, match="has no bias below its head that learns; use lora"):
        BitFit().model(model, text.context())
