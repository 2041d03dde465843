"""The shift report: how well domains are told apart, class shares without labels, and what follows from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image, ImageEnhance
from sklearn.linear_model import LogisticRegression

from hf_smalldata.doctor.shift import prior_by_confusion, shift, told_apart
from hf_smalldata.errors import UserError
from hf_smalldata.testing import TOPICS, image_folder, text_rows


def test_domains_of_one_kind_are_not_told_apart_and_far_ones_are():
    rng = np.random.default_rng(0)
    x, side = rng.normal(size=(400, 5)), np.repeat([0, 1], 200)
    auc, distance = told_apart(x, side, 0)
    assert abs(auc - 0.5) < 0.1
    assert distance < 0.3
    far = x + 3 * side[:, None]
    assert told_apart(far, side, 0) == (pytest.approx(1, abs=0.01), pytest.approx(2, abs=0.05))


def test_the_distance_weighs_a_small_domain_as_a_large_one():
    rng = np.random.default_rng(0)
    x, side = rng.normal(size=(430, 3)), np.repeat([0, 1], [400, 30])
    assert told_apart(x, side, 0)[1] < 0.5  # all for the large one would be an error of 7 %


def test_class_shares_are_estimated_without_labels():
    rng = np.random.default_rng(0)

    def rows(count, share):
        labels = (rng.random(count) < share).astype(int)
        return rng.normal(size=(count, 2)) + 1.2 * labels[:, None], labels

    (x, labels), (held, truth), (asked, _) = rows(1000, 0.5), rows(1000, 0.5), rows(2000, 0.85)
    model = LogisticRegression().fit(x, labels)
    found = prior_by_confusion(model.predict_proba(held), truth, model.predict_proba(asked), 2)
    plain = model.predict_proba(asked).mean(0)
    assert found.sum() == pytest.approx(1)
    assert abs(found[1] - 0.85) < 0.04 < abs(plain[1] - 0.85)


def test_a_classifier_that_tells_nothing_estimates_nothing():
    even = np.full((10, 2), 0.5)
    assert prior_by_confusion(even, np.array([0, 1] * 5), even, 2) is None
    assert prior_by_confusion(even, np.zeros(10, dtype=int), even, 2) is None


def test_the_same_domain_is_said_to_be_so():
    found = shift(text_rows(60, 0), text_rows(60, 1).remove_columns("label"), list(TOPICS))
    assert found.auc < 0.6
    assert found.unknown_words == 0
    assert found.estimated
    assert found.prior["target"]["food"] == pytest.approx(1 / 3, abs=0.12)
    assert "hardly differ" in found.advice[0]


def reviews(prefix, count, positive, seed=0):
    rng = np.random.default_rng(seed)
    labels = [int(at < positive * count) for at in range(count)]
    texts = [f"{' '.join(rng.choice(prefix, 3))} {('awful', 'great')[label]} {at}" for at, label in enumerate(labels)]
    return Dataset.from_dict({"text": texts, "label": labels})


BOOKS, FILMS = ("novel", "chapter", "author", "pages"), ("actor", "scene", "plot", "screen")


def test_other_words_call_for_pretraining_and_alike_classes_for_alignment():
    found = shift(reviews(BOOKS, 80, 0.5), reviews(FILMS, 80, 0.5), ["neg", "pos"])
    assert found.auc > 0.95
    assert found.unknown_words > 0.4
    assert set(found.typical["target"]) >= {"actor", "scene"}
    assert found.measures["words"] == (5, 5)
    assert any("continued_pretraining" in said for said in found.advice)
    assert any("adapted_head first" in said for said in found.advice)


def test_a_sign_beside_a_word_makes_no_other_word():
    one = Dataset.from_dict({"text": ["a phone, and it doesn't ring", "phone"] * 6, "label": [0, 1] * 6})
    two = Dataset.from_dict({"text": ["Phone! It doesn't ring.", "(and a phone)"] * 6, "label": [0, 1] * 6})
    assert shift(one, two, ["neg", "pos"]).unknown_words == 0


def test_other_class_shares_speak_against_alignment_counted_or_estimated():
    one, two = reviews(BOOKS, 80, 0.5), reviews(BOOKS, 80, 0.9, seed=1)
    counted = shift(one, two, ["neg", "pos"])
    estimated = shift(one, two.remove_columns("label"), ["neg", "pos"])
    assert counted.prior["target"]["pos"] == pytest.approx(0.9)
    assert estimated.prior["target"]["pos"] == pytest.approx(0.9, abs=0.1)
    for found in (counted, estimated):
        assert any("coral, mmd and dann assume they are not" in said for said in found.advice)
        assert not any("adapted_head first" in said for said in found.advice)


def test_classes_that_one_of_them_lacks_are_named():
    one, two = text_rows(20), text_rows(20, 1).filter(lambda row: row["label"] != 1)
    assert any("the target has no row of food" in said for said in shift(one, two, list(TOPICS)).advice)
    assert any("the source has no row of food" in said for said in shift(two, one, list(TOPICS)).advice)


def test_a_domain_of_one_class_is_told_first_and_nothing_that_would_press_classes_upon_it():
    one, two = reviews(BOOKS, 40, 0.5), reviews(FILMS, 40, 1.0)
    found = shift(one, two, ["neg", "pos"]).advice
    assert found[0].startswith("every row of the target is pos: one constant answer is right there")
    assert not any("prefer" in said or "adapted_head first" in said for said in found)
    found = shift(two, one, ["neg", "pos"]).advice
    assert found[0].startswith("every row of the source is pos: it teaches no class")
    assert "the source has no row of neg" in found[1]
    found = shift(reviews(FILMS, 40, 0.0), one.remove_columns("label"), ["neg"])
    assert found.prior is None
    assert found.advice[0].startswith("every row of the source is neg")


def test_so_few_rows_are_refused():
    with pytest.raises(UserError, match="10 rows or more of each domain, found target 4"):
        shift(text_rows(10), text_rows(4).select(range(4)), list(TOPICS))


@pytest.fixture
def files(tmp_path):
    for name, words in (("books", BOOKS), ("films", FILMS)):
        lines = [
            json.dumps({"text": row["text"], "label": ("neg", "pos")[row["label"]]}) for row in reviews(words, 60, 0.5)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "films.txt").write_text("\n".join(row["text"] for row in reviews(FILMS, 60, 0.5)))
    return tmp_path


def test_the_command_compares_files_with_labels_and_without(files, command):
    code, output, errors = command("check", "--source", files / "books.jsonl", "--target", files / "films.txt")
    assert code == 0, errors
    assert "tells the domains apart with an AUC of 1.00" in output
    assert "target (estimated)" in output
    assert "continued_pretraining" in output
    code, output, _ = command("check", "--source", files / "books.jsonl", "--target", files / "films.jsonl", "--json")
    told = json.loads(output)
    assert (code, told["task"], told["estimated"]) == (0, "text-classification", False)
    assert told["classes"]["target"] == {"neg": 30, "pos": 30}


@pytest.mark.parametrize(("source", "target", "said"), [
    ("books", "good", "every row of the target is pos"), ("good", "books", "every row of the source is pos"),
    ("good", "good", "every row of the source is pos"), ("good", "films.txt", "every row of the source is pos"),
])  # fmt: skip
def test_the_command_tells_a_domain_of_one_class(files, source, target, said, command):
    rows = [json.dumps({"text": row["text"], "label": "pos"}) for row in reviews(FILMS, 20, 1.0)]
    (files / "good.jsonl").write_text("\n".join(rows))
    names = [name if "." in name else f"{name}.jsonl" for name in (source, target)]
    code, output, errors = command("check", "--source", files / names[0], "--target", files / names[1])
    assert code == 0, errors
    assert f"1. {said}" in output


def test_a_folder_of_one_class_is_told_too(tmp_path, command):
    one, two = image_folder(tmp_path / "one", 12), image_folder(tmp_path / "two", 12, seed=1, classes=1)
    assert "1. every row of the target is red" in command("check", "--source", one, "--target", two)[1]
    assert "1. every row of the source is red" in command("check", "--source", two, "--target", one)[1]


def test_folders_of_pictures_are_compared(tmp_path, command):
    one, two = image_folder(tmp_path / "one", 8), image_folder(tmp_path / "two", 8, seed=1)
    code, output, errors = command("check", "--source", one, "--target", two)
    assert code == 0, errors
    assert "width in pixels: median 40 in the source, 40 in the target" in output
    assert "--adapt statistics" not in output
    for file in two.rglob("*.png"):  # as if by another camera
        picture = Image.open(file)
        ImageEnhance.Brightness(picture).enhance(0.4).save(file)
    assert "--adapt statistics" in command("check", "--source", one, "--target", two)[1]


@pytest.mark.parametrize(("words", "said"), [
    (("--source", "books.jsonl"), "--target is missing"),
    (("--target", "books.jsonl"), "--source is missing"),
    ((), "expected a source such as reviews.csv, or --source and --target"),
    (("--source", "books.jsonl", "--target", "none.jsonl"), "no such file or folder"),
    (("--source", "books.jsonl", "--target", "films.jsonl", "--task", "text"), "unknown task 'text'"),
    (("words", "--source", "books.jsonl", "--target", "films.jsonl"), "expected data.KEY=VALUE"),
])  # fmt: skip
def test_what_a_user_can_mend_exits_with_2(files, words, said, command, monkeypatch):
    monkeypatch.chdir(files)
    code, _, errors = command("check", *words)
    assert code == 2
    assert said in errors
