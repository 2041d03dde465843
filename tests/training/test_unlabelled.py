"""Unlabelled rows beside labelled ones: evenly over domains, of like length, the same in any number of processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_smalldata.data.made import with_made
from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Beside, Technique
from hf_smalldata.techniques.augment.flip import Flip
from hf_smalldata.techniques.augment.mutation import Mutation
from hf_smalldata.testing import text_rows
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, LikeLengths, collator
from hf_smalldata.training.trainer import SmallDataTrainer
from hf_smalldata.training.unlabelled import UnlabelledRows, chosen, riders


class Wants(Technique):
    """Some unlabelled rows in its batches."""

    name = "wants"
    tasks = ALL_TASKS

    per_row: int = 2
    strong: Technique | None = None

    def beside(self, kind):
        return Beside(self.per_row, self.strong)

    def penalty(self, model, batch, outputs):
        return batch["unlabelled"]["input_ids"].float().mean()


class Shouts(Technique):
    """A `rows` hook."""

    name = "shouts"
    tasks = ALL_TASKS

    def rows(self, train, ctx):
        made = [{**row, "text": f"dog {row['text']}", "parent": row["id"]} for row in train]
        return with_made(train, made, self.name)


def without_labels(rows, domains=("one",)):
    names = [domains[at % len(domains)] for at in range(len(rows))]
    return rows.remove_columns("label").add_column("domain", names)


def beside(kit, rows=None, **settings):
    rows = without_labels(text_rows(9, seed=5)) if rows is None else rows
    return riders([Wants(**settings)], replace(kit.context(), unlabelled=rows))


def test_each_domain_is_drawn_alike_often_and_each_row_of_it():
    domains = [np.arange(4), np.arange(4, 24)]
    place = chosen(domains, np.ones(24), np.ones(20), 4, np.random.default_rng(0))
    counts = Counter(place.ravel().tolist())
    assert place.shape == (20, 4)
    assert {counts[at] for at in range(4)} == {10}
    assert {counts[at] for at in range(4, 24)} == {2}


def test_long_rows_stand_beside_long_ones():
    rng = np.random.default_rng(0)
    lengths, labelled = rng.integers(3, 100, 200).astype(float), rng.integers(3, 100, 50).astype(float)
    place = chosen([np.arange(200)], lengths, labelled, 2, rng)
    assert np.corrcoef(lengths[place].mean(1), labelled)[0, 1] > 0.9


def test_an_epoch_always_draws_the_same_and_another_one_others(text):
    found = beside(text)
    seen = []
    for epoch in (0, 1, 0):
        found.draw(epoch, [5] * 12)
        seen.append(found.place.tolist())
    assert seen[0] == seen[2] != seen[1]


def test_a_batch_holds_them_beside_its_rows(text):
    rows = EncodedRows(text.rows, text.task, text.processor, riders=beside(text))
    collate = collator(text.task, text.processor, 3, text.problem_type)
    batch = collate([rows[at] for at in range(4)])
    assert batch["labels"].shape == (4, 3)
    assert set(batch["unlabelled"]) == set(batch) - {"labels", "unlabelled"}
    assert len(batch["unlabelled"]["input_ids"]) == 8
    assert batch["unlabelled"]["attention_mask"].min(1).values.min() == 0
    halves = [collate([rows[at] for at in part])["unlabelled"]["input_ids"].sum() for part in ((0, 1), (2, 3))]
    assert sum(halves) == batch["unlabelled"]["input_ids"].sum()  # whichever process has which rows


def test_epochs_reach_them_through_the_sampler(text):
    rows = EncodedRows(text.rows, text.task, text.processor, riders=beside(text))
    before = [each["input_ids"] for each in rows[0]["unlabelled"]]
    LikeLengths(rows, 4, 0).set_epoch(3)
    assert [each["input_ids"] for each in rows[0]["unlabelled"]] != before


def test_without_them_rows_are_as_they_were(text):
    plain = EncodedRows(text.rows, text.task, text.processor)
    assert riders([], text.context()) is None
    assert set(plain[0]) == {"label", *text.task.encode(text.rows, text.processor)[0]}


def test_weak_views_are_those_of_the_recipes_own_hooks(image):
    rows = image.rows.remove_columns("label").add_column("domain", ["a"] * 12)
    context = replace(image.context(), unlabelled=rows)
    plain, turned = (UnlabelledRows(context, 1, weak) for weak in ((), (Flip(horizontal=1.0),)))
    for found in (plain, turned):
        found.draw(0, [1] * 4)
    one, two = (np.asarray(found.of(0)["unlabelled"][0]["pixel_values"]) for found in (plain, turned))
    np.testing.assert_allclose(one[..., ::-1], two, atol=1e-5)


def test_a_strong_view_of_an_example_hook_is_drawn_anew_each_epoch(sequence):
    rows = sequence.rows.remove_columns("label").add_column("domain", ["a"] * 12)
    found = UnlabelledRows(replace(sequence.context(), unlabelled=rows), 1, strong=Mutation(rate=0.3))
    strong = []
    for epoch in (0, 1):
        found.draw(epoch, [1] * 12)
        views = found.of(0)
        assert views["unlabelled"][0] == found.features[found.place[0, 0]]
        strong.append([found.of(at)["strong"][0]["input_ids"] for at in range(12)])
    assert strong[0] != strong[1]


def test_a_strong_view_of_a_rows_hook_is_one_of_its_variants(text):
    found = beside(text, strong=Shouts(), per_row=1)
    found.draw(0, [5] * 12)
    views, dog = found.of(3), text.processor.convert_tokens_to_ids("dog")
    weak, strong = views["unlabelled"][0]["input_ids"], views["strong"][0]["input_ids"]
    assert strong == [weak[0], dog, *weak[1:]]


def test_two_kinds_of_strong_views_are_refused(text):
    context = replace(text.context(), unlabelled=without_labels(text_rows(4)))
    with pytest.raises(UserError, match="one `strong` view in common"):
        riders([Wants(strong=Shouts()), Wants(strong=Mutation())], context)


def test_penalties_see_them_and_hooks_of_the_batch_do_not(text, tmp_path):
    class Looks(Technique):
        name = "looks"
        tasks = ALL_TASKS

        def batch(self, batch, model):
            assert "unlabelled" not in batch
            return batch

    network, rows = text.network(), EncodedRows(text.rows, text.task, text.processor, riders=beside(text))
    made = SmallDataTrainer(
        model=network, args=training_arguments({"disable_tqdm": True}, tmp_path, 0), techniques=[Looks(), Wants()],
        problem_type=text.problem_type,
    )  # fmt: skip
    batch = collator(text.task, text.processor, 3, text.problem_type)([rows[at] for at in range(4)])
    network.eval()
    plain = made.compute_loss(network, batch)
    network.train()
    torch.manual_seed(0)
    with_penalty = made.compute_loss(network, batch)
    assert with_penalty > plain + 1  # ids of tokens are far above any loss
    assert "unlabelled" in batch
