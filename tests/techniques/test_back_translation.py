"""Back-translation: other words of the same meaning, translated once, and none that left their text behind."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment import back_translation
from hf_smalldata.techniques.augment.back_translation import BackTranslation, ratio
from hf_smalldata.techniques.augment.remembered import remembered
from hf_smalldata.techniques.augment.translating import Drawn, Translator
from hf_smalldata.testing import TOPICS

TEXTS = ["the cat saw a dog", "rain", "bread and some very quite cheese then we saw"]


@pytest.fixture(scope="module")
def translators(there_and_back) -> list[Translator]:
    return [Translator(ModelSpec(name=folder)) for folder in there_and_back]


@pytest.fixture
def context(text, tmp_path, monkeypatch):
    monkeypatch.setattr(back_translation, "cached_assets_path", lambda *_: tmp_path)
    return replace(text.context(), work_dir=tmp_path)


@pytest.fixture
def technique(there_and_back):
    def make(**settings) -> BackTranslation:
        return BackTranslation(
            **{"there": there_and_back[0], "back": there_and_back[1], "min_similarity": 0, **settings}
        )

    return make


def marian_model(folder: Path, texts: list[str]) -> None:
    """Of 32 features and random weights, with word pieces of some texts."""
    for side in ("source", "target"):
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=str(folder / side), vocab_size=60, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = [pieces.id_to_piece(at) for at in range(3, pieces.get_piece_size())]
    vocabulary = {word: at for at, word in enumerate(["</s>", "<unk>", *words, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    MarianTokenizer(
        vocab=str(folder / "vocab.json"), source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"),
        model_max_length=32,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    last = len(vocabulary) - 1
    MarianMTModel(MarianConfig(
        vocab_size=len(vocabulary), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
        pad_token_id=last, eos_token_id=0, decoder_start_token_id=last, forced_eos_token_id=0,
    )).save_pretrained(folder)  # fmt: skip


def test_the_best_translation_is_the_likeliest_and_others_follow(translators):
    there, back = translators
    middle = [best[0] for best in there.best(TEXTS, beams=3)]
    assert middle[:2] == ["the xcat saw a xdog", "xrain"]
    first, second = back.best(middle, beams=5, count=2)[0]
    assert first == "the dog saw a horse"
    assert second in ("the horse saw a horse", "the dog saw a bird")


def test_texts_are_translated_at_once_as_they_are_one_by_one(translators):
    _, back = translators
    middle = ["the xcat saw a xdog", "xrain", "xbread and some very quite xcheese then we saw"]
    assert back.best(middle, beams=3) == [back.best([text], beams=3)[0] for text in middle]

    def draws(texts) -> list[str]:  # from two tokens: those behind the second are alike likely, so of any order
        return back.drawn(texts, [rng_of(0, text) for text in texts], top_k=2, temperature=3.0)

    assert draws(middle) == [draws([text])[0] for text in middle]


def test_noise_on_scores_draws_from_the_softmax_of_the_likeliest():
    scores, draws = torch.tensor([[1.0, 0.5, 0.0, -1.0]]), 4000
    drawn = Drawn([np.random.default_rng(at) for at in range(draws)], top_k=3, temperature=0.5)
    found = drawn(torch.zeros(draws, 1), scores.expand(draws, -1))
    assert (found == 0).sum(1).tolist() == [1] * draws
    expected = torch.tensor([2.0, 1.0, 0.0, -torch.inf]).softmax(0)
    torch.testing.assert_close((found == 0).float().mean(0), expected, atol=0.03, rtol=0)


def test_a_marian_model_and_its_own_tokenizer_translate(text, tmp_path):
    marian_model(tmp_path, text.rows["text"][:])
    translator = Translator(ModelSpec(name=str(tmp_path)))
    said = translator.best(TEXTS, beams=3, count=2)
    assert [len(each) for each in said] == [2, 2, 2]
    assert len(translator.drawn(TEXTS, [rng_of(0, each) for each in TEXTS], 5, 1.0)) == 3


def test_without_the_library_of_its_tokenizer_a_marian_model_names_the_extra(text, tmp_path, monkeypatch):
    marian_model(tmp_path, text.rows["text"][:])
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"sentencepiece is not installed; run: pip install 'hf_smalldata\[text\]'"):
        Translator(ModelSpec(name=str(tmp_path)))


def test_variants_say_the_same_in_other_words(technique, text, context):
    after = technique(n_aug=2).rows(text.rows, context)
    made = [row for row in after if row["source"]]
    parents = {row["id"]: row for row in text.rows}
    assert len(made) > len(text.rows)
    assert context.facts["back_translation"]["made"] == len(made)
    for row in made:
        parent = parents[row["parent"]]
        assert row["label"] == parent["label"]
        topic = set(list(TOPICS.values())[row["label"]])
        changed = [word for word in row["text"].split() if word not in parent["text"].split()]
        assert set(changed) <= topic


@pytest.mark.parametrize("method", ["beam", "sampling"])
def test_what_was_translated_is_kept_for_other_seeds_and_rows(method, technique, text, context, tmp_path, monkeypatch):
    given = technique(method=method)
    few = given.rows(text.rows.select(range(6)), context)
    asked = []
    real = BackTranslation._round_trip
    monkeypatch.setattr(
        BackTranslation, "_round_trip", lambda self, specs, texts: asked.extend(texts) or real(self, specs, texts)
    )
    every = given.rows(text.rows, replace(context, seed=1, facts={}))
    assert asked == text.rows["text"][6:]
    of_few, of_every = ({row["id"]: row["text"] for row in rows if row["source"]} for rows in (few, every))
    assert of_few.items() <= of_every.items()
    technique(method=method, temperature=0.5, beams=2).rows(text.rows.select([0]), context)
    assert asked[-1] == text.rows["text"][0]


def test_what_was_made_before_an_interruption_is_kept(tmp_path):
    def make(texts):
        for at, text in enumerate(texts):
            if at == 2:
                raise KeyboardInterrupt
            yield [[text.upper()]]

    with pytest.raises(KeyboardInterrupt):
        remembered(tmp_path / "made", "key", ["a", "b", "c"], make)
    texts = ["b", "c", "a", "c"]
    again = remembered(tmp_path / "made", "key", texts, lambda texts: iter([[[f"new {each}"] for each in texts]]))
    assert again == {"a": ["A"], "b": ["B"], "c": ["new c"]}
    assert remembered(tmp_path / "made", "other", ["a"], lambda texts: iter([[["x"]]])) == {"a": ["x"]}


def test_variants_much_longer_or_unlike_their_text_are_dropped_and_counted(technique, text, context, monkeypatch):
    def long(self, specs, texts):
        yield [["very " * 3 * len(each.split()) if at % 2 else f"{each} very"] for at, each in enumerate(texts)]

    monkeypatch.setattr(BackTranslation, "_round_trip", long)
    technique().rows(text.rows, context)
    assert context.facts["back_translation"]["uneven"] == len(text.rows) // 2
    unlike = replace(context, facts={})
    technique(min_similarity=1.0).rows(text.rows, unlike)
    assert unlike.facts["back_translation"]["unlike"] == len(text.rows) // 2
    assert unlike.facts["back_translation"]["made"] == 0


def test_the_ratio_of_lengths_is_one_or_more():
    assert [ratio("abcd", "ab"), ratio("ab", "abcd"), ratio("a", "a"), ratio("", "a")] == [2, 2, 1, float("inf")]


def test_no_variants_make_no_rows(technique, text, context):
    assert technique(n_aug=0).rows(text.rows, context) is text.rows


def test_a_model_that_does_not_translate_is_refused(technique, text, context):
    with pytest.raises(UserError, match=r"techniques.back_translation: .* has no translation head"):
        technique(there=str(text.folder)).rows(text.rows, context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_aug": 8}, "beams: expected at least n_aug = 8, got 5"), ({"max_length_ratio": 0.5}, "max_length_ratio"),
     ({"temperature": 0}, "temperature"), ({"top_k": 0}, "top_k"), ({"method": "best"}, "method")],
)  # fmt: skip
def test_settings_have_a_range(settings, message):
    with pytest.raises(ValueError, match=message):
        BackTranslation(**settings)
