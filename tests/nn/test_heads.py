"""Heads: what every technique must leave trainable, by full names."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    DebertaV2Config,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    ResNetConfig,
    RobertaConfig,
    ViTConfig,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperForAudioClassification,
)

from hf_smalldata.nn.heads import head_names, hold_statistics, scale_logits, shift_logits

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "vocab_size": 60, "pad_token_id": 0}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
HEADS = {
    "bert": (BertConfig(**TEXT), ["bert.pooler", "classifier"]),
    "distilbert": (DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
                   ["pre_classifier", "classifier"]),
    "roberta": (RobertaConfig(**TEXT), ["classifier"]),
    "deberta": (DebertaV2Config(**TEXT, pooler_hidden_size=32), ["pooler", "classifier"]),
    "modernbert": (ModernBertConfig(**TEXT), ["head", "classifier"]),
    "gpt2": (GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, pad_token_id=0), ["score"]),
    "vit": (ViTConfig(**SMALL, image_size=32, patch_size=8), ["classifier"]),
    "resnet": (ResNetConfig(**RESNET), ["classifier"]),
}  # fmt: skip
IMAGE = {**SMALL, "image_size": 32, "patch_size": 8}
AUDIO = {
    "wav2vec2": Wav2Vec2Config(**SMALL, conv_dim=[8, 8], conv_kernel=[10, 4], conv_stride=[8, 4],
                               num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
                               classifier_proj_size=16),
    "whisper": WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
                             decoder_layers=1, num_mel_bins=8, max_source_positions=50, classifier_proj_size=16),
}  # fmt: skip
TIMM = {"resnet10t": ["timm_model.fc"], "mobilenetv3_small_050": ["timm_model.classifier"],
        "convnext_atto": ["timm_model.head.fc"]}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_a_transformers_model_is_named(name, classifier):
    config, expected = HEADS[name]
    model = classifier(config)
    assert head_names(model) == expected
    assert all(isinstance(model.get_submodule(name), nn.Module) for name in expected)


@pytest.mark.parametrize("name", TIMM)
def test_the_head_of_a_timm_model_is_what_timm_calls_its_classifier(name, timm):
    model = timm(name)
    assert head_names(model) == TIMM[name]
    assert model.get_submodule(TIMM[name][0]) is model.timm_model.get_classifier()


def test_statistics_of_every_batch_norm_of_the_body_are_held(timm):
    model = timm("mobilenetv3_small_050")
    hold_statistics(model)
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model(pixel_values=torch.randn(4, 3, 64, 64))
    assert norms
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert model.training


def test_a_batch_norm_of_the_head_is_not_held(classifier):
    model = classifier(ResNetConfig(**RESNET, num_labels=3))
    model.classifier.append(nn.BatchNorm1d(3))
    hold_statistics(model)
    model.train()
    assert model.classifier[-1].training
    assert not model.resnet.embedder.embedder.normalization.training


def random_batch(model):
    """Inputs of any modality, for a function that asks `scale_logits` or the test for logits."""
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "input_ids": torch.randint(1, 60, (3, 7), generator=generator),
        "pixel_values": torch.randn(3, 3, 32, 32, generator=generator),
        "input_values": torch.randn(3, 800, generator=generator),
        "input_features": torch.randn(3, 8, 100, generator=generator),
    }
    return {model.main_input_name: inputs[model.main_input_name]}


def logits_of(model):
    with torch.no_grad():
        return model(**random_batch(model)).logits


def check_scaled(model, temperature=2.6):
    """The names of the weights that were changed."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.5, 0.5)  # fresh biases are zero, and would hide that they are left as they are
    before = logits_of(model.eval())
    assert before.abs().max() > 1e-3
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    assert scale_logits(model, temperature, logits_of)
    assert torch.allclose(logits_of(model), before / temperature, rtol=1e-4, atol=1e-6)
    return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, weights[name])]


@pytest.mark.parametrize("name", HEADS)
def test_scaled_logits_are_divided_by_the_temperature_in_every_architecture(name, classifier):
    config = HEADS[name][0]
    config.num_labels = 3
    changed = check_scaled(classifier(config))
    assert 1 <= len(changed) <= 2  # weight, and bias where there is one, of one layer


def test_scaling_finds_the_last_layer_where_others_are_as_wide(classifier):
    model = classifier(DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=2, hidden_dim=64, num_labels=32))
    assert check_scaled(model) == ["classifier.weight", "classifier.bias"]


