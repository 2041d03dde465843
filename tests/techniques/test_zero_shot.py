"""Zero-shot: probabilities by class names alone, of NLI models, sentence encoders and models like CLIP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, CLIPModel

from hf_smalldata import bundle, pipeline
from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.study import study
from hf_smalldata.study.progress import Quiet
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.fewshot import zero_shot
from hf_smalldata.techniques.fewshot.zero_shot import ZeroShot, by_captions, by_cosine, by_entailment
from hf_smalldata.testing import tiny_text_model

PHRASES = ("the cat dog", "some bread", "very rain then wind")
TEXTS = ("a dog and a cow", "bread", "we saw snow today and wind", "soup")


@pytest.fixture(scope="module")
def entailment(tmp_path_factory):
    """A tiny NLI model that says entailment with its third output."""
    folder = tiny_text_model(tmp_path_factory.mktemp("nli") / "model")
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, label2id={"CONTRADICTION": 0, "neutral": 1, "ENTAILMENT": 2},
        id2label={0: "CONTRADICTION", 1: "neutral", 2: "ENTAILMENT"}, ignore_mismatched_sizes=True,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def blind(text):
    """Rows without labels."""
    return text.rows.remove_columns("label")


def test_an_nli_model_gives_the_softmax_of_entailment_over_the_phrases(entailment):
    tokenizer = AutoTokenizer.from_pretrained(entailment)
    model = AutoModelForSequenceClassification.from_pretrained(entailment).eval()
    with torch.no_grad():
        logits = torch.stack([
            torch.stack([model(**tokenizer(text, phrase, return_tensors="pt")).logits[0, 2] for phrase in PHRASES])
            for text in TEXTS
        ])  # fmt: skip
    found = by_entailment(ModelSpec(name=str(entailment)), TEXTS, PHRASES)
    np.testing.assert_allclose(found, logits.softmax(-1).numpy(), atol=1e-5)
    assert np.ptp(found) > 0.05


def test_a_sentence_encoder_gives_the_softmax_of_scaled_cosines_of_mean_states(text):
    tokenizer, model = AutoTokenizer.from_pretrained(text.folder), text.network().eval().bert

    def mean(words: str) -> torch.Tensor:
        return torch.nn.functional.normalize(
            model(**tokenizer(words, return_tensors="pt")).last_hidden_state.mean(1), dim=-1
        )

    with torch.no_grad():
        cosines = torch.cat([mean(each) for each in TEXTS]) @ torch.cat([mean(each) for each in PHRASES]).T
    found = by_cosine(ModelSpec(name=str(text.folder)), TEXTS, PHRASES)
    np.testing.assert_allclose(found, (20 * cosines).softmax(-1).numpy(), atol=1e-4)


def test_a_text_that_is_the_phrase_of_a_class_is_of_that_class(text):
    found = by_cosine(ModelSpec(name=str(text.folder)), PHRASES, PHRASES)
    assert found.argmax(1).tolist() == [0, 1, 2]


def test_images_get_the_softmax_over_captions(image, clip):
    captions = ["we saw a cat", "snow", "some very rice"]
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    pictures = image.task.pipeline_inputs(image.rows, image.processor)
    pixels = zero_shot.load_processor("AutoImageProcessor", zero_shot.CLIP, ModelSpec(name=str(clip)))(
        pictures, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**tokenizer(captions, padding=True, return_tensors="pt"), **pixels).logits_per_image.softmax(
            -1
        )
    found = by_captions(ModelSpec(name=str(clip)), image.rows, captions, image.context())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1)


@pytest.mark.parametrize("kind", ["entailment", "encoder", "image"])
def test_the_config_of_the_checkpoint_decides_how_it_is_asked(kind, text, image, clip, entailment, monkeypatch):
    kit = image if kind == "image" else text
    folder = {"entailment": entailment, "encoder": text.folder, "image": clip}[kind]
    names = {"entailment": "by_entailment", "encoder": "by_cosine", "image": "by_captions"}
    for name in names.values():
        monkeypatch.setattr(zero_shot, name, lambda *_, name=name: np.array([name]))
    context = replace(kit.context(), labels=(kind, "other", "third"))
    found = ZeroShot(checkpoint=str(folder)).baseline(kit.rows.remove_columns("label"), context)
    assert found.tolist() == [names[kind]]


def test_the_phrases_are_the_template_with_each_name_and_the_columns_are_in_the_order_of_the_labels(text, blind):
    technique = ZeroShot(checkpoint=str(text.folder), template="then we saw {}")
    labels = ("cat_dog", "rain", "rice")
    found = technique.baseline(blind, replace(text.context(), labels=labels))
    phrases = ["then we saw cat dog", "then we saw rain", "then we saw rice"]
    np.testing.assert_array_equal(found, by_cosine(ModelSpec(name=str(text.folder)), blind["text"][:], phrases))


@pytest.mark.parametrize(
    ("context", "settings", "message"),
    [
        ({"problem_type": "regression", "labels": ()}, {}, "for single-label rows, and these are regression"),
        ({"labels": ("0", "1", "2")}, {}, "found the numbers 0, 1, 2"),
        ({}, {"template": "no place"}, r"template: expected \{\}"),
        ({}, {"checkpoint": "nobody/no-such-model"}, "zero_shot.checkpoint: nobody/no-such-model was not found"),
        ({}, {"max_length": 999}, "techniques.zero_shot.max_length: .* takes at most 64 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_error_with_what_to_do(text, blind, context, settings, message):
    technique = ZeroShot(**{"checkpoint": str(text.folder), **settings})
    with pytest.raises(UserError, match=message):
        technique.baseline(blind, replace(text.context(), **context))


def test_pairs_of_texts_are_refused(text, blind):
    with pytest.raises(UserError, match="for rows of one text, and these are pairs"):
        ZeroShot(checkpoint=str(text.folder)).baseline(blind.add_column("text_pair", blind["text"][:]), text.context())


def test_a_checkpoint_of_another_modality_is_named(image):
    with pytest.raises(UserError, match=r"zero_shot.checkpoint: .* has no zero-shot-image-classification head"):
        ZeroShot(checkpoint=str(image.folder)).baseline(image.rows.remove_columns("label"), image.context())


def test_the_row_names_the_checkpoint_and_no_folder(text, image):
    assert ZeroShot(checkpoint="/home/me/models/nli/").baseline_name(text.context()) == "zero-shot (nli)"
    assert ZeroShot(checkpoint="a/nli").baseline_name(text.context()) == "zero-shot (nli)"
    assert "CLIP" in ZeroShot().baseline_name(image.context())


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many texts the other model was asked for, a number a time."""
    counts: list[int] = []
    ask = zero_shot.by_cosine

    def noted(spec, texts, phrases):
        counts.append(len(texts))
        return ask(spec, texts, phrases)

    monkeypatch.setattr(zero_shot, "by_cosine", noted)
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)
    return counts


