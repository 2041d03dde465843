"""`hf-smalldata check` as a shell sees it: exit codes, what is printed where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_smalldata.testing import tiny_text_model
from hf_smalldata.whole import alone


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """train.jsonl and test.jsonl of one leak."""
    rows = [f"row {at} of {at * at} {at * 7919 % 1009} {at * 104729 % 997} words" for at in range(160)]
    folder = tmp_path / "rows"
    folder.mkdir()
    for split, some in (("train", rows[:100]), ("test", [*rows[100:], rows[2]])):
        lines = [json.dumps({"text": text, "label": "ab"[at % 2]}) for at, text in enumerate(some)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def test_a_fail_exits_with_1_and_names_the_rows(data, command):
    code, output, errors = command("check", data)
    assert code == 1, errors
    assert "examined for text-classification (guessed; --task sets it)" in output
    assert "1 of 61 test rows is in the training rows as well" in " ".join(output.split())
    assert "test.jsonl:60" in output
    assert "--fix OUT writes a copy without 1 row of these" in output


def test_json_is_one_document_and_nothing_else(data, command):
    code, output, errors = command("check", data, "--task", "text-classification", "--json")
    found = json.loads(output)
    assert (code, found["level"], found["guessed"]) == (1, "fail", False)
    (leak,) = [each for each in found["findings"] if each["name"] == "leaks"]
    assert leak["ids"] == ["test.jsonl:60"]
    assert errors == ""


def test_a_copy_that_another_process_is_writing_is_left_to_it(data, tmp_path, command):
    with alone(tmp_path / "clean"):
        code, _, errors = command("check", data, "--fix", tmp_path / "clean")
    assert (code, "clean: another process is writing it" in errors) == (2, True)
    assert not (tmp_path / "clean").exists()


def test_the_cleaned_copy_passes_with_0(data, tmp_path, command):
    assert command("check", data, "--fix", tmp_path / "clean")[0] == 1
    code, output, _ = command("check", tmp_path / "clean", "--json")
    assert code == 0, output
    assert (tmp_path / "clean" / "changes.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/such.csv"], "no such file"),
        (["DATA", "--task", "text-clasification"], "did you mean 'text-classification'"),
        (["DATA", "train.epochs=3"], "expected data.KEY=VALUE"),
        (["DATA", "data.label_colum=x"], "data.label_colum"),
        (["DATA", "data.label_column=x"], "no column 'x'"),
        (["DATA", "--fix", "DATA"], "is there already"),
    ],
)
def test_what_a_user_can_mend_exits_with_2(data, words, said, command):
    code, _, errors = command("check", *[data if word == "DATA" else word for word in words])
    assert code == 2, errors
    assert said in errors


def test_what_is_wrong_with_a_target_is_said_of_the_target(data, tmp_path, command):
    target = tmp_path / "target.jsonl"
    lines = [json.dumps({"text": f"row {at} of others", "label": "xy"[at % 2]}) for at in range(40)]
    target.write_text("\n".join(lines))
    code, _, errors = command("check", "--source", data / "train.jsonl", "--target", target)
    assert code == 2
    assert "--target:" in errors
    assert "data.source:" not in errors
    assert "labels x, y; --source has a, b" in " ".join(errors.split())


def test_a_recipe_brings_its_data_task_and_tokens(data, tmp_path, command):
    tiny_text_model(tmp_path / "bert")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"task: text-classification\ndata: {{name: {data}}}\nmodel: {{name: {tmp_path / 'bert'}}}\n")
    found = json.loads(command("check", recipe, "--json")[1])
    (lengths,) = [each for each in found["findings"] if each["name"] == "lengths"]
    assert found["task"] == "text-classification"
    assert "tokens (median)" in lengths["sentence"]
    assert "above the model's" in lengths["sentence"]


def test_settings_override_a_plain_source(data, command):
    _, output, _ = command("check", data / "train.jsonl", f"data.test={data / 'test.jsonl'}", "--json")
    assert json.loads(output)["rows"] == {"train": 100, "test": 61}
