"""QLoRA: quantised while it trains, whole before and after; the library that does it is stood in for by rounding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_smalldata.bundle import save
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft import qlora
from hf_smalldata.techniques.peft.qlora import Qlora, four_bit

ASKED: list[dict] = []


class Rounded(nn.Linear):
    """In place of bitsandbytes' layer: weights of one decimal, once they reach a device."""

    def __init__(self, inputs, outputs, bias, **asked) -> None:
        super().__init__(inputs, outputs, bias)
        ASKED.append(asked)


def rounded(weight, requires_grad, module, **asked) -> nn.Parameter:
    ASKED.append(asked)
    return nn.Parameter(weight.mul(10).round().div(10), requires_grad)


@pytest.fixture
def adapted(text, monkeypatch):
    """A network under qlora, as on a machine with a GPU."""
    ASKED.clear()
    library = SimpleNamespace(nn=SimpleNamespace(Linear4bit=Rounded, Params4bit=rounded))
    monkeypatch.setattr(qlora, "require", lambda module, extra: library)
    with monkeypatch.context() as patched:
        patched.setattr(qlora.torch.cuda, "is_available", lambda: True)
        return Qlora(rank=2).model(text.network(), text.context())


def bases(model) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith("base_layer")]


def test_without_a_gpu_it_says_what_to_do(text, monkeypatch):
    monkeypatch.setattr(qlora.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as caught:
        Qlora().model(text.network(), text.context())
    assert str(caught.value) == (
        "qlora: 4-bit weights need a CUDA GPU, and none is found; use lora, with frozen bottom blocks "
        "(`freeze: {blocks: 4}`) if memory is short"
    )


def test_a_layer_is_asked_for_in_nf4_with_double_quantisation(adapted):
    layer = nn.Linear(4, 3)
    made = four_bit(layer, double=True)
    assert [
        {"compute_dtype": torch.bfloat16, "compress_statistics": True, "quant_type": "nf4"},
        {"compress_statistics": True, "quant_type": "nf4"},
    ] == ASKED
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert made.bias is not layer.bias


def test_base_layers_are_quantised_in_training_and_as_they_were_afterwards(adapted, text, trainer):
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            seen.append({type(base) for base in bases(kwargs["model"])})

    before = [base.weight.detach().clone() for base in bases(adapted)]
    made = trainer(text, adapted, [Qlora(rank=2)])
    made.add_callback(Look())
    made.train()
    assert seen == [{Rounded}] * 3
    assert {type(base) for base in bases(adapted)} == {nn.Linear}
    assert all(torch.equal(*pair) for pair in zip(before, (base.weight for base in bases(adapted)), strict=True))


def test_what_is_saved_is_the_adapter_in_the_full_weights(adapted, text, trainer, tmp_path):
    trainer(text, adapted, [Qlora(rank=2)]).train()
    adapted.eval()
    with torch.no_grad():
        expected = adapted(**text.batch()).logits
    assert save(adapted, text.processor, tmp_path / "made") == [tmp_path / "made", tmp_path / "made" / "adapter"]
    again = type(text.network()).from_pretrained(tmp_path / "made").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**text.batch()).logits, expected, atol=1e-5, rtol=1e-4)
