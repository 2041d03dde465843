"""Windows: they cover a row, overlap by half, and their predictions come back to the rows they are of."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_smalldata.tasks.windows import into_windows, mean_by_row, owners, starts


@pytest.mark.parametrize(("length", "width"), [(10, 10), (11, 10), (15, 10), (16, 10), (1000, 7), (5, 1), (9, 2)])
def test_windows_cover_the_whole_and_overlap_by_half(length, width):
    begins = starts(length, width)
    assert begins[0] == 0
    assert begins[-1] + width == length
    steps = np.diff(begins)
    assert (steps > 0).all()
    assert (steps <= max(1, width // 2)).all()


def test_what_fits_is_one_window():
    assert starts(3, 10) == [0]


def some_rows():
    features = Features({"id": Value("string"), "sequence": Value("string"), "label": ClassLabel(names=["n", "y"])})
    return Dataset.from_dict({"id": ["a", "b"], "sequence": ["ACGT", "GG"], "label": [1, 0]}, features=features)


def test_pieces_become_rows_with_the_label_and_the_types_of_their_row():
    rows = some_rows()
    windows = into_windows(rows, {"sequence": [["AC", "CG", "GT"], ["GG"]]})
    assert windows["id"][:] == ["a#0", "a#1", "a#2", "b"]
    assert windows["sequence"][:] == ["AC", "CG", "GT", "GG"]
    assert windows["label"][:] == [1, 1, 1, 0]
    assert windows.features == rows.features
    assert windows.column_names == rows.column_names


def test_rows_that_fit_are_the_same_object():
    rows = some_rows()
    assert into_windows(rows, {"sequence": [["ACGT"], ["GG"]]}) is rows


def test_the_owner_of_a_window_is_found_whatever_signs_its_id_holds():
    assert owners(["a#1#0", "a#1#1", "b#7", "c"], ["c", "b#7", "a#1"]) == [2, 2, 1, 0]
    with pytest.raises(KeyError):
        owners(["z#0"], ["a"])


def test_a_row_gets_the_mean_of_its_windows():
    values = np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6], [0.9, 0.1]])
    merged = mean_by_row(values, ["a#0", "b", "a#1", "c#0"], ["b", "a", "c"])
    assert merged == pytest.approx(np.array([[0.5, 0.5], [0.3, 0.7], [0.9, 0.1]]))
    assert mean_by_row(np.array([1.0, 2.0, 6.0]), ["a#0", "a#1", "b"], ["a", "b"]) == pytest.approx([1.5, 6.0])
