"""What augmentation costs: rows a second on one core, for every augmentation with a `rows` or `example` hook, by task.

    python scripts/bench/augment.py [--only flip rand_augment] [--tasks image-classification] [--side 224] [--seconds 1]
                                    [--kornia]

Rows are made in code, in the size of ordinary ones: photos of scikit-image at `--side` pixels, sentences of a dozen
words, clips of 1 s at 16 kHz, sequences of 300 letters. `example` hooks are counted by rows drawn, `rows` hooks by rows
made, all with their defaults. The first lines of a task say what the same row costs without them: to be encoded for a
tiny model, as each drawn row is anew in every epoch. Time is that of the process, on one thread, so that others on the
machine hardly count. Techniques that ask a model of their own say so instead, where it is not there. --kornia measures
that library's counterparts too, on a batch of 32 images (pip install kornia).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from PIL import Image
from skimage import data as photos

from hf_smalldata import testing
from hf_smalldata.errors import UserError
from hf_smalldata.tasks import TASKS, get_task
from hf_smalldata.tasks.task import ModelSpec, Task
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.training.batching import draws

COUNT, CLASSES = 32, 3
RATE_HZ = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    changing = [name for name in REGISTRY if get_technique(name).__module__.split(".")[2] == "augment"]
    parser.add_argument("--only", nargs="+", choices=changing, default=changing)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--side", type=int, default=224, help="pixels of an image's sides")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, at least")
    parser.add_argument("--kornia", action="store_true", help="its counterparts too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, 1 thread\n\n| task | technique | hook | rows a second |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for task in given.tasks:
            for line in lines(get_task(task), given.only, Path(name) / task, given.side, given.seconds):
                print(f"| {task} | {' | '.join(line)} |", flush=True)
    if given.kornia:
        for line in of_kornia(given.side, given.seconds):
            print(f"| image-classification | {' | '.join(line)} |", flush=True)


def lines(task: Task, names: list[str], work: Path, side: int, seconds: float) -> Iterator[tuple[str, str, str]]:
    """Of one task: technique, hook and rows a second, or why it can't be measured here."""
    work.mkdir()
    folder, rows = ROWS[task.name](work, side)
    context = context_of(task, folder, rows, work)
    decoded = [task.decode(row, context.processor) for row in rows]
    yield "-", "encode", rate(lambda _: len(task.encode(rows, context.processor)), seconds)
    for name in names:
        technique = get_technique(name)()
        hooks = [hook for hook in ("rows", "example") if hook in technique.hooks() and task.name in technique.tasks]
        for hook in hooks:
            try:
                measured = rate(ONCE[hook](technique, decoded, rows, context), seconds)
            except UserError as error:
                measured = " ".join(str(error).partition(";")[0].split())
            yield name, hook, measured


def of_kornia(side: int, seconds: float) -> Iterator[tuple[str, str, str]]:
    """On a batch (32, 3, side, side) of float32 pixels: augmentation, `kornia` and images a second."""
    from kornia import augmentation as kornia

    with tempfile.TemporaryDirectory() as name:
        _, rows = image(Path(name), side)
    pixels = torch.from_numpy(np.stack([np.asarray(row["image"]) for row in rows])).permute(0, 3, 1, 2) / 255
    for ours, theirs in {
        "flip": kornia.RandomHorizontalFlip(p=0.5),
        "geometry": kornia.RandomAffine(10.0, (0.1, 0.1), (0.9, 1.1), (-5.0, 5.0), p=1.0),
        "colour": kornia.ColorJiggle(0.2, 0.2, 0.2, 0.02, p=1.0),
        "blur": kornia.RandomGaussianBlur((9, 9), (0.1, 2.2), p=0.5),
        "image_noise": kornia.RandomGaussianNoise(std=0.05, p=1.0),
        "cutout": kornia.RandomErasing((0.16, 0.16), (1.0, 1.0), p=1.0),
    }.items():
        yield ours, "kornia, batch", rate(lambda _, theirs=theirs: len(theirs(pixels)), seconds)


def drawn(technique: Technique, decoded: list[dict[str, Any]], _: Dataset, __: Context) -> Callable[[int], int]:
    return lambda epoch: sum(bool(draws(row, [technique], 0, epoch)) for row in decoded)


def made(technique: Technique, _: list[dict[str, Any]], rows: Dataset, context: Context) -> Callable[[int], int]:
    return lambda _: len(technique.rows(rows, context)) - len(rows)


ONCE = {"example": drawn, "rows": made}


def rate(once: Callable[[int], int], seconds: float) -> str:
    """Rows a second of what is called with 0, 1, 2, … and says how many rows it made."""
    once(0)  # libraries are imported
    begun, count, turn = time.process_time(), 0, 0
    while time.process_time() - begun < seconds:
        turn += 1
        count += once(turn)
    return f"{count / (time.process_time() - begun):,.0f}"


def context_of(task: Task, folder: Path, rows: Dataset, work: Path) -> Context:
    def fit(_: Dataset) -> Any:
        raise UserError("trains models of its own")

    spec = ModelSpec(name=str(folder))
    problem = "token_classification" if task.kind == "tokens" else "single_label_classification"
    labels = ("O", "B-animals", "I-animals", "B-food", "I-food") if task.kind == "tokens" else tuple("abc")
    return Context(task, spec, task.load_processor(spec), rows, None, labels, problem, 0, work, fit)


def image(work: Path, side: int) -> tuple[Path, Dataset]:
    shown = [photos.astronaut(), photos.coffee(), photos.chelsea(), photos.rocket()]
    pictures = [Image.fromarray(shown[at % len(shown)]).resize((side, side)) for at in range(COUNT)]
    rows = [{"id": str(at), "image": picture, "label": at % CLASSES} for at, picture in enumerate(pictures)]
    return testing.tiny_image_model(work / "model"), Dataset.from_list(rows)


def text(work: Path, _: int) -> tuple[Path, Dataset]:
    return testing.tiny_text_model(work / "model"), testing.text_rows(COUNT // CLASSES)


def tokens(work: Path, _: int) -> tuple[Path, Dataset]:
    return testing.tiny_text_model(work / "model"), testing.token_rows(COUNT)


def audio(work: Path, _: int) -> tuple[Path, Dataset]:
    import soundfile

    rng, rows = np.random.default_rng(0), []
    for at in range(COUNT):
        tone = np.sin(np.arange(RATE_HZ) * rng.uniform(0.05, 0.5)) + rng.normal(0, 0.1, RATE_HZ)
        soundfile.write(work / f"{at}.wav", 0.3 * tone, RATE_HZ)
        rows.append({"id": str(at), "audio": {"bytes": None, "path": str(work / f"{at}.wav")}, "label": at % CLASSES})
    return testing.tiny_audio_model(work / "model"), Dataset.from_list(rows)


def sequence(work: Path, _: int) -> tuple[Path, Dataset]:
    rng = np.random.default_rng(0)
    letters = ["".join(rng.choice(list("ACGT"), 300)) for _ in range(COUNT)]
    rows = {"id": [str(at) for at in range(COUNT)], "sequence": letters, "label": [at % 2 for at in range(COUNT)]}
    return testing.tiny_sequence_model(work / "model"), Dataset.from_dict(rows)


ROWS: dict[str, Callable[[Path, int], tuple[Path, Dataset]]] = {
    "image-classification": image,
    "text-classification": text,
    "token-classification": tokens,
    "audio-classification": audio,
    "sequence-classification": sequence,
}

if __name__ == "__main__":
    main()
