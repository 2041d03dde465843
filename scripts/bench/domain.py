"""Labels of one domain, rows of another: what each technique adds to a plain training that was tuned first.

    python scripts/bench/domain.py --data FOLDER [--pairs amazon:yelp ...] [--ways source_only coral ...]
                                   [--seeds 0 1 2] [--results domain.jsonl] [--tune] [--report]

FOLDER holds train.jsonl and test.jsonl with `text`, `label` and `domain` (texts), or a folder of class folders for each
domain (images), half of whose files are then test rows, or manifest.csv with `path`, `label`, `split` and `speaker`
(sounds), where a speaker is a domain. For a pair S:T the source's training rows have labels, the
target's have none, and the target's test rows judge: they are never among the unlabelled ones. S may be several
domains, as in amazon+imdb:yelp. --tune trains plainly on
the source with each learning rate and number of epochs, and judges by a fifth of the source's rows, held out: no target
label chooses anything. Each measurement runs in a process of its own and is appended to --results as one line, so that
a run that was cut off goes on; --report prints the table of what is there, differences paired by pair and seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from measured import measure_all

RATES, EPOCHS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4), (2, 4, 8)
FEW = 8  # labels a class of the target, where some are given
BODY: dict[str, list[Any]] = {"text": ["pooling"], "image": [], "audio": []}
CLOSED = ["contrastive", "logistic_head"]  # few labels are best learnt so
# Rows or ways of which no network is trained by steps
UNTRAINED = ("few", "frozen", "propagation", "frozen_shares", "frozen_pseudo", "adapted_head", "adapted_both")
WAYS: dict[str, tuple[str, list[Any]]] = {  # rows that are learnt from, techniques
    "source_only": ("source", []),
    "statistics": ("source", []),  # adapted to the test rows, as `predict --adapt` does
    "tent": ("source", []),
    "frozen": ("source", ["logistic_head"]),  # above the pretrained network as it is
    "frozen_shares": ("source", ["logistic_head", "label_shift"]),  # all classes alike frequent, as they are here
    "frozen_pseudo": ("source", ["logistic_head", {"pseudo_labels": {"rounds": 2, "confidence": 0.7}}]),
    "shares": ("source", ["label_shift"]),
    "propagation": ("source", ["logistic_head", "label_propagation"]),
    "adapted_head": ("source", ["adapted_head"]),
    "adapted_after": ("source", ["adapted_head"]),  # above a network that was trained on the source
    "adapted_both": ("both", ["adapted_head"]),
    "coral": ("source", [{"coral": {"weight": 1.0}}]),
    "coral_100": ("source", [{"coral": {"weight": 100.0}}]),
    "mmd": ("source", [{"mmd": {"weight": 1.0}}]),
    "dann": ("source", [{"dann": {"weight": 1.0}}]),
    "dann_weak": ("source", [{"dann": {"weight": 0.1}}]),
    "cdan": ("source", [{"cdan": {"weight": 1.0}}]),
    "mcc": ("source", [{"mcc": {"weight": 1.0}}]),
    "pseudo_labels": ("source", [{"pseudo_labels": {"rounds": 1, "confidence": 0.7}}]),
    "tapt": ("source", ["continued_pretraining"]),
    "target_few": ("few", []),
    "joint": ("both", ["joint"]),
    "joint_adapted": ("both", ["joint", "adapted_head"]),  # and then a last layer for the target
    "source_then_target": ("both", ["source_then_target"]),
    "domain_adapters": ("both", [{"domain_adapters": {"epochs": 4}}]),
    "upper_bound": ("all", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="bundled/minilm-l6")
    parser.add_argument("--pairs", nargs="+", help="source:target or source+source:target; default: all of one source")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--results", type=Path, default=Path("domain.jsonl"))
    parser.add_argument("--tune", action="store_true", help="measure learning rates and epochs by the source alone")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--against", default="source_only", choices=list(WAYS), help="what others are compared with")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a single measurement, in a child process
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given, **json.loads(given.one))))
        return
    setting = {"data": given.data.name, "model": Path(given.model).name, "batch_size": given.batch_size}
    if given.report:
        lines = [json.loads(line) for line in given.results.read_text().splitlines()]
        report([line for line in lines if setting.items() <= line.items()], given.against)
        return
    names = domains(given.data)
    pairs = given.pairs or [f"{one}:{two}" for one, two in product(names, names) if one != two]
    if given.tune:
        keys = [{"pair": pair, "seed": seed, "way": "tune", "learning_rate": rate, "epochs": epochs}
                for rate, epochs in product(RATES, EPOCHS) for pair in pairs for seed in given.seeds]  # fmt: skip
    else:
        keys = [{"pair": pair, "seed": seed, "way": way, "learning_rate": given.learning_rate, "epochs": given.epochs}
                for way in given.ways for pair in pairs for seed in given.seeds]  # fmt: skip
    report(measure_all(keys, setting, given.results), given.against)


def domains(folder: Path) -> list[str]:
    """Names of the domains of a set."""
    if (folder / "train.jsonl").exists():
        return sorted({json.loads(line)["domain"] for line in (folder / "train.jsonl").open(encoding="utf-8")})
    if (folder / "manifest.csv").exists():
        return sorted({row["speaker"] for row in spoken(folder)})
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def report(lines: list[dict[str, Any]], against: str) -> None:
    """A line a way: mean accuracy over pairs and seeds, and the difference from one of them on the same ones."""
    import numpy as np

    from hf_smalldata.evaluation.intervals import paired_difference

    tuned = [line for line in lines if line["way"] == "tune"]
    for rate, epochs in sorted({(line["learning_rate"], line["epochs"]) for line in tuned}):
        some = [line for line in tuned if (line["learning_rate"], line["epochs"]) == (rate, epochs)]
        print(f"| {rate} | {epochs} epochs | {np.mean([line['source_accuracy'] for line in some]):.3f} on the source "
              f"| {np.mean([line['accuracy'] for line in some]):.3f} on the target | {len(some)} |")  # fmt: skip
    by_way = {way: {(line["pair"], line["seed"]): line for line in lines if line["way"] == way} for way in WAYS}
    plain = by_way[against]
    print(f"| way | pairs x seeds | accuracy | against {against} | s |\n|---|---|---|---|---|")
    for way, found in by_way.items():
        both = sorted(found.keys() & plain.keys())
        if not both:
            continue
        mine, theirs = (np.array([side[key]["accuracy"] for key in both]) for side in (found, plain))
        shown = "" if way == against else paired_difference(mine, theirs).show()
        print(f"| {way} | {len(both)} | {mine.mean():.3f} | {shown} "
              f"| {np.mean([found[key]['seconds'] for key in both]):.0f} |")  # fmt: skip


def measure(given: argparse.Namespace, pair: str, seed: int, way: str, learning_rate: float, epochs: int) -> Any:
    """Accuracy on the target's test rows."""
    import time
    from functools import partial
    from typing import get_args

    import numpy as np
    import transformers

    from hf_smalldata.data.sample import draw_for
    from hf_smalldata.fitting import Fitting
    from hf_smalldata.memory import keep_freed
    from hf_smalldata.pipeline import read_rows, test_rows
    from hf_smalldata.recipe import Recipe
    from hf_smalldata.tasks import get_task
    from hf_smalldata.training.adapt import Adaptation, adapt

    transformers.logging.set_verbosity_error()
    keep_freed()
    rows, techniques = ("source", []) if way == "tune" else WAYS[way]
    first, target = pair.split(":")
    sources = first.split("+")
    kind = kind_of(given.data)
    with tempfile.TemporaryDirectory() as place:
        files = {"text": texts, "image": images, "audio": sounds}[kind](given.data, sources, target, Path(place))
        data = {"train": files["source"], "test": files["test"], "unlabelled": files["unlabelled"]}
        if rows != "source":
            data |= {"train": files["target"], **({} if rows == "all" else {"labels_per_class": FEW})}
        if rows == "both":
            data["source"] = [files[source] for source in sources]
        if way == "tune":
            data["validation_fraction"] = 0.2
        closed = CLOSED if rows == "few" else []
        recipe = Recipe.parse(
            {
                "task": f"{kind}-classification",
                "data": data,
                "model": {"name": given.model, **({"image_size": given.image_size} if given.image_size else {})},
                "techniques": [*(techniques if way == "tapt" else []), *BODY[kind], *closed,
                               *(techniques if way != "tapt" else [])],
                "train": {"num_train_epochs": 0 if {rows, way} & set(UNTRAINED) else epochs,
                          "learning_rate": learning_rate, "per_device_train_batch_size": given.batch_size,
                          "disable_tqdm": True},
                "seeds": [seed],
            }
        )  # fmt: skip
        read = read_rows(recipe, get_task(recipe.task))
        held = read.validation
        if way == "tune":  # judges, but does not choose the epoch: that would tune each setting once more
            from dataclasses import replace

            read = replace(read, validation=None)
        started = time.perf_counter()
        fitting = Fitting.of(recipe, read, Path(place))
        learnt = fitting.attempt(draw_for(read, recipe.data, seed), seed, seed)
        if way in get_args(Adaptation):
            asked = fitting.task.encode(test_rows(read), fitting.processor)
            adapt(learnt.model, asked, partial(fitting.task.collate, processor=fitting.processor), way)
        seconds = time.perf_counter() - started

        def accuracy(some: Any) -> float:
            said = fitting.predict(learnt.model, some).argmax(-1)
            return round(float((said == np.asarray(some["label"][:])).mean()), 4)

        more = {} if held is None else {"source_accuracy": accuracy(held)}
        test = test_rows(read)
        return {"accuracy": accuracy(test), **more, "seconds": round(seconds, 1), "test_rows": len(test),
                "train_rows": learnt.facts["train_rows"]}  # fmt: skip


