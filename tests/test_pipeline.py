"""The trunk from end to end on tiny models: what goes in, and the folder that comes out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import transformers
import yaml
from PIL import Image

from hf_smalldata import bundle, pipeline
from hf_smalldata.data.rows import rows_record
from hf_smalldata.prediction import predict
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run
from hf_smalldata.tasks import get_task
from hf_smalldata.testing import COLOURS, TOPICS, image_folder, text_rows, tiny_image_model, tiny_text_model

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny_image_model(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture
def unproven(monkeypatch):
    """Without the proof that the saved folder reloads: others have it."""
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)


def frame(per_class: int, seed: int = 0) -> pd.DataFrame:
    """Texts with labels by the user's own names."""
    rows = text_rows(per_class, seed=seed)
    return pd.DataFrame({"text": rows["text"], "label": [list(TOPICS)[label] for label in rows["label"]]})


def recipe(model, data=None, techniques=(), epochs=3, task="text-classification") -> Recipe:
    """The rows come as objects where no data is given."""
    return Recipe.parse({"task": task, "data": data or {"name": "rows"}, "model": {"name": str(model)},
                         "techniques": list(techniques),
                         "train": {"learning_rate": 3e-3, "num_train_epochs": epochs}})  # fmt: skip


def scores_of_stock_pipeline(run: Run, inputs) -> np.ndarray:
    """What any other user of the folder gets, (N, C) in the order of our labels; (N, 1) for regression."""
    labels = run.metrics["labels"]
    classify = transformers.pipeline(run.metrics["task"], model=str(run.folder))
    answers = [classify(each, top_k=max(len(labels), 1)) for each in inputs]
    if not labels:
        return np.array([[answer[0]["score"]] for answer in answers])
    return np.array([[{one["label"]: one["score"] for one in answer}[label] for label in labels] for answer in answers])


def score_columns(run: Run) -> np.ndarray:
    return run.predictions[[f"score: {label}" for label in run.metrics["labels"]]].to_numpy()


def test_a_csv_of_texts_becomes_a_proven_folder_with_all_its_parts(tmp_path, bert):
    frame(12).to_csv(tmp_path / "topics.csv", index=False)
    run = pipeline.train(recipe(bert, {"name": str(tmp_path / "topics.csv")}), tmp_path / "out")
    assert {file.relative_to(run.folder).as_posix() for file in run.folder.rglob("*") if file.is_file()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md",
        "smalldata/recipe.yaml", "smalldata/rows.json", "smalldata/metrics.json", "smalldata/predictions.parquet",
        "smalldata/environment.json", "smalldata/report.html", "smalldata/report.md",
    }  # fmt: skip
    config = json.loads((run.folder / "config.json").read_text())
    assert set(config["id2label"].values()) == set(TOPICS)
    assert run.metrics["labels"] == [config["id2label"][str(index)] for index in range(3)]
    assert 0 < run.metrics["runs"][0]["reload"]["."] <= TOLERANCE
    assert run.metrics["rows"] == {"train": 29, "pool": 29, "validation": 0, "test": 7}
    assert len(run.predictions) == 7
    assert set(run.predictions["label"]) == set(TOPICS)
    np.testing.assert_allclose(score_columns(run).sum(1), 1, atol=1e-5)
    assert Recipe.parse(yaml.safe_load(run.part("recipe.yaml").read_text())) == recipe(
        bert, {"name": str(tmp_path / "topics.csv")}
    )
    environment = json.loads(run.part("environment.json").read_text())
    assert environment["processes"] == 1
    assert environment["versions"]["transformers"] == transformers.__version__
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []  # no half Run beside it


