"""Memory: kernels of shapes long gone are forgotten and freed memory is kept, unless the user says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from hf_smalldata.memory import KERNELS, keep_few_kernels

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch):
    monkeypatch.delenv(CAPACITY, raising=False)
    keep_few_kernels()
    assert os.environ[CAPACITY] == str(KERNELS)
    monkeypatch.setenv(CAPACITY, "500")
    keep_few_kernels()
    assert os.environ[CAPACITY] == "500"


FAULTS = """
import resource, sys
import torch
from hf_smalldata.memory import keep_freed, peak_bytes, reset_peak
keep_freed()
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25_000_000)  # 100 MB, freed at once
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = peak_bytes()
reset_peak()
print(sum(faults[6:]), (held - peak_bytes()) // 10**6)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
@pytest.mark.parametrize(
    ("said", "kept"), [({}, True), pytest.param({"MALLOC_TRIM_THRESHOLD_": "131072"}, False, marks=pytest.mark.slow)]
)
def test_freed_memory_is_there_for_the_next_tensor_and_goes_back_between_trainings(said, kept):
    done = subprocess.run([sys.executable, "-c", FAULTS], env={**os.environ, **said}, capture_output=True, check=True)
    faults, given_back = map(int, done.stdout.split())
    page = os.sysconf("SC_PAGE_SIZE")
    assert (faults * page < 10**8) == kept  # 100 MB each time; a heap takes some times to be large enough
    assert given_back >= 90
