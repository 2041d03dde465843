"""Memory: kernels of shapes long gone are forgotten, unless the user says otherwise."""

from __future__ import annotations

import os

from hf_smalldata.memory import KERNELS, keep_few_kernels

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch):
    monkeypatch.delenv(CAPACITY, raising=False)
    keep_few_kernels()
    assert os.environ[CAPACITY] == str(KERNELS)
    monkeypatch.setenv(CAPACITY, "500")
    keep_few_kernels()
    assert os.environ[CAPACITY] == "500"
