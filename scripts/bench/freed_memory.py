"""What it spares that the command line lets a process keep the memory that it freed: the same steps with and without.

    python scripts/bench/freed_memory.py [--steps 8] [--batch-size 16]

A MobileNetV2 at 224 pixels with random weights trains and predicts, each in a process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable

SPENT = ("ru_utime", "ru_stime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        measure(*given.one, given.steps, given.batch_size)
        return
    print("| work | freed memory | CPU s, program | CPU s, system | peak MB |\n|---|---|---|---|---|", flush=True)
    for work in ("train", "predict"):
        for way in ("given back", "kept"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", work, way], check=True,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def measure(work: str, way: str, steps: int, batch_size: int) -> None:
    import timm
    import torch

    from hf_smalldata.memory import keep_freed

    if way == "kept":
        keep_freed()
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", num_classes=2)
    images, optimizer = torch.randn(batch_size, 3, 224, 224), torch.optim.AdamW(network.parameters())

    def train() -> None:
        network.train()(images).logsumexp(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def predict() -> None:
        network.eval()(images)

    step: Callable[[], None] = {"train": train, "predict": predict}[work]
    step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(steps):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    program, system = (getattr(after, name) - getattr(before, name) for name in SPENT)
    print(f"| {work} | {way} | {program:.2f} | {system:.2f} | {after.ru_maxrss // 1024} |", flush=True)


if __name__ == "__main__":
    main()
