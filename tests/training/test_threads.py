"""Threads: as many as there are cores, unless the user says otherwise."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.training import threads


@pytest.mark.parametrize(
    ("cores", "torchs", "users", "expected"),
    [(2, 64, None, [2]), (8, 4, None, [4]), (2, 64, "64", [])],
    ids=["a container of two cores", "fewer threads than cores", "the user's word"],
)
def test_torch_takes_no_more_than_the_cores_there_are(cores, torchs, users, expected, monkeypatch):
    said: list[int] = []
    monkeypatch.setattr(threads, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torchs)
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if users is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", users)
    threads.use_cores()
    assert said == expected
