"""A Run is written whole or not at all, and nothing but a Run is ever replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_smalldata.errors import UserError
from hf_smalldata.run import OURS, Run, environment, partial_folder, write_json, writing


def write(output: Path, text: str = "new", **given) -> None:
    """A Run of one file."""
    settings = {"overwrite": False, "resume": False, "keep_partial": False, "main": True, **given}
    with writing(output, **settings) as folders:
        (folders.run / "config.json").write_text(text)
        (folders.run / OURS / "metrics.json").write_text("{}")


def fail(output: Path, error: BaseException, checkpoint: bool = False, **given) -> None:
    """A Run that breaks off half-way."""
    settings = {"overwrite": False, "resume": False, "keep_partial": False, "main": True, **given}

    def begin() -> None:
        with writing(output, **settings) as folders:
            (folders.run / "config.json").write_text("half")
            if checkpoint:
                (folders.work / "seed-0" / "checkpoint-3").mkdir(parents=True)
            raise error

    with pytest.raises(type(error)):
        begin()


def content(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_run_is_there_whole_and_nothing_else_is_left(tmp_path):
    write(tmp_path / "runs" / "a")
    assert content(tmp_path) == {"runs/a/config.json": "new", f"runs/a/{OURS}/metrics.json": "{}"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_nothing_is_at_the_output_before_the_end(tmp_path):
    with writing(tmp_path / "a", overwrite=False, resume=False, keep_partial=False, main=True) as folders:
        assert not (tmp_path / "a").exists()
        assert folders.work.is_dir()
        assert (folders.run / OURS).is_dir()
    assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize("error", [UserError("wrong"), KeyboardInterrupt(), ValueError("bug")])
def test_after_an_error_nothing_is_left(error, tmp_path):
    fail(tmp_path / "a", error)
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_run_that_was_there_untouched(tmp_path):
    write(tmp_path / "a", "old")
    before = content(tmp_path)
    fail(tmp_path / "a", ValueError("bug"), overwrite=True)
    assert content(tmp_path) == before


def test_overwrite_replaces_a_run_and_leaves_none_of_its_files(tmp_path):
    write(tmp_path / "a", "old")
    (tmp_path / "a" / "extra.bin").write_text("old")
    write(tmp_path / "a", "new", overwrite=True)
    assert content(tmp_path) == {"a/config.json": "new", f"a/{OURS}/metrics.json": "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_is_not_replaced_unasked(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(UserError) as caught:
        write(tmp_path / "a")
    assert str(caught.value) == f"--output: {tmp_path / 'a'} exists; choose another folder or pass --overwrite"
    assert content(tmp_path)["a/config.json"] == "old"


def test_what_is_not_a_run_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    with pytest.raises(UserError) as caught:
        write(tmp_path / "thesis", overwrite=True)
    assert str(caught.value) == (
        f"--overwrite: {tmp_path / 'thesis'} is not a Run, so it is left alone; choose another folder"
    )
    assert content(tmp_path) == {"thesis/chapter.tex": "years"}


def test_a_file_is_no_output(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        write(tmp_path / "a", overwrite=True)
    assert (tmp_path / "a").read_text() == "x"


def test_an_empty_folder_may_be_written_into(tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a")
    assert (tmp_path / "a" / "config.json").read_text() == "new"


def test_a_checkpoint_is_kept_for_resume_and_the_half_run_is_made_anew(tmp_path):
    fail(tmp_path / "a", KeyboardInterrupt(), checkpoint=True, keep_partial=True)
    assert not (tmp_path / "a").exists()
    with writing(tmp_path / "a", overwrite=False, resume=True, keep_partial=True, main=True) as folders:
        assert (folders.work / "seed-0" / "checkpoint-3").is_dir()
        assert content(folders.run) == {}
    assert not partial_folder(tmp_path / "a").exists()


def test_without_resume_earlier_work_is_thrown_away(tmp_path):
    fail(tmp_path / "a", KeyboardInterrupt(), checkpoint=True, keep_partial=True)
    with writing(tmp_path / "a", overwrite=False, resume=False, keep_partial=True, main=True) as folders:
        assert list(folders.work.iterdir()) == []


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(UserError, match=f"^--resume: nothing to resume for {tmp_path / 'a'}; a training that saves"):
        write(tmp_path / "a", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_another_process_makes_and_moves_nothing(tmp_path):
    with writing(tmp_path / "a", overwrite=False, resume=False, keep_partial=False, main=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_opens_only_where_there_is_one(tmp_path):
    write(tmp_path / "a")
    assert Run.open(tmp_path / "a").metrics == {}
    with pytest.raises(UserError, match="no such Run; expected a folder that `hf-smalldata train` wrote"):
        Run.open(tmp_path / "b")
    with pytest.raises(UserError, match=f"not a Run; expected {OURS}/metrics.json in it"):
        Run.open(tmp_path)


def test_json_is_readable_and_ends_its_last_line(tmp_path):
    write_json(tmp_path / "x.json", {"größe": [1, 2]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "größe" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"größe": [1, 2]}


def test_the_environment_names_the_versions_that_matter():
    found = environment()
    assert {"torch", "transformers", "peft", "datasets"} <= set(found["versions"])
    assert json.loads(json.dumps(found)) == found
