"""What trainings share is the very thing that each would compute for itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.kept import Kept, fingerprint
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.fewshot import rows
from hf_smalldata.techniques.fewshot.logistic_head import LogisticHead
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.prefix_cache import prefix_cache

PROBLEM = "single_label_classification"


def fitting_of(kit, folder, kept, blocks: Any = 1) -> Fitting:
    recipe = Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows"}, "model": {"name": str(kit.folder)},
        "techniques": [Freeze(blocks=blocks)],
        "train": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2},
    })  # fmt: skip
    return Fitting(recipe, kit.task, kit.processor, Splits(kit.rows, None, kit.rows, kit.labels, PROBLEM), folder,
                   kept=kept)  # fmt: skip


def outcome(fitting: Fitting, rows, seed: int) -> np.ndarray:
    return fitting.predict(fitting.learn(rows, seed).model, rows)


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
@pytest.mark.parametrize("blocks", [1, "all"])
def test_a_second_training_with_what_is_kept_gives_the_same_bits(modality, blocks, kits, tmp_path):
    kit, kept = kits[modality], Kept()
    outcome(fitting_of(kit, tmp_path / "first", kept, blocks), kit.rows, 0)
    before = kept.used_bytes
    shared = outcome(fitting_of(kit, tmp_path / "second", kept, blocks), kit.rows, 1)
    assert kept.used_bytes == before > 0  # nothing was computed that was not there
    alone = outcome(fitting_of(kit, tmp_path / "third", Kept(), blocks), kit.rows, 1)
    np.testing.assert_array_equal(shared, alone)


def test_a_frozen_block_runs_once_for_a_row(kits, tmp_path, monkeypatch):
    kit, kept, passed = kits["text-classification"], Kept(), []
    layer = type(kit.task.load_model(Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows"}, "model": {"name": str(kit.folder)}}).model,
        kit.labels, PROBLEM).bert.encoder.layer[0])  # fmt: skip
    plain = layer.forward

    def counted(self, hidden, *args, **kwargs):
        passed.append(len(hidden))
        return plain(self, hidden, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", counted)

    def rows_run(name: str) -> int:
        passed.clear()
        fitting = fitting_of(kit, tmp_path / name, kept, "all")
        fitting.predict(fitting.learn(kit.rows, 0).model, kit.rows)
        return sum(passed)

    layers, first = 2, rows_run("first")
    # Every row went through every layer once; the rest are rows that find the cut and compare.
    assert first - rows_run("second") == layers * len(kit.rows)


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_a_frozen_network_embeds_the_same_rows_once_and_gives_the_same_bits(modality, kits, monkeypatch):
    kit, kept, ran = kits[modality], Kept(), []
    plain = rows.embeddings
    monkeypatch.setattr(rows, "embeddings", lambda model, *args: ran.append(1) or plain(model, *args))

    def features(network, kept):
        ran.clear()
        found, _ = rows.features_of(network, replace(kit.context(), kept=kept))
        return found, len(ran)

    network = kit.network()
    alone, batches = features(network, Kept(cap_bytes=0))
    assert batches > 0
    assert features(network, kept)[1] == batches
    torch.nn.init.normal_(network.classifier.weight)  # which reads embeddings, and has no part in them
    again, none = features(network, kept)
    assert none == 0
    assert torch.equal(again, alone)
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    moved, anew = features(network, kept)
    assert anew == batches
    assert not torch.equal(moved, alone)


@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_a_network_that_takes_no_step_reads_rows_once_whatever_head_it_has(modality, kits, tmp_path, monkeypatch):
    kit, embedded, ran = kits[modality], Kept(), []
    recipe = Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows"}, "model": {"name": str(kit.folder)},
        "techniques": [LogisticHead()], "train": {"num_train_epochs": 0},
    })  # fmt: skip
    fitting = Fitting(recipe, kit.task, kit.processor, Splits(kit.rows, None, kit.rows, kit.labels, PROBLEM), tmp_path)
    some = kit.rows.select(range(0, len(kit.rows), 2))  # another head
    models = [fitting.learn(drawn, 0).model for drawn in (kit.rows, some)]
    alone = [replace(fitting, embedded=Kept(0)).predict(model, kit.rows) for model in models]
    for model in models:
        model.register_forward_hook(lambda _, given, found: ran.append(len(found.logits)))
    first = replace(fitting, embedded=embedded).predict(models[0], kit.rows)
    passed = sum(ran)
    ran.clear()
    second = replace(fitting, embedded=embedded).predict(models[1], kit.rows)
    assert passed - sum(ran) == len(kit.rows)  # less those few rows that find the head
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], alone)
    with torch.no_grad():
        next(models[1].parameters()).mul_(1.5)
    ran.clear()
    assert not np.array_equal(replace(fitting, embedded=embedded).predict(models[1], kit.rows), second)
    assert sum(ran) == passed


def test_rows_are_encoded_once(kits):
    kit, kept, seen = kits["text-classification"], Kept(), []

    class Counting(type(kit.task)):
        def encode(self, rows, processor):
            seen.append(len(rows))
            return super().encode(rows, processor)

    task = Counting()
    part = kept.features(kit.rows.select([3, 1]), task, kit.processor)
    whole = kept.features(kit.rows, task, kit.processor)
    again = kept.features(kit.rows.select([1, 3]), task, kit.processor)
    assert seen == [2, len(kit.rows) - 2]
    assert (part[0], part[1]) == (whole[3], whole[1]) == (again[1], again[0])
    assert whole == kit.task.encode(kit.rows, kit.processor)


def test_past_the_cap_nothing_is_kept_and_nothing_changes(kits):
    kit, kept = kits["image-classification"], Kept(cap_bytes=10)
    found = kept.features(kit.rows, kit.task, kit.processor)
    assert kept.used_bytes == 0
    expected = kit.task.encode(kit.rows, kit.processor)
    assert all(np.array_equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(found, expected, strict=True))
    made = [kept.states(b"key", lambda: torch.zeros(100), lambda state: state.numel() * 4) for _ in range(2)]
    assert made[0] is not made[1]


def test_a_fingerprint_follows_frozen_weights_and_not_those_that_learn():
    def network(frozen: float, learnt: float) -> torch.nn.Module:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
        torch.nn.init.constant_(model[0].weight, frozen)
        torch.nn.init.constant_(model[0].bias, frozen)
        torch.nn.init.constant_(model[2].weight, learnt)
        torch.nn.init.constant_(model[2].bias, learnt)
        model[0].requires_grad_(False)
        return model

    assert fingerprint(network(1, 2)) == fingerprint(network(1, 3))
    assert fingerprint(network(1, 2)) != fingerprint(network(1.5, 2))
    moved = network(1, 2)
    moved[1].running_mean += 1
    assert fingerprint(moved) != fingerprint(network(1, 2))


@pytest.fixture
def computed(text, tmp_path, monkeypatch):
    """(rows, network) -> how many batches of states were computed that were not kept from the calls before."""
    kept, made = Kept(), []
    plain = Kept.states
    monkeypatch.setattr(Kept, "states", lambda self, key, make, size: plain(
        self, key, lambda: made.append(key) or make(), size))  # fmt: skip

    def run(rows, network) -> int:
        made.clear()
        encoded = EncodedRows(rows, text.task, text.processor)
        with prefix_cache(network, [encoded], collator(text.task, text.processor, 3, PROBLEM), tmp_path, kept) as fed:
            assert fed.on
        return len(made)

    return run


def frozen(text, blocks: Any = 1, seed: int = 0) -> Any:
    return Freeze(blocks=blocks).model(text.network(seed), text.context())


def test_states_are_found_again_by_the_same_rows_and_model_alone(text, computed):
    assert computed(text.rows, frozen(text)) == 1
    assert computed(text.rows, frozen(text)) == 0
    assert computed(text.rows, frozen(text, seed=1)) == 0  # another head learns above the same body


def test_other_rows_have_states_of_their_own(text, computed):
    assert computed(text.rows, frozen(text)) == 1
    changed = text.rows.map(lambda row, at: {"text": row["text"] + (" food" if at == 7 else "")}, with_indices=True)
    assert computed(changed, frozen(text)) == 1


def test_another_model_cut_or_precision_has_states_of_its_own(text, computed):
    assert computed(text.rows, frozen(text)) == 1
    moved = frozen(text)
    with torch.no_grad():
        moved.bert.encoder.layer[0].output.dense.bias[3] += 1e-6
    assert computed(text.rows, moved) == 1
    assert computed(text.rows, frozen(text, "all")) == 1
    assert computed(text.rows, frozen(text).to(torch.bfloat16)) == 1
