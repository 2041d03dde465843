"""Logits come back in the order of the rows, whatever the batches were."""

from __future__ import annotations

import numpy as np
import pytest

from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.predict import predict_logits


def logits_of(kit, network, batch_size: int, rows=None) -> np.ndarray:
    encoded = EncodedRows(kit.rows if rows is None else rows, kit.task, kit.processor)
    return predict_logits(
        network, encoded, collator(kit.task, kit.processor, len(kit.labels), kit.problem_type), batch_size
    )


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_each_row_has_its_own_logits_at_any_batch_size(batch_size, kits):
    for kit in kits.values():
        network = kit.network().eval()
        encoded = kit.task.encode(kit.rows, kit.processor)
        alone = [
            network(**kit.task.collate([features], kit.processor)).logits[0].detach().numpy() for features in encoded
        ]
        expected = [kit.task.select(*both) for both in zip(alone, encoded, strict=True)]
        found = logits_of(kit, network, batch_size)
        assert np.concatenate([np.atleast_2d(each) for each in expected]).std(0).min() > 1e-3  # rows differ
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_dropout_is_off_whatever_mode_the_network_was_in(text):
    network = text.network().train()
    np.testing.assert_array_equal(logits_of(text, network, 4), logits_of(text, network, 4))


def test_logits_are_single_precision_numbers_of_every_row(text):
    found = logits_of(text, text.network(), 5, text.rows.select([3]))
    assert found.shape == (1, 3)
    assert found.dtype == np.float32
