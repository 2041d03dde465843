"""Outputs are there whole, or as they were before."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_smalldata.augmentation.files import check_target
from hf_smalldata.augmentation.synthesis import check_out as check_set
from hf_smalldata.doctor.fix import check_target as check_fix
from hf_smalldata.episodes import check_new
from hf_smalldata.errors import UserError
from hf_smalldata.export.compare import check_out
from hf_smalldata.prediction import check_output_file
from hf_smalldata.reporting import write_report
from hf_smalldata.whole import check_makeable, whole


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


def test_whether_a_place_can_be_made_is_tried_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / "new", tmp_path / "deep" / "down" / "other.csv", tmp_path / "file"):
        check_makeable(target)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UserError, match=r"^--out: .*below cannot be made; .*file is no folder .*\(Not a directory\)"):
        check_makeable(tmp_path / "file" / "below", "--out")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="of Linux")
@pytest.mark.parametrize(("check", "option"), [
    (lambda place: check_output_file(place, overwrite=False), "--output"),
    (lambda place: check_out(place, overwrite=False), "--out"),
    (lambda place: check_set(place, overwrite=False), "--out"),
    (lambda place: check_target(place, "text", overwrite=False), "--out"),
    (check_fix, "--fix"),
    (check_new, "--output"),
    (lambda place: write_report("run", output=place), "--output"),
])  # fmt: skip
def test_every_output_is_tried_before_anything_is_made(check, option):
    with pytest.raises(UserError, match=f"^{option}: /proc/x.csv cannot be made; /proc is no folder"):
        check(Path("/proc/x.csv"))
