"""Token classification: words and the model's tokens, windows of long texts, and entities as a user reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import pipeline

from hf_smalldata.data.load import load
from hf_smalldata.data.sample import draw, split
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.nn.losses import loss
from hf_smalldata.pipeline import train
from hf_smalldata.prediction import predict, read_inputs, write_predictions
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.testing import token_rows

TASK = get_task("token-classification")
TAGS = ("O", "B-animals", "I-animals", "B-food", "I-food")
FEATURES = {"input_ids": [2, 7, 8, 9, 3], "words": [-1, 0, 0, 1, -1], "word_count": 3}  # the last word has no token


def row_of(words, **more):
    starts = [len(" ".join(words[:at])) + bool(at) for at in range(len(words))]
    return {"text": " ".join(words), "tokens": words, "starts": starts, **more}


def test_sub_words_take_the_tag_of_their_word_and_only_the_first_begins_an_entity():
    assert TASK.align([1, 3, 0], FEATURES) == [-1, 1, 2, 3, -1]
    assert TASK.align([2, 0, 0], FEATURES) == [-1, 2, 2, 0, -1]


def test_tokens_without_a_word_and_padding_have_no_part_in_the_loss():
    targets = TASK.targets([[-1, 1, 2], [-1, 0]], 3, "token_classification")
    assert targets.shape == (2, 3, 3)
    np.testing.assert_array_equal(targets.sum(-1), [[0, 1, 1], [0, 1, 0]])
    logits = torch.randn(2, 3, 3)
    expected = torch.nn.functional.cross_entropy(logits[[0, 0, 1], [1, 2, 1]], torch.tensor([1, 2, 0]))
    torch.testing.assert_close(loss(logits, targets, "token_classification"), expected)


def test_a_word_is_judged_by_its_first_token_and_one_without_tokens_is_outside():
    logits = np.arange(15.0).reshape(5, 3)
    chosen = TASK.select(logits, FEATURES)
    np.testing.assert_array_equal(chosen[:2], logits[[1, 3]])
    assert chosen[2].argmax() == 0


def test_every_token_of_a_text_finds_its_word(tokens):
    rows = Dataset.from_list([row_of(["the", "cat", "bread"]), row_of(["dog"])])
    first, second = TASK.encode(rows, tokens.processor)
    assert first["words"] == [-1, 0, 1, 2, -1]
    assert (second["words"], second["word_count"]) == ([-1, 0, -1], 1)


def test_long_texts_are_cut_into_overlapping_windows_of_whole_words(tokens):
    words = [("cat", "bread", "rain", "the")[at % 4] for at in range(200)]
    long = row_of(words, id="long", label=[at % 2 for at in range(200)])
    rows = Dataset.from_list([row_of(["dog"], id="short", label=[1]), long])
    windows = TASK.cut(rows, tokens.processor)
    assert windows["id"][:3] == ["short", "long#0", "long#1"]
    assert all(len(each["input_ids"]) <= 64 for each in TASK.encode(windows, tokens.processor))
    for window in windows.select(range(1, len(windows))):
        first = window["first_word"]
        assert window["tokens"] == words[first : first + len(window["tokens"])]
        assert window["label"] == long["label"][first : first + len(window["tokens"])]
        assert [
            window["text"][at : at + len(word)] for at, word in zip(window["starts"], window["tokens"], strict=True)
        ] == window["tokens"]
    ends = [each["first_word"] + len(each["tokens"]) for each in windows][1:]
    assert ends[-1] == 200
    shared = [end - begin for end, begin in zip(ends[:-1], windows["first_word"][2:], strict=True)]
    assert all(10 <= words_shared <= 20 for words_shared in shared)  # a quarter of 61


def test_rows_that_fit_are_not_touched(tokens):
    assert TASK.cut(tokens.rows, tokens.processor) is tokens.rows


def test_each_word_is_taken_from_the_window_in_which_it_has_the_most_context(tokens):
    rows = Dataset.from_list([row_of(["cat"] * 150, id="long", label=[0] * 150)])
    windows = TASK.cut(rows, tokens.processor)
    values = [np.repeat([[at, depth]], len(each["tokens"]), axis=0).astype(float) for at, (each, depth)
              in enumerate(zip(windows, [0] * len(windows), strict=True))]  # fmt: skip
    for value in values:
        count = len(value)
        value[:, 1] = np.minimum(np.arange(count), np.arange(count)[::-1])
    (merged,) = TASK.merge(ragged(values), windows, rows)
    firsts = windows["first_word"][:]
    for word, (window, depth) in enumerate(merged):
        depths = {at: values[at][word - first, 1] for at, first in enumerate(firsts)
                  if 0 <= word - first < len(values[at])}  # fmt: skip
        assert depth == max(depths.values())
        assert depths[int(window)] == depth


def test_entities_are_given_by_their_characters():
    row = row_of(["we", "saw", "a", "cat", "bird", "today"])
    values = np.full((6, 5), np.nan)
    values[[0, 1, 2, 5], 0] = 0.9
    values[3, 1], values[4, 2] = 0.8, 0.6
    (entity,) = TASK.answer(values, row, TAGS)
    assert entity == {"label": "animals", "score": pytest.approx(0.7), "start": 9, "end": 17, "word": "cat bird"}


@pytest.fixture(scope="module")
def run(tokens, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    rows = {part: token_rows(count, seed).to_pandas().drop(columns=["id", "text", "starts"])
            for part, count, seed in (("train", 60, 3), ("validation", 20, 4), ("test", 30, 5))}  # fmt: skip
    for frame in rows.values():
        frame["tags"] = [[TAGS[tag] for tag in tags] for tags in frame.pop("label")]
    recipe = Recipe.parse({
        "task": "token-classification", "data": {"name": "rows"},
        "model": {"name": str(tokens.folder), "max_length": 14},
        "train": {"num_train_epochs": 20, "learning_rate": 3e-3, "disable_tqdm": True}, "seeds": [0, 1],
    })  # fmt: skip
    return train(recipe, place / "run", objects=rows)


def test_it_learns_and_is_judged_by_entities_beside_a_lexicon(run):
    results = run.metrics["results"]
    assert list(results) == ["model", "no entity", "lexicon"]
    assert results["model"]["entity_f1"]["value"] > 0.9
    assert results["no entity"]["entity_f1"]["value"] == 0
    assert list(run.metrics["per_class"]) == ["animals", "food"]
    assert run.metrics["versus"]["no entity"]["over_rows_and_seeds"]["low"] > 0.5
    difference = run.metrics["versus"]["no entity"]["over_rows_and_seeds"]["value"]
    assert difference == pytest.approx(results["model"]["entity_f1"]["value"])
    assert run.metrics["classes"]["animals"]["train"] > 10


def test_a_stock_pipeline_puts_the_words_of_an_entity_together(run):
    ask = pipeline("token-classification", model=str(run.folder), aggregation_strategy="simple")
    found = ask("then we saw cat cow and rice cake today")
    assert [(each["entity_group"], each["word"], each["start"]) for each in found] == [
        ("animals", "cat cow", 12), ("food", "rice cake", 24)]  # fmt: skip


def test_new_texts_of_any_length_get_entities(run, tmp_path):
    long = " ".join(["then we saw cat cow and very quite"] * 20)
    short, none, whole = predict(run, ["we saw cat cow today", "the", long])
    assert [(each["label"], each["word"], each["start"], each["end"]) for each in short] == [
        ("animals", "cat cow", 7, 14)]  # fmt: skip
    assert none == []
    assert [each["start"] for each in whole] == [12 + 35 * at for at in range(20)]
    assert {long[each["start"] : each["end"]] for each in whole} == {"cat cow"}
    write_predictions(tmp_path / "out.csv", ["a", "b"], [short, none])
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "id,label,score,start,end,word"
    write_predictions(tmp_path / "out.jsonl", ["a", "b"], [short, none])
    assert [len(json.loads(line)["entities"]) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [1, 0]


def test_lists_of_words_are_predicted_as_they_are(run, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"tokens": ["we", "saw", "cat", "cow"]}) + "\n")
    names, values = read_inputs(run, [str(file)])
    assert (names, values) == (["rows.jsonl:0"], [["we", "saw", "cat", "cow"]])
    assert [each["word"] for each in predict(run, values)[0]] == ["cat cow"]


def test_spans_words_and_conll_lines_are_one_data_set(tmp_path):
    texts, spans = ["Anna Bell met Bob.", "Nobody came."], [[(0, 9), (14, 17)], []]
    as_spans = [{"text": text, "spans": [{"start": start, "end": end, "label": "PER"} for start, end in each]}
                for text, each in zip(texts, spans, strict=True)]  # fmt: skip
    conll = "Anna B-PER\nBell I-PER\nmet O\nBob B-PER\n. O\n\nNobody O\ncame O\n. O\n"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in as_spans))
    (tmp_path / "b.conll").write_text(conll)
    (tmp_path / "c.tsv").write_text(conll.replace(" ", "\t"))
    first, second, third = (load(DataSpec(train=str(tmp_path / name)), "tokens")
                            for name in ("a.jsonl", "b.conll", "c.tsv"))  # fmt: skip
    assert first.labels == second.labels == third.labels == ("O", "B-PER", "I-PER")
    for column in ("tokens", "label"):
        assert first.train[column][:] == second.train[column][:] == third.train[column][:]
    assert first.train["text"][:] == texts
    assert second.train["text"][0] == "Anna Bell met Bob ."


def test_class_labels_of_a_hub_set_are_read_by_name():
    from datasets import ClassLabel, Features, List, Value

    names = ["I-LOC", "O", "B-LOC"]
    rows = Dataset.from_dict(
        {"tokens": [["New", "York", "is"], ["big"]], "ner_tags": [[2, 0, 1], [1]]},
        features=Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}),
    )
    found = load(DataSpec(name="rows"), "tokens", objects=rows)
    assert found.labels == ("O", "B-LOC", "I-LOC")
    assert found.train["label"][:] == [[1, 2, 0], [0]]


def test_broken_tags_are_refused_by_name_and_mended_on_demand():
    rows = {"tokens": [["a", "b"], ["c", "d"]], "tags": [["B-x", "I-x"], ["O", "I-x"]]}
    with pytest.raises(UserError, match=r"(?s)broken_tags: repair.*train:1"):
        load(DataSpec(name="rows"), "tokens", objects=rows)
    mended = load(DataSpec(name="rows", broken_tags="repair"), "tokens", objects=rows)
    assert mended.train["label"][:] == [[1, 2], [0, 1]]
    assert any("train:1" in warning for warning in mended.warnings)


def test_unequal_numbers_of_words_and_tags_and_empty_words_are_refused_by_name():
    with pytest.raises(UserError, match="train:1"):
        load(DataSpec(name="rows"), "tokens", objects={"tokens": [["a"], ["b", "c"]], "tags": [["B-x"], ["O"]]})
    with pytest.raises(UserError, match="empty words in train:0"):
        load(DataSpec(name="rows"), "tokens", objects={"tokens": [["a", " "]], "tags": [["B-x", "O"]]})


def test_rows_without_any_entity_are_nothing_to_learn():
    with pytest.raises(UserError, match="no word has a tag other than O"):
        load(DataSpec(name="rows"), "tokens", objects={"tokens": [["a"], ["b"]], "tags": [["O"], ["O"]]})


def test_a_draw_holds_so_many_entities_of_each_type_and_draws_are_nested():
    rows = token_rows(60, 7)
    spec = DataSpec(name="rows", labels_per_class=8)
    drawn = [draw(rows, spec.model_copy(update={"labels_per_class": count}), TAGS, "token_classification", 0)
             for count in (4, 8)]  # fmt: skip
    for part, count in zip(drawn, (4, 8), strict=True):
        for tag in (1, 3):
            assert count <= sum(label.count(tag) for label in part["label"]) < count + 30
    assert set(drawn[0]["id"]) < set(drawn[1]["id"])
    with pytest.raises(UserError, match=r"labels_per_class is 500.*animals \d+, food \d+"):
        draw(rows, spec.model_copy(update={"labels_per_class": 500}), TAGS, "token_classification", 0)


def test_test_rows_are_held_out_by_the_types_of_entities_in_them():
    frame = token_rows(40, 8).to_pandas().drop(columns=["id", "text", "starts"])
    frame["tags"] = [[TAGS[tag] for tag in tags] for tags in frame.pop("label")]
    cut = split(load(DataSpec(name="rows"), "tokens", objects=frame), DataSpec(name="rows"))
    assert len(cut.test) == 8
    assert {tag for label in cut.test["label"] for tag in label} == set(range(5))
