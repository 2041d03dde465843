"""What holds for every augmentation, on each of its tasks; a new one is tested without more."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.augmentation.family import content
from hf_smalldata.augmentation.rows import SHOWN
from hf_smalldata.tasks import TASKS, get_task
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.techniques.augment import back_translation, paraphrase
from hf_smalldata.training.batching import draws

PAIRS = [
    (name, task)
    for name in REGISTRY
    for task in TASKS
    if get_technique(name).__module__.split(".")[2] == "augment"  # the others have tests of what they alone do
    and task in get_technique(name).tasks
    and set(SHOWN) & set(get_technique(name).model_construct().hooks())
]
each_pair = pytest.mark.parametrize(("name", "task"), PAIRS, ids=[f"{name} {task}" for name, task in PAIRS])
EPOCHS = 3
OFF: dict[str, dict[str, Any]] = {  # settings at which a technique changes nothing
    "eda": dict.fromkeys(("alpha_synonym", "alpha_insertion", "alpha_swap", "alpha_deletion"), 0),
    "char_noise": {"n_aug": 0},
    "mention_replacement": {"probability": 0},
    "segment_shuffle": {"probability": 0},
    "label_token_replacement": {"probability": 0},
    "mlm_substitution": {"fraction": 0},
    "back_translation": {"n_aug": 0},
    "paraphrase": {"n_aug": 0},
    "random_crop": {"seconds": 1e6, "letters": 10**6},  # longer than any row
    "waveform": {"probability": 0},
    "reverse_complement": {"probability": 0},
    "mutation": {"rate": 0},
    "flip": {"horizontal": 0, "vertical": 0},
    "geometry": {"degrees": 0, "scale": 0, "shift": 0, "shear": 0},
    "resized_crop": {"least": 1, "stretch": 1},
    "colour": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0},
    "blur": {"gaussian": 0, "motion": 0},
    "image_noise": {"gaussian": 0, "speckle": 0, "poisson": 0},
    "cutout": {"size": 0},
    "elastic": {"shift": 0},
    "intensity_window": {"center": 0, "width": 0, "gamma": 0},
    "rand_augment": {"magnitude": 0},
    "trivial_augment": {"strength": 0},
    "augmix": {"severity": 0},
    "image_preset": {"strength": 0},
}


@dataclass(frozen=True)
class Job:
    """A technique at its default strength and rows that it may change: nine to learn from, three held out."""

    technique: Technique
    task: str
    model: ModelSpec
    rows: Dataset
    labels: tuple[str, ...]
    problem_type: str
    work: Path

    @property
    def kind(self) -> str:
        return get_task(self.task).kind

    def decoded(self) -> list[dict[str, Any]]:
        """Rows as training decodes them; short sounds and sequences repeated, so that a crop is a part."""
        task, processor = get_task(self.task), get_task(self.task).load_processor(self.model)
        rows = [task.decode(row, processor) for row in self.rows]
        if task.kind == "audio":
            return [{**row, "audio": {**row["audio"], "array": np.tile(row["audio"]["array"], 5)}} for row in rows]
        return [{**row, "sequence": 5 * row["sequence"]} for row in rows] if task.kind == "sequence" else rows

    def context(self, learnt: Dataset) -> Context:
        task = get_task(self.task)
        processor = task.load_processor(self.model)
        return Context(
            task, self.model, processor, learnt, None, self.labels, self.problem_type, 0, self.work, lambda rows: None
        )


def variants_of(job: Job, backwards: bool = False) -> list[dict[str, Any]]:
    """Variants of the rows to learn from: made ones, or draws of three epochs, which may come in any order."""
    if "rows" in job.technique.hooks():
        learnt = job.rows.select(range(9))
        return [row for row in job.technique.rows(learnt, job.context(learnt)) if row.get("source") is not None]
    rows = job.decoded()[:9]
    order = [(row, epoch) for row in rows for epoch in range(EPOCHS)]
    found = {
        (row["id"], epoch): {**draws(row, [job.technique], 0, epoch)[-1], "parent": row["id"]}
        for row, epoch in (order[::-1] if backwards else order)
    }
    return [found[row["id"], epoch] for row, epoch in order]


def told(variants: list[dict[str, Any]], job: Job) -> list[Any]:
    """Parents, inputs and labels."""
    return [(row["parent"], content(row, job.kind), row["label"]) for row in variants]


@pytest.fixture(scope="module")
def job_of(kits, masked, there_and_back, causal, tmp_path_factory) -> Any:
    """Name and task -> a job with a work folder of its own; models on the Hub that techniques ask are tiny ones."""
    tiny = dict(zip(("there", "back"), there_and_back, strict=True))

    def make(name: str, task: str) -> Job:
        kind, kit = get_technique(name), kits[task]
        tiny["checkpoint"] = causal if name == "paraphrase" else str(masked.folder)
        technique = kind(**{field: model for field, model in tiny.items() if field in kind.model_fields})
        work = tmp_path_factory.mktemp("work")
        return Job(technique, task, kit.spec, kit.rows, kit.labels, kit.problem_type, work)

    return make


@pytest.fixture(scope="module")
def once(job_of, tmp_path_factory) -> Any:
    """Name and task -> a job and its variants, made once for all tests."""

    @cache
    def make(name: str, task: str) -> tuple[Job, list[dict[str, Any]]]:
        job = job_of(name, task)
        return job, variants_of(job)

    assets = tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as patched:
        for module in (back_translation, paraphrase):
            patched.setattr(module, "cached_assets_path", lambda *_: assets)
        yield make


@pytest.fixture
def job(name: str, task: str, once) -> Job:
    return once(name, task)[0]


@pytest.fixture
def found(name: str, task: str, once) -> list[dict[str, Any]]:
    """The variants."""
    return once(name, task)[1]


@pytest.fixture(scope="module")
def elsewhere(job_of, tmp_path_factory) -> dict[tuple[str, str], list[Any]]:
    """The variants of all pairs as another process makes them, which shares no file with this one."""
    place = tmp_path_factory.mktemp("elsewhere")
    jobs = [vars(job_of(*pair)) for pair in PAIRS]
    (place / "jobs").write_bytes(pickle.dumps(jobs))
    command = [sys.executable, __file__, place / "jobs", place / "told"]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "HF_ASSETS_CACHE": str(place)})
    return dict(zip(PAIRS, pickle.loads((place / "told").read_bytes()), strict=True))


@each_pair
def test_same_seed_same_variants_in_every_process_and_order_of_draws(name, task, job, found, elsewhere):
    assert told(found, job) == elsewhere[name, task]


@each_pair
def test_some_variants_differ_and_a_model_can_read_them(name, task, job, found):
    parents = {row["id"]: content(row, job.kind) for row in job.decoded()}
    assert any(content(row, job.kind) != parents[row["parent"]] for row in found)
    for row in found[:3]:
        encoded = get_task(task).encode(Rows([row]), get_task(task).load_processor(job.model))
        assert len(encoded) == 1


@each_pair
def test_labels_stay_within_the_set_and_variants_are_of_training_rows_alone(name, task, job, found):
    decoded = job.decoded()
    learnt, held_out = decoded[:9], decoded[9:]
    for row in found:
        if job.kind == "tokens":
            assert_tagged(row, len(job.labels))
        else:
            assert row["label"] in range(len(job.labels))
    assert {row["parent"] for row in found} <= {row["id"] for row in learnt}
    assert not {content(row, job.kind) for row in held_out} & {content(row, job.kind) for row in found}


@each_pair
def test_at_strength_0_nothing_is_made_and_nothing_changes(name, task, job):
    off = replace(job, technique=type(job.technique)(**{**job.technique.model_dump(), **OFF[name]}))
    parents = {row["id"]: content(row, job.kind) for row in off.decoded()}
    assert all(content(row, job.kind) == parents[row["parent"]] for row in variants_of(off))


@each_pair
def test_originals_stay_as_they_are(name, task, job):
    learnt = job.rows.select(range(9))
    if "rows" in job.technique.hooks():
        after = job.technique.rows(learnt, job.context(learnt)).select(range(9))
        assert after.select_columns(learnt.column_names).to_dict() == learnt.to_dict()
        return
    row = job.decoded()[0]
    before = content(row, job.kind), row["label"], list(row)
    draws(row, [job.technique], 0, 0)
    assert (content(row, job.kind), row["label"], list(row)) == before


class Rows(list):
    """Decoded rows, as `Task.encode` reads them."""

    column_names = ("text",)

    def __getitem__(self, at):
        return [row[at] for row in self] if isinstance(at, str) else super().__getitem__(at)


def assert_tagged(row: dict[str, Any], tags: int) -> None:
    """A tag a word, I- only after its own kind, and words where `starts` says."""
    words, given = row["tokens"], row["label"]
    assert len(words) == len(given) == len(row["starts"])
    assert set(given) <= set(range(tags))
    for last, tag in zip([0, *given], given, strict=False):
        assert tag == 0 or tag % 2 == 1 or last in (tag, tag - 1)
    for word, start in zip(words, row["starts"], strict=True):
        assert row["text"][start : start + len(word)] == word


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = [Job(**each) for each in pickle.loads(Path(sys.argv[1]).read_bytes())]
    results = [told(variants_of(each, backwards=True), each) for each in given]
    Path(sys.argv[2]).write_bytes(pickle.dumps(results))
