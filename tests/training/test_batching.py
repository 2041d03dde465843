"""Batches: like lengths together, a new order each epoch, soft targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hf_smalldata.technique import Technique
from hf_smalldata.testing import text_rows
from hf_smalldata.training.batching import EncodedRows, LikeLengths, by_length, collator, shared

PROBLEM = "single_label_classification"
ROWS = 50


@pytest.fixture(scope="module")
def many(text) -> EncodedRows:
    return EncodedRows(text_rows(17).select(range(ROWS)), text.task, text.processor)


def order_of(rows: EncodedRows, seed: int = 0, epoch: int = 0, size: int = 8) -> list[int]:
    sampler = LikeLengths(rows, size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_like_lengths_is_a_permutation(many):
    assert sorted(order_of(many)) == list(range(ROWS))
    assert len(LikeLengths(many, 8, 0)) == ROWS
    assert sorted(order_of(many, size=64)) == list(range(ROWS))


def test_rows_of_a_batch_are_of_like_length(many):
    lengths = np.array(many.lengths)

    def spread(order: Sequence[int]) -> float:
        return float(np.mean([np.ptp(lengths[order[at : at + 8]]) for at in range(0, 48, 8)]))

    assert spread(order_of(many)) < spread(list(np.random.default_rng(0).permutation(ROWS))) / 2


def test_order_differs_by_epoch_and_seed_and_is_the_same_for_both_given(many):
    assert order_of(many) == order_of(many)
    assert order_of(many, epoch=1) != order_of(many)
    assert order_of(many, seed=1) != order_of(many)
    together = [{frozenset(order_of(many, epoch=epoch)[at : at + 8]) for at in range(0, 48, 8)} for epoch in (0, 1)]
    assert together[0] != together[1]  # not the same batches in another order


def test_the_incomplete_batch_is_of_any_length_and_comes_last(many):
    lengths = np.array(many.lengths)
    lasts = [lengths[order_of(many, epoch=epoch)[48:]].mean() for epoch in range(20)]
    assert min(lasts) < np.quantile(lengths, 0.3)
    assert max(lasts) > np.quantile(lengths, 0.7)


@pytest.mark.parametrize(("size", "processes"), [(8, 2), (32, 4), (64, 2)])
def test_processes_share_the_incomplete_batch_evenly(many, size, processes):
    sampler, alone = LikeLengths(many, size, 0, processes=processes), order_of(many, size=size)
    order = list(sampler)
    assert len(order) == len(sampler) == -(-ROWS // size) * size
    assert [at for at in order if at is not None] == alone
    parts = np.array(order[-size:], dtype=float).reshape(processes, -1)
    counts = (~np.isnan(parts)).sum(1)
    assert max(counts) - min(counts) <= 1


def test_of_fewer_rows_than_processes_each_has_all_that_it_has_places_for():
    assert shared(np.array([5]), 4, 2) == [5, None, 5, None]
    assert [sorted(part) for part in np.reshape(shared(np.array([5, 6]), 6, 3), (3, 2)).tolist()] == [[5, 6]] * 3
    assert shared(np.array([5, 6]), 3, 3) == [5, 6, 5]


def test_places_without_a_row_are_left_out_of_the_batch(text, many):
    collate = collator(text.task, text.processor, 3, PROBLEM)
    with_gaps, without = (collate([many[at] for at in places]) for places in ([0, 4, None], [0, 4]))
    for name, values in without.items():
        torch.testing.assert_close(with_gaps[name], values)


def test_batches_do_not_come_by_length(many):
    lengths = np.array(many.lengths)
    means = [lengths[order_of(many)[at : at + 8]].mean() for at in range(0, 48, 8)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_prediction_takes_the_longest_rows_first(many):
    lengths = np.array(many.lengths)
    order = [index for batch in by_length(many, 8) for index in batch]
    assert sorted(order) == list(range(ROWS))
    assert lengths[order].tolist() == sorted(lengths.tolist(), reverse=True)


def test_a_batch_to_predict_holds_no_more_tokens_than_the_budget(many):
    batches = by_length(many, 8, tokens=40)
    assert sorted(index for batch in batches for index in batch) == list(range(ROWS))
    sizes = [len(batch) * max(many.lengths[index] for index in batch) for batch in batches]
    assert max(sizes) <= 40
    assert max(map(len, batches)) > min(map(len, batches[:-1]))
    assert [len(batch) for batch in by_length(many, 8, tokens=1)] == [1] * ROWS


def test_rows_without_tokens_have_no_budget_of_them(image):
    rows = EncodedRows(image.rows, image.task, image.processor)
    assert [len(batch) for batch in by_length(rows, 8, tokens=1)] == [8, 4]


def test_tokens_are_padded_to_a_multiple_and_say_the_same(text, tokens):
    for kit in (text, tokens):
        rows = EncodedRows(kit.rows, kit.task, kit.processor)
        items = [{**rows[at], "prefix": torch.ones(rows.lengths[at], 3)} for at in (0, 1)]
        plain, wide = (
            collator(kit.task, kit.processor, len(kit.labels), kit.problem_type, multiple=by)(items) for by in (1, 7)
        )
        length = plain["input_ids"].shape[1]
        assert length % 7
        assert wide["input_ids"].shape == wide["attention_mask"].shape == (2, length + -length % 7)
        assert wide["prefix"].shape[1] == length + -length % 7
        assert (wide["labels"].dim() == 3) == (kit is tokens)
        assert wide["labels"].sum() == plain["labels"].sum()
        inputs = [{name: batch[name] for name in kit.batch(1)} for batch in (plain, wide)]
        network = kit.network().eval()
        found, expected = network(**inputs[1]).logits, network(**inputs[0]).logits
        torch.testing.assert_close(found[:, :length] if kit is tokens else found, expected, atol=1e-5, rtol=1e-4)


def test_padding_stops_where_the_model_does(text):
    longest = text.processor.model_max_length
    rows = [{"input_ids": [5] * longest, "attention_mask": [1] * longest, "label": 0}]
    assert collator(text.task, text.processor, 3, PROBLEM, multiple=1000)(rows)["input_ids"].shape == (1, longest)


def test_targets_are_soft_from_the_collator_on(text):
    rows = EncodedRows(text.rows, text.task, text.processor)
    batch = collator(text.task, text.processor, 3, PROBLEM)([rows[0], rows[4]])
    assert torch.equal(batch["labels"], torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_example_hooks_see_decoded_images_and_change_what_is_encoded(image):
    class Black(Technique):
        name = "black"
        tasks = frozenset({"image-classification"})

        def example(self, example):
            return {**example, "image": example["image"].point(lambda _: 0)}

    dark = EncodedRows(image.rows, image.task, image.processor, [Black()])
    assert dark[0]["pixel_values"].max() == 0
    assert dark.features[0]["pixel_values"].max() > 0
