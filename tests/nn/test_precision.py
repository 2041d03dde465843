"""Half precision is taken where the hardware is made for it."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.nn.precision import bfloat16_pays


@pytest.mark.parametrize("able", [True, False])
def test_a_cpu_computes_in_bfloat16_where_it_has_amx(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: able)
    assert bfloat16_pays(torch.device("cpu")) is able


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_does_where_bfloat16_is_its_own_and_not_emulated(able, monkeypatch):
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **given: asked.update(given) or able)
    assert bfloat16_pays(torch.device("cuda")) is able
    assert asked == {"including_emulation": False}


def test_other_devices_stay_with_float32():
    assert not bfloat16_pays(torch.device("meta"))
