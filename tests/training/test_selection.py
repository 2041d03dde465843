"""What tells the best epoch without labels."""

from __future__ import annotations

import numpy as np
import pytest

from hf_smalldata.testing import text_rows
from hf_smalldata.training.selection import LAST, MOST_ROWS, entropy, mutual_information, selects, some


def test_entropy_and_mutual_information_are_their_formulas():
    answers = np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    each = [np.log(2), -(0.4 * np.log(0.2) + 0.6 * np.log(0.6))]
    mean = np.array([0.35, 0.35, 0.3])
    assert entropy(answers) == pytest.approx(np.mean(each))
    assert mutual_information(answers) == pytest.approx(-(mean * np.log(mean)).sum() - np.mean(each))


def test_only_mutual_information_sees_that_all_rows_got_one_class():
    constant, varied = np.eye(3)[[0, 0, 0]], np.eye(3)
    assert entropy(constant) == entropy(varied) == 0
    assert mutual_information(constant) == 0
    assert mutual_information(varied) == pytest.approx(np.log(3))


def test_many_rows_are_sampled_by_the_seed():
    rows = text_rows(MOST_ROWS)
    one, again, other = (some(rows, seed)["id"][:] for seed in (0, 0, 1))
    assert one == again != other
    assert len(set(one)) == MOST_ROWS
    few = rows.select(range(10))
    assert some(few, 0) is few


def test_what_is_kept_is_told():
    assert selects("validation", None) == LAST
    assert selects("validation", text_rows(1)) == "the best epoch on validation rows"
    assert selects("entropy", text_rows(1)) == "the epoch with the best entropy on unlabelled rows"
