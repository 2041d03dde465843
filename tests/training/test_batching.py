"""Batches: like lengths together, a new order each epoch, soft targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hf_smalldata.technique import Technique
from hf_smalldata.testing import text_rows
from hf_smalldata.training.batching import EncodedRows, LikeLengths, by_length, collator

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
