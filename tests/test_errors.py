"""The words that users are told things in."""

from __future__ import annotations

import pytest

from hf_smalldata.errors import did_you_mean, listed, require, spoken


def test_facts_are_told_with_their_names_and_three_digits():
    facts = {"cv_loss": 0.19724498690428158, "folds": 10, "shares": {"cat": 1 / 3, "dog": 2 / 3}, "kind": "smote"}
    assert spoken(facts) == "cv loss 0.197, folds 10, shares (cat 0.333, dog 0.667), kind smote"
    assert spoken({f"class_{at}": at for at in range(30)}).endswith("class 19 19 and 10 more")


def test_lists_are_cut_and_near_names_are_asked_for():
    assert listed([1, 2, 3]) == "1, 2, 3"
    assert listed("abcd", most=2) == "a, b and 2 more"
    assert did_you_mean("lorra", ["lora", "ia3"]) == "; did you mean 'lora'?"
    assert did_you_mean("zzz", ["lora", "ia3"]) == "; known: ia3, lora"


def test_a_library_that_is_not_there_names_its_extra_and_one_that_is_broken_is_not_hidden(tmp_path, monkeypatch):
    with pytest.raises(Exception, match=r"no_such_library is not installed; run: pip install 'hf_smalldata\[x\]'"):
        require("no_such_library.part", "x")
    (tmp_path / "broken_library.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        require("broken_library", "x")