def recipe(text, sources, seeds) -> Recipe:
    return Recipe.parse({
        "task": "text-classification", "data": sources["text-classification"], "model": {"name": str(text.folder)},
        "techniques": ["dropout", {"zero_shot": {"checkpoint": str(text.folder)}}, "label_smoothing", "knn"],
        "train": {"num_train_epochs": 1, "disable_tqdm": True}, "seeds": seeds,
    })  # fmt: skip


def test_all_seeds_of_a_run_share_one_answer_and_its_card_tells_no_folder(text, sources, tmp_path, asked):
    run = pipeline.train(recipe(text, sources, [0, 1]), tmp_path / "run")
    assert asked == [9]
    answers = run.predictions.groupby("seed")["baseline: zero-shot (model)"].apply(list)
    assert answers[0] == answers[1]
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "labelled rows: dropout + label_smoothing." in card
    for page in (card, *(run.part(f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))):
        assert "zero-shot (model)" in page
        assert str(text.folder) not in page


def test_all_runs_of_an_ablation_share_one_answer_and_none_leaves_it_out(text, sources, tmp_path, asked):
    made = study({"whole": recipe(text, sources, [0])}, tmp_path / "study", seeds=[0, 1], ablate=True, progress=Quiet())
    assert asked == [9]
    variants = [each["variant"] for each in made.results["results"]]
    assert [name for name in variants if name != "gated"] == [
        "whole", "without dropout", "without label_smoothing", "plain", "majority class",
        "TF-IDF + logistic regression", "zero-shot (model)", "5 nearest neighbours"]  # fmt: skip
    judged = [each["what"] for each in made.results["comparisons"] if each["kind"] == "technique"]
    assert judged == ["dropout", "label_smoothing"]
