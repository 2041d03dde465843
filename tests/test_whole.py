"""Outputs are there whole, or as they were before."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_smalldata.whole import whole


def test_a_file_and_a_folder_take_the_place_of_what_was_there(tmp_path):
    file, folder = tmp_path / "new" / "table.csv", tmp_path / "folder"
    for text in ("first", "second"):
        with whole(file) as partial:
            partial.write_text(text)
        with whole(folder) as partial:
            partial.mkdir()
            (partial / text).touch()
    assert file.read_text() == "second"
    assert [each.name for each in folder.iterdir()] == ["second"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "new"]


def interrupted(target: Path) -> None:
    with whole(target) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt


def test_after_an_error_all_is_as_before(tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("before")
    for target in (kept, tmp_path / "deep" / "down" / "other.csv"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(target)
    assert [each.name for each in tmp_path.iterdir()] == ["kept.csv"]
    assert kept.read_text() == "before"


def test_what_an_interrupted_writing_left_is_no_obstacle(tmp_path):
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "half").touch()
    with whole(tmp_path / "folder") as partial:
        partial.mkdir()
    assert list((tmp_path / "folder").iterdir()) == []
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_was_there_comes_back_where_the_new_cannot_take_its_place(tmp_path):
    target = tmp_path / "kept.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), whole(target):
        pass  # nothing is written, so nothing can be renamed
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