def test_the_card_tells_the_results_and_no_local_path(tmp_path, bert, unproven):
    frame(12).to_csv(tmp_path / "topics.csv", index=False)
    run = pipeline.train(recipe(bert, {"name": str(tmp_path / "topics.csv")}), tmp_path / "out")
    card = (run.folder / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert f"{run.metrics['results']['model']['accuracy']['value']:.3f}" in card
    assert "29 training rows, 7 test rows, 1 seed" in card
    assert str(tmp_path) not in card
    assert "name: topics.csv" in card


def test_lora_leaves_a_merged_model_and_an_adapter_that_are_both_proven(tmp_path, bert):
    run = pipeline.train(
        recipe(bert, techniques=[{"lora": {"rank": 4}}]), tmp_path / "out", objects={"train": frame(12)}
    )
    reload = run.metrics["runs"][0]["reload"]
    assert set(reload) == {".", "adapter"}
    assert all(0 < difference <= TOLERANCE for difference in reload.values())
    assert (run.folder / "adapter" / "adapter_model.safetensors").stat().st_size > 0
    assert not (run.folder / "adapter_config.json").exists()  # the top level is an ordinary model
    facts = run.metrics["runs"][0]
    assert 0 < facts["trained_parameters"] < facts["parameters"]


def test_a_model_that_reloads_to_other_predictions_is_not_shipped(tmp_path, bert, monkeypatch):
    def differ(*_):
        raise bundle.ReloadError("reloads to other predictions")

    monkeypatch.setattr(bundle, "prove", differ)
    with pytest.raises(bundle.ReloadError):
        pipeline.train(recipe(bert), tmp_path / "out", objects={"train": frame(4)})
    assert list(tmp_path.iterdir()) == []


def test_training_learns_what_can_be_learnt(tmp_path, bert, unproven):
    run = pipeline.train(recipe(bert, epochs=15), tmp_path / "out", objects={"train": frame(40), "test": frame(30, 1)})
    results = run.metrics["results"]
    assert results["model"]["accuracy"]["low"] > results["majority class"]["accuracy"]["high"]
    assert run.metrics["versus"]["majority class"]["over_rows_and_seeds"]["low"] > 0


def test_several_labels_a_row_are_scored_each_for_itself(tmp_path, bert, unproven):
    rows = text_rows(16)
    texts = [f"{a} {b}" for a, b in zip(rows["text"], rows["text"][1:], strict=False)]
    labels = [[list(TOPICS)[label] for label in {a, b}]
              for a, b in zip(rows["label"], rows["label"][1:], strict=False)]  # fmt: skip
    run = pipeline.train(recipe(bert), tmp_path / "out", objects={"train": {"text": texts, "label": labels}})
    assert run.metrics["problem_type"] == "multi_label_classification"
    assert json.loads((run.folder / "config.json").read_text())["problem_type"] == "multi_label_classification"
    test = [texts[int(row.rpartition(":")[2])] for row in run.predictions["id"]]
    np.testing.assert_allclose(scores_of_stock_pipeline(run, test), score_columns(run), atol=TOLERANCE)
    for answer, scores in zip(run.predictions["prediction"], score_columns(run), strict=True):
        assert list(answer) == [name for name, score in zip(run.metrics["labels"], scores, strict=True) if score >= 0.5]


def test_numbers_as_labels_are_predicted_as_numbers(tmp_path, bert, unproven):
    rows = text_rows(14)
    values = [label + 0.01 * index for index, label in enumerate(rows["label"])]
    run = pipeline.train(
        recipe(bert, {"name": "rows", "problem_type": "regression"}),
        tmp_path / "out",
        objects={"train": {"text": rows["text"][:], "label": values}},
    )
    assert run.metrics["labels"] == []
    assert set(run.metrics["results"]) == {"model", "training mean", "TF-IDF + ridge regression"}
    test = [rows["text"][int(row.rpartition(":")[2])] for row in run.predictions["id"]]
    np.testing.assert_allclose(scores_of_stock_pipeline(run, test)[:, 0], run.predictions["prediction"], atol=TOLERANCE)
    assert [row["score"] for (row,) in predict(run, test)] == pytest.approx(
        run.predictions["prediction"], abs=TOLERANCE
    )


def test_pairs_of_texts_reach_the_model_as_pairs(tmp_path, bert, unproven):
    first, second = text_rows(24, seed=1), text_rows(24, seed=2)
    table = pd.DataFrame({"premise": first["text"], "claim": second["text"],
                          "label": ["same" if index % 2 else "other" for index in range(72)]})  # fmt: skip
    columns = {"name": "rows", "input_column": "premise", "text_pair_column": "claim"}
    run = pipeline.train(recipe(bert, columns), tmp_path / "out", objects={"train": table})
    chosen = [table.iloc[int(row.rpartition(":")[2])] for row in run.predictions["id"]]
    pairs = [{"text": row["premise"], "text_pair": row["claim"]} for row in chosen]
    np.testing.assert_allclose(scores_of_stock_pipeline(run, pairs), score_columns(run), atol=TOLERANCE)
    swapped = [{"text": pair["text_pair"], "text_pair": pair["text"]} for pair in pairs]
    assert np.abs(scores_of_stock_pipeline(run, swapped) - score_columns(run)).max() > TOLERANCE


def test_images_of_every_kind_go_through_to_the_stock_pipeline(tmp_path, vit, unproven):
    folder = image_folder(tmp_path / "train", 8)
    tests = image_folder(tmp_path / "test", 2, seed=1)
    for split in (folder, tests):
        picture = Image.open(split / "red" / "0.png")
        picture.convert("CMYK").save(split / "red" / "cmyk.jpg")
        picture.convert("P").save(split / "red" / "palette.png")
        Image.fromarray(np.full((9, 30), 40000, np.uint16)).save(split / "green" / "wide.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.resize((60, 20)).save(split / "blue" / "turned.jpg", exif=exif)
        Image.new("RGB", (1, 1), "blue").save(split / "blue" / "dot.png")
    run = pipeline.train(
        recipe(vit, task="image-classification", data={"train": str(folder), "test": str(tests)}), tmp_path / "out"
    )
    assert (run.metrics["rows"]["train"], run.metrics["rows"]["test"]) == (27, 11)  # two are tested as well
    assert set(run.metrics["labels"]) == set(COLOURS)
    files = [str(tmp_path / row) for row in run.predictions["id"]]
    assert {"cmyk.jpg", "palette.png", "wide.png", "turned.jpg", "dot.png"} <= {
        file.rpartition("/")[2] for file in files
    }
    answers = predict(run, files)
    ours = [
        [{one["label"]: one["score"] for one in answer}[label] for label in run.metrics["labels"]] for answer in answers
    ]
    np.testing.assert_allclose(ours, score_columns(run), atol=TOLERANCE)


def test_a_leak_is_said_where_nothing_mends_it(bert, tmp_path, unproven):
    texts = [f"the {animal} is in the {food}" for animal in TOPICS["animals"] for food in TOPICS["food"]]
    rows = {"text": texts[:24], "label": ["a", "b"] * 12}
    test = {"text": [*texts[24:], texts[0].upper()], "label": ["a", "b"] * 6 + ["a"]}
    given = recipe(bert, {"name": "rows", "keep_together": "equal"})
    mended = pipeline.read_rows(given, get_task(given.task), {"train": rows, "test": test})
    assert [warning for warning in mended.warnings if "belong to test rows" in warning]
    assert not [warning for warning in mended.warnings if warning.startswith("leaks")]
    record = tmp_path / "rows.json"
    record.write_text(json.dumps(rows_record(replace(mended, draws={}), {0: mended.train})))
    again = recipe(bert, {"name": "rows", "rows": str(record)})
    warned = pipeline.read_rows(again, get_task(again.task), {"train": rows, "test": test}).warnings
    assert [warning for warning in warned if warning.startswith("leaks: 1 of 13 test rows")]