def test_scaling_divides_both_heads_that_are_averaged():
    torch.manual_seed(0)
    changed = check_scaled(DeiTForImageClassificationWithTeacher(DeiTConfig(**IMAGE, num_labels=3)))
    assert {name.split(".")[0] for name in changed} == {"cls_classifier", "distillation_classifier"}


@pytest.mark.parametrize("name", TIMM)
def test_scaling_reaches_into_timm_models(name, timm):
    assert [changed.rpartition(".")[0] for changed in check_scaled(timm(name))] == TIMM[name] * 2


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("wav2vec2", Wav2Vec2ForSequenceClassification), ("whisper", WhisperForAudioClassification)],
)
def test_scaling_divides_the_logits_of_audio_classifiers(name, architecture):
    torch.manual_seed(0)
    config = AUDIO[name]
    config.num_labels = 3
    assert check_scaled(architecture(config)) == ["classifier.weight", "classifier.bias"]


def adapted_vit(classifier, saved):
    """A network with LoRA, whose head is trained beside it, or through an adapter of its own."""
    config = HEADS["vit"][0]
    config.num_labels = 3
    targets = ["q_proj", "v_proj"] if saved else ["q_proj", "classifier"]
    torch.manual_seed(0)
    return get_peft_model(
        classifier(config), LoraConfig(r=2, target_modules=targets, modules_to_save=saved, init_lora_weights=False)
    )


@pytest.mark.parametrize("saved", [["classifier"], None])
def test_scaling_changes_the_head_that_an_adapter_trains_and_stays_after_merging(saved, classifier):
    adapted = adapted_vit(classifier, saved)
    changed = check_scaled(adapted, 0.4)
    scaled = logits_of(adapted)
    assert not any("original_module" in name for name in changed)
    assert torch.allclose(logits_of(adapted.merge_and_unload()), scaled, rtol=1e-3, atol=1e-5)


def test_logits_that_no_layer_makes_cannot_be_scaled_and_nothing_is_changed(classifier):
    model = classifier(HEADS["resnet"][0])
    model.classifier.append(nn.Softsign())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not scale_logits(model, 2.0, logits_of)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def check_shifted(model):
    """The names of the weights that were changed."""
    offset = torch.tensor([0.5, -2.0, 1.5])
    before = logits_of(model.eval())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert shift_logits(model.train(), offset, logits_of)
    assert torch.allclose(logits_of(model), before + offset, rtol=1e-4, atol=1e-5)
    return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, weights[name])]


@pytest.mark.parametrize("name", sorted(HEADS.keys() - {"gpt2"}))
def test_shifted_logits_are_moved_by_one_bias_in_every_architecture(name, classifier):
    config = HEADS[name][0]
    config.num_labels = 3
    (changed,) = check_shifted(classifier(config))
    assert changed.endswith("bias")


@pytest.mark.parametrize("name", TIMM)
def test_shifting_reaches_into_timm_models(name, timm):
    assert check_shifted(timm(name)) == [f"{TIMM[name][0]}.bias"]


def test_shifting_moves_both_heads_that_are_averaged():
    torch.manual_seed(0)
    changed = check_shifted(DeiTForImageClassificationWithTeacher(DeiTConfig(**IMAGE, num_labels=3)))
    assert changed == ["cls_classifier.bias", "distillation_classifier.bias"]


@pytest.mark.parametrize("saved", [["classifier"], None])
def test_shifting_changes_the_head_that_an_adapter_trains_and_stays_after_merging(saved, classifier):
    adapted = adapted_vit(classifier, saved)
    (changed,) = check_shifted(adapted)
    assert "original_module" not in changed
    shifted = logits_of(adapted)
    assert torch.allclose(logits_of(adapted.merge_and_unload()), shifted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("squashed", [True, False])
def test_logits_that_no_bias_makes_cannot_be_shifted_and_nothing_is_changed(squashed, classifier):
    config = HEADS["resnet" if squashed else "gpt2"][0]
    config.num_labels = 3
    model = classifier(config)
    if squashed:
        model.classifier.append(nn.Softsign())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not shift_logits(model, torch.tensor([0.5, -2.0, 1.5]), logits_of)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="above 0"):
        scale_logits(nn.Linear(2, 2), temperature, logits_of)