def kind_of(folder: Path) -> str:
    """What a set is of, by the file that names its rows."""
    named = {"train.jsonl": "text", "manifest.csv": "audio"}
    return next((kind for name, kind in named.items() if (folder / name).exists()), "image")


def texts(folder: Path, sources: list[str], target: str, place: Path) -> dict[str, str]:
    """Files of one pair: of all sources, of each, and of the target."""
    parts = {"source": ("train", sources), "target": ("train", [target]), "test": ("test", [target]),
             **{source: ("train", [source]) for source in sources}}  # fmt: skip
    for name, (split, domains) in parts.items():
        lines = [line for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
                 if json.loads(line)["domain"] in domains]  # fmt: skip
        (place / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    without = [json.dumps({"text": json.loads(line)["text"]})
               for line in (place / "target.jsonl").read_text(encoding="utf-8").splitlines()]  # fmt: skip
    (place / "unlabelled.jsonl").write_text("\n".join(without), encoding="utf-8")
    return {name: str(place / f"{name}.jsonl") for name in (*parts, "unlabelled")}


def images(folder: Path, sources: list[str], target: str, place: Path) -> dict[str, str]:
    """Folders of one pair: every second file of each class of the target is a test row."""
    for at, file in enumerate(sorted((folder / target).glob("*/*"))):
        part = place / ("test" if at % 2 else "target") / file.parent.name
        part.mkdir(parents=True, exist_ok=True)
        (part / file.name).symlink_to(file.resolve())
    for file in (file for source in sources for file in (folder / source).glob("*/*")):
        part = place / "source" / file.parent.name
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{file.parts[-3]}-{file.name}").symlink_to(file.resolve())
    return {
        **{source: str(folder / source) for source in sources},
        "source": str(place / "source"),
        "target": str(place / "target"),
        "test": str(place / "test"),
        "unlabelled": str(place / "target"),
    }


def spoken(folder: Path) -> list[dict[str, str]]:
    """Rows of a manifest of sounds."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sounds(folder: Path, sources: list[str], target: str, place: Path) -> dict[str, str]:
    """Folders of one pair of speakers."""
    parts = {("train", target): ["target"], ("test", target): ["test"],
             **{("train", source): ["source", source] for source in sources}}  # fmt: skip
    for row in spoken(folder):
        for part in parts.get((row["split"], row["speaker"]), ()):
            (place / part / row["label"]).mkdir(parents=True, exist_ok=True)
            (place / part / row["label"] / Path(row["path"]).name).symlink_to((folder / row["path"]).resolve())
    return {**{part: str(place / part) for part in (*sources, "source", "target", "test")},
            "unlabelled": str(place / "target")}  # fmt: skip


if __name__ == "__main__":
    main()
