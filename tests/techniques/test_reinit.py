"""Re-initialisation: the top is as new, the rest as pretrained."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.techniques.fewshot.pooling import Pooling
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.techniques.transfer.reinit import Reinit


def woken(model):
    """A network of which every weight and bias has been trained away from its start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def changed(before: dict[str, torch.Tensor], model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def under(model, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize("count", [1, 2])
def test_the_top_blocks_and_the_pooler_are_new_and_nothing_else(count, text):
    model = woken(text.network())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    Reinit(blocks=count).model(model, text.context())
    top = [f"bert.encoder.layer.{at}." for at in (1, 0)[:count]]
    assert changed(before, model) == under(model, *top, "bert.pooler")


@pytest.mark.parametrize("modality", ["image-classification", "audio-classification"])
def test_it_is_the_networks_own_initialisation(modality, kits):
    kit = kits[modality]
    model = woken(kit.network())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    Reinit().model(model, kit.context())
    last = blocks(model)[-1].module
    inside = set(map(id, last.parameters()))
    assert changed(before, model) == {name for name, parameter in model.named_parameters() if id(parameter) in inside}
    for name, parameter in last.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.dim() == 1:
            assert torch.equal(parameter, torch.ones_like(parameter))
        else:
            assert float(parameter.detach().std()) == pytest.approx(model.config.initializer_range, rel=0.2)


def test_a_convolutional_network_gets_new_kernels_and_statistics(timm, image):
    model = timm("mobilenetv3_small_050").train()
    model(**image.batch())
    top, below = model.timm_model.blocks[-1], model.timm_model.blocks[-2]
    norms = [(name, norm) for name, norm in top.named_modules() if hasattr(norm, "running_mean")]
    kernels = [parameter.detach().clone() for parameter in below.parameters()]
    Reinit().model(model, image.context())
    assert norms
    assert all(not norm.running_mean.any() and bool((norm.running_var == 1).all()) for _, norm in norms)
    assert all(torch.equal(*pair) for pair in zip(kernels, below.parameters(), strict=True))


def test_the_draw_comes_from_the_seed(text):
    drawn = []
    for seed in (0, 0, 1):
        model = text.network()
        torch.manual_seed(seed)
        drawn.append(Reinit().model(model, text.context()).bert.encoder.layer[1].output.dense.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_block_that_pools_is_left_alone(text):
    model = Pooling().model(text.network(), text.context())
    pool = {name: parameter.detach().clone() for name, parameter in model.bert.encoder.layer[2].named_parameters()}
    below = model.bert.encoder.layer[1].output.dense.weight.detach().clone()
    Reinit().model(model, text.context())
    assert changed(pool, model.bert.encoder.layer[2]) == set()
    assert not torch.equal(below, model.bert.encoder.layer[1].output.dense.weight)


def test_more_blocks_than_learn_are_refused(text):
    model = Freeze(blocks=1).model(text.network(), text.context())
    with pytest.raises(UserError) as caught:
        Reinit(blocks=2).model(model, text.context())
    assert str(caught.value) == (
        "reinit.blocks: expected 1 to 1, got 2: so many blocks of BertForSequenceClassification learn"
    )


def test_adapters_before_it_are_refused(text):
    with pytest.raises(UserError, match="got PeftModelForSequenceClassification; list it before lora"):
        Reinit().model(Lora().model(text.network(), text.context()), text.context())


@pytest.mark.parametrize("modality", ["text-classification", "token-classification", "image-classification",
                                      "audio-classification"])  # fmt: skip
def test_from_scratch_nothing_of_the_pretrained_network_is_left(modality, kits):
    kit = kits[modality]
    model = woken(kit.network())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    Reinit(blocks="all").model(model, kit.context())
    assert changed(before, model) == set(before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model(**kit.batch()).logits.shape[-1] == len(kit.labels)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_from_scratch_a_network_of_timm_has_new_kernels_positions_and_statistics(name, timm, image):
    model = woken(timm(name))
    with torch.no_grad():
        for norm in (norm for norm in model.modules() if hasattr(norm, "running_mean")):
            norm.running_mean += 1
            norm.running_var += 1
    before = {at: value.detach().clone() for at, value in model.state_dict().items() if value.is_floating_point()}
    Reinit(blocks="all").model(model, image.context())
    assert not [at for at, value in model.state_dict().items() if at in before and torch.equal(value, before[at])]


def test_from_scratch_needs_a_network_that_learns_as_a_whole(text):
    for before in (Freeze(blocks=1), Pooling()):
        model = before.model(text.network(), text.context())
        with pytest.raises(UserError, match="every block learns for all, and 1 do not; leave freeze or pooling out"):
            Reinit(blocks="all").model(model, text.context())
