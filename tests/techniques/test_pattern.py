"""Pattern: a word that a pretrained network fills in is a classifier, before and after a little training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from hf_smalldata import bundle
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.fewshot.pattern import Pattern, suggested, word_token
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.testing import TOPICS, text_rows

FEW = 2  # rows a class
RATE = Pattern().learning_rate


@pytest.fixture(scope="module")
def pretrained(masked, tmp_path_factory) -> Any:
    """The masked language model after reading many lines such as "it was food. we saw the soup"."""
    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = AutoTokenizer.from_pretrained(masked.folder)
    rows = text_rows(64, seed=5)
    names = list(TOPICS)
    batch = tokenizer([f"it was [MASK]. {text}" for text in rows["text"]], padding=True, return_tensors="pt")
    words = torch.tensor([tokenizer.vocab[names[label]] for label in rows["label"]])
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_pretrained(masked.folder)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        cross_entropy(model(**batch).logits[:, 3], words).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return replace(masked, folder=folder, rows=text_rows(FEW))


def accuracy(model, kit, rows: Dataset) -> float:
    batch = kit.task.collate(kit.task.encode(rows, kit.processor), kit.processor)
    with torch.no_grad():
        return float((model.eval()(**batch).logits.argmax(1).numpy() == np.array(rows["label"])).mean())


def new_head(kit) -> Any:
    """Ordinary training of all weights from the same checkpoint on the same rows."""
    model = kit.network().train()
    batch = kit.task.collate(kit.task.encode(kit.rows, kit.processor), kit.processor)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    for _ in range(Pattern().epochs):
        cross_entropy(model(**batch).logits, torch.tensor(kit.rows["label"])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_class_names_classify_before_any_training(pretrained):
    ctx = pretrained.context()
    model = Pattern(epochs=0).model(pretrained.network(), ctx)
    assert accuracy(model, pretrained, text_rows(20, seed=9)) > 0.9
    assert ctx.facts["pattern"]["words"] == {name: name for name in TOPICS}
    assert ctx.facts["pattern"]["fold_error"] < 1e-4


def test_two_rows_a_class_teach_more_than_the_same_training_teaches_a_new_head(pretrained):
    test = text_rows(40, seed=9)
    model = Pattern().model(pretrained.network(), pretrained.context())
    assert accuracy(model, pretrained, test) > accuracy(new_head(pretrained), pretrained, test) + 0.2


def test_words_that_mean_something_else_are_learnt(pretrained):
    test = text_rows(40, seed=9)
    odd = {"animals": "food", "food": "weather", "weather": "animals"}
    before, after = (
        accuracy(Pattern(verbaliser=odd, epochs=epochs, learning_rate=3e-3).model(
            pretrained.network(), pretrained.context()), pretrained, test)
        for epochs in (0, 40)
    )  # fmt: skip
    assert before < 0.1
    assert after > 0.5


def test_classes_without_names_get_the_words_that_their_rows_suggest(pretrained):
    kit = replace(pretrained, labels=("0", "1", "2"))
    ctx = kit.context()
    model = Pattern(epochs=0).model(kit.network(), ctx)
    assert list(ctx.facts["pattern"]["words"].values()) == list(TOPICS)
    assert accuracy(model, kit, text_rows(20, seed=9)) > 0.9


def test_of_likely_words_the_most_telling_one_is_suggested(masked):
    vocabulary = masked.processor.vocab
    own, other = torch.full((2, len(vocabulary)), -9.0), torch.full((2, len(vocabulary)), -9.0)
    own[0, vocabulary["the"]], other[0, vocabulary["the"]] = -1.0, -1.0
    own[0, vocabulary["soup"]], other[0, vocabulary["soup"]] = -2.0, -6.0
    own[0, vocabulary["cow"]], other[0, vocabulary["cow"]] = -8.0, -99.0  # telling, but never likely
    own[:, vocabulary["."]] = 0.0  # no word
    found = suggested(own, other, [None, vocabulary["cat"]], masked.processor, likely=2)
    assert found == [vocabulary["soup"], vocabulary["cat"]]


def test_no_two_classes_share_a_word(masked):
    vocabulary = masked.processor.vocab
    own = torch.full((2, len(vocabulary)), -9.0)
    own[:, vocabulary["soup"]], own[:, vocabulary["cake"]] = -1.0, -2.0
    found = suggested(own, torch.zeros_like(own), [None, None], masked.processor)
    assert found == [vocabulary["soup"], vocabulary["cake"]]


def test_a_stock_pipeline_gives_the_same_and_cuts_no_template(pretrained, tmp_path):
    model = Pattern(epochs=2).model(pretrained.network(), pretrained.context()).eval()
    bundle.save(model, pretrained.processor, tmp_path)
    rows = Dataset.from_dict({"text": ["we saw the soup", "rain " * 90]})
    batch = pretrained.task.collate(pretrained.task.encode(rows, pretrained.processor), pretrained.processor)
    with torch.no_grad():
        expected = model(**batch).logits.softmax(-1).numpy()
    answers = pipeline("text-classification", model=str(tmp_path))(rows["text"][:], top_k=None, truncation=True)
    found = pretrained.task.read(answers, rows, pretrained.labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_adapters_go_on_learning_behind_it(pretrained, tmp_path):
    model = Pattern(epochs=0).model(pretrained.network(), pretrained.context())
    model = Lora(rank=2).model(model, pretrained.context())
    assert bundle.save(model, pretrained.processor, tmp_path) == [tmp_path]  # the adapter alone would not fit


@pytest.mark.parametrize(
    ("verbaliser", "message"),
    [
        ({"animals": "cat", "food": "unheard", "weather": "rain"}, "'unheard' for food is no single token"),
        ({"animals": "cat", "food": "cat", "weather": "rain"}, "'cat' for food stands for another class"),
        ({"animals": "cat"}, "a word for each of animals, food, weather; got animals"),
    ],
)
def test_words_that_do_not_stand_for_the_classes_are_refused(verbaliser, message, masked):
    with pytest.raises(UserError, match=message):
        Pattern(verbaliser=verbaliser).model(masked.network(), masked.context())


def test_what_is_missing_is_said(masked, text):
    with pytest.raises(UserError, match=r"set model\.template"):
        Pattern().model(text.network(), text.context())
    encoder = replace(text, template="{mask}: {text}", processor=masked.processor)
    with pytest.raises(UserError, match="masked-language-model head"):
        Pattern().model(text.network(), encoder.context())
    with pytest.raises(UserError, match="one class each"):
        Pattern().model(masked.network(), replace(masked, problem_type="regression").context())
    with pytest.raises(UserError, match="before adapters and pooling"):
        Pattern().model(Lora(rank=2).model(masked.network(), masked.context()), masked.context())


def test_a_word_is_a_token_only_if_the_vocabulary_has_it(masked):
    assert word_token(masked.processor, "soup") == masked.processor.vocab["soup"]
    assert word_token(masked.processor, "unheard") is None
    assert word_token(masked.processor, "soup cake") is None
