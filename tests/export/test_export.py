"""ONNX files say what the model says, for any number and length of rows, and tell nothing of this machine."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from hf_smalldata import bundle, pipeline
from hf_smalldata.errors import UserError
from hf_smalldata.export import compare, graph
from hf_smalldata.export.compare import ExportError, Subject, export
from hf_smalldata.export.graph import Program
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import read_json
from hf_smalldata.testing import tiny_audio_model
from hf_smalldata.whole import alone

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture(scope="module", autouse=True)
def _unproven():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bundle, "prove", lambda *_: 0.0)
        yield


@pytest.fixture
def trained(kits, sources, tmp_path):
    """Task and model folder -> its Run."""

    def run(modality, model=None, **more):
        recipe = Recipe.parse({"task": modality, "data": sources[modality],
                               "model": {"name": str(model or kits[modality].folder)},
                               "train": {"num_train_epochs": 1, "learning_rate": 1e-3}, **more})  # fmt: skip
        return pipeline.train(recipe, tmp_path / "run")

    return run


def lines(told) -> dict[str, dict]:
    return {line["model"]: line for line in told["models"]}


@pytest.mark.parametrize("modality", ["text-classification",
                                      pytest.param("image-classification", marks=pytest.mark.slow),
                                      pytest.param("audio-classification", marks=pytest.mark.slow),
                                      pytest.param("token-classification", marks=pytest.mark.slow),
                                      pytest.param("sequence-classification", marks=pytest.mark.slow)])  # fmt: skip
def test_a_model_of_each_modality_does_the_same_in_full_precision(modality, trained, tmp_path):
    run = trained(modality)
    told = export(Subject.of(run), tmp_path / "onnx", ["fp32"])
    found = lines(told)["fp32"]
    assert found["largest_difference"] < 1e-5
    assert found["same_answer"] == 1.0
    main = told["main_metric"]
    assert found[main] == lines(told)["torch"][main] == pytest.approx(run.metrics["results"]["model"][main]["value"])
    assert str(tmp_path).encode() not in (tmp_path / "onnx" / "model.onnx").read_bytes()
    assert b"site-packages" not in (tmp_path / "onnx" / "model.onnx").read_bytes()


@pytest.mark.parametrize("kind", ["hubert", "whisper", "ast"])
@pytest.mark.slow
def test_audio_families_are_exported(kind, trained, tmp_path):
    run = trained("audio-classification", tiny_audio_model(tmp_path / kind, kind))
    assert lines(export(Subject.of(run), tmp_path / "onnx", ["fp32"]))["fp32"]["largest_difference"] < 1e-4


def test_smaller_files_are_smaller_and_near_and_all_is_told(trained, tmp_path):
    run = trained("text-classification", techniques=["lora"])
    told = export(Subject.of(run), tmp_path / "onnx", ["fp32", "fp16", "int8"])
    found = lines(told)
    assert list(found) == ["torch", "fp32", "fp16", "int8"]
    assert max(found["fp16"]["bytes"], found["int8"]["bytes"]) < found["fp32"]["bytes"]
    assert found["fp16"]["largest_difference"] < 0.01
    assert 0 < found["int8"]["largest_difference"] < 0.1
    assert all(line["milliseconds_a_row"] > 0 for line in found.values())
    assert read_json(tmp_path / "onnx" / "export.json") == json.loads(json.dumps(told))
    weights = {each.data_type for each in onnx.load(tmp_path / "onnx" / "model_int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in weights
    weights = {each.data_type for each in onnx.load(tmp_path / "onnx" / "model_fp16.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights
    assert onnx.TensorProto.FLOAT not in weights


@pytest.mark.parametrize("modality", ["text-classification",
                                      pytest.param("image-classification", marks=pytest.mark.slow),
                                      pytest.param("audio-classification", marks=pytest.mark.slow)])  # fmt: skip
def test_a_program_of_torch_and_half_weights_are_the_model_too(modality, trained, tmp_path):
    run = trained(modality)
    found = lines(export(Subject.of(run), tmp_path / "more", ["torch.export", "safetensors fp16"]))
    assert found["torch.export"]["largest_difference"] < 1e-6
    assert 0 < found["safetensors fp16"]["largest_difference"] < 0.01
    assert found["safetensors fp16"]["bytes"] < 0.6 * found["torch"]["bytes"]
    with zipfile.ZipFile(tmp_path / "more" / "model.pt2") as archive:
        told = b"".join(archive.read(name) for name in archive.namelist())
    assert b"site-packages" not in told
    assert str(tmp_path).encode() not in told
    stock = Subject.of(run).network.from_pretrained(tmp_path / "more")
    assert stock.dtype == torch.float16
    assert list(stock.config.id2label.values()) == run.metrics["labels"]


def test_a_program_takes_other_numbers_of_rows_and_tokens_than_it_was_written_with(trained, tmp_path):
    run = trained("text-classification")
    subject = Subject.of(run)
    export(subject, tmp_path / "more", ["torch.export"])
    inputs = dict(AutoTokenizer.from_pretrained(tmp_path / "more")(["the cat", "a dog saw", "sun"], padding=True,
                                                                   return_tensors="pt"))  # fmt: skip
    network = Program(tmp_path / "more" / "model.pt2", list(inputs))
    with torch.no_grad():
        torch.testing.assert_close(network(**inputs).logits, subject.network(**inputs).logits, atol=1e-5, rtol=0)


def test_a_file_takes_any_number_and_length_of_rows_with_what_lies_beside_it(trained, tmp_path):
    run = trained("text-classification")
    export(Subject.of(run), tmp_path / "onnx", ["fp32"])
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "onnx")
    assert list(AutoConfig.from_pretrained(tmp_path / "onnx").id2label.values()) == run.metrics["labels"]
    assert session.get_outputs()[0].shape[1] == 3
    alone = []
    for texts in (["the cat"], ["rice and soup and some bread today", "snow", "a dog saw a fish"], ["sun " * 60]):
        inputs = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="np"))
        (logits,) = session.run(["logits"], {each.name: inputs[each.name] for each in session.get_inputs()})
        assert logits.shape == (len(texts), 3)
        alone.append(logits)
    inputs = dict(tokenizer(["snow"], return_tensors="np"))
    (snow,) = session.run(["logits"], {each.name: inputs[each.name] for each in session.get_inputs()})
    np.testing.assert_allclose(snow[0], alone[1][1], atol=1e-5)


def test_a_model_that_differs_is_a_defect_and_nothing_is_left(trained, tmp_path, monkeypatch):
    run = trained("text-classification")
    subject, write = Subject.of(run), graph.write_onnx

    def wrong(network, batch, file):
        network.classifier.weight.data *= 2
        write(network, batch, file)
        network.classifier.weight.data /= 2

    monkeypatch.setattr(compare, "write_onnx", wrong)
    with pytest.raises(ExportError, match=r"the exported model differs from the model by up to 0\."):
        export(subject, tmp_path / "onnx", ["fp32"])
    assert not (tmp_path / "onnx").exists()


def test_the_command_shows_a_table_and_refuses_what_it_cannot_do(command, trained, tmp_path, monkeypatch):
    run = trained("text-classification")
    code, output, _ = command("export", run.folder, "--onnx", "--int8")
    assert code == 0
    assert "same answer" in output
    assert (run.folder / "onnx" / "model_int8.onnx").is_file()
    code, output, _ = command("export", run.folder, "--torch", "--safetensors-fp16")
    assert code == 0
    assert (run.folder / "exported" / "model.pt2").is_file()
    assert len({file.stat().st_mode for file in run.folder.rglob("*") if file.is_file()}) == 1  # as the umask has it
    with alone(tmp_path / "x"):
        code, _, errors = command("export", run.folder, "--onnx", "--out", tmp_path / "x")
    assert (code, f"{tmp_path / 'x'}: another process is writing it" in errors) == (2, True)
    for words, told in (
        ([run.folder], "say into what the model is exported: --onnx, --torch or --safetensors-fp16"),
        ([run.folder, "--int8"], "--int8 is of ONNX; add --onnx"),
        ([run.folder, "--onnx"], "exists; choose another folder or pass --overwrite"),
        ([run.folder, "--onnx", "--overwrite", "--out", run.folder], "is no export, so it is left alone"),
        ([tmp_path / "none", "--onnx"], "no such Run"),
        ([run.folder, "--onnx", "--out", tmp_path / "x", "--rows", "none.csv"], "none.csv: no such file"),
    ):
        code, _, errors = command("export", *words)
        assert (code, told in errors) == (2, True), errors


@pytest.mark.slow
def test_other_rows_may_judge_where_the_own_are_gone(command, trained, tmp_path):
    run = trained("text-classification")
    recipe = run.part("recipe.yaml")
    recipe.write_text(recipe.read_text().replace("train.csv", "gone.csv"))
    with pytest.raises(UserError, match="the Run's rows cannot be read again; name others with --rows"):
        Subject.of(run)
    (tmp_path / "new.csv").write_text("text\nthe cat saw a dog\nsnow and rain\n")
    code, output, errors = command("export", run.folder, "--onnx", "--rows", tmp_path / "new.csv", "--json")
    assert code == 0, errors
    told = json.loads(output)
    assert (told["rows"], told["labelled"]) == (2, False)
    assert lines(told)["fp32"]["same_answer"] == 1.0
