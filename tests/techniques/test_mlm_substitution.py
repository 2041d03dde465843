"""MLM substitution: other words where they may stand, many texts at once, and nothing that turns a label round."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment import mlm_substitution, teaching
from hf_smalldata.techniques.augment.filling import Filler, Gapped, batch_of, encode, logits_at_gaps
from hf_smalldata.techniques.augment.mlm_substitution import Draft, MlmSubstitution, cased_like
from hf_smalldata.techniques.augment.words import protected
from hf_smalldata.testing import TOPICS

NOTHING = re.compile(r"(?!)")


@pytest.fixture(scope="module")
def filler(masked) -> Filler:
    return Filler.load(ModelSpec(name=str(masked.folder)), NOTHING)


@pytest.fixture
def context(masked, tmp_path):
    return replace(masked.context(), work_dir=tmp_path)


def gapped(text: str, *words: str, seed: int = 0, front: str | None = None) -> Gapped:
    gaps = sorted((text.index(word), text.index(word) + len(word)) for word in words)
    return Gapped(text, gaps, np.random.default_rng(seed), front)


def texts_of(rows: Dataset) -> list[str]:
    return rows["text"][:]


def test_the_head_reads_the_gaps_alone_and_says_what_it_says_of_all_tokens(filler):
    texts = [gapped("the cat saw a dog", "cat", "dog"), gapped("rain and snow today", "snow")]
    batch, masks = batch_of(encode(filler.tokenizer, texts), [0, 1], filler.tokenizer, torch.device("cpu"))
    model = filler.model.eval()
    with torch.no_grad():
        expected = model(**batch).logits[masks]
        torch.testing.assert_close(logits_at_gaps(model, batch, masks), expected)
    assert expected.shape[0] == 3


def test_texts_are_filled_at_once_as_they_are_one_by_one(filler):
    def texts() -> list[Gapped]:
        return [gapped("the cat saw a dog", "cat", seed=1), gapped("snow", "snow", seed=2),
                gapped("we saw bread and rice and a fish then", "bread", "fish", seed=3)]  # fmt: skip

    together = filler.fill(texts(), top_k=5, temperature=1.0)
    assert together == [filler.fill([text], top_k=5, temperature=1.0)[0] for text in texts()]
    assert [len(words) for words in together] == [1, 1, 2]
    assert all(word in filler.words for words in together for word in words)


def test_the_word_that_stood_there_never_comes_back_and_top_one_is_the_likeliest_other(filler):
    likeliest = filler.fill([gapped("the cat saw", "cat", seed=at) for at in range(8)], top_k=1, temperature=1.0)
    assert len({words[0] for words in likeliest}) == 1
    every = filler.fill([gapped("the cat saw", "cat", seed=at) for at in range(200)], top_k=10**6, temperature=50.0)
    assert "cat" not in {words[0] for words in every}
    assert len({words[0] for words in every}) > 20


def test_draws_follow_the_softmax_of_the_likeliest(filler):
    torch.manual_seed(0)
    words, draws = filler.words[7:11], 4000
    logits, tokens = np.array([1.0, 0.5, 0.0, -1.0]), np.arange(7, 11)
    rng = np.random.default_rng(0)
    found = [filler._draw(logits, tokens, "none", rng, 3, temperature=0.5) for _ in range(draws)]
    shares = np.array([found.count(word) for word in words]) / draws
    expected = np.exp([2.0, 1.0, 0.0, -np.inf]) / np.exp([2.0, 1.0, 0.0]).sum()
    np.testing.assert_allclose(shares, expected, atol=0.03)


def test_a_gap_beyond_the_longest_text_stays(masked):
    filler = Filler.load(ModelSpec(name=str(masked.folder), max_length=8), NOTHING)
    words = filler.fill([gapped("the cat is a very a very quite dog", "cat", "dog")], top_k=5, temperature=1.0)[0]
    assert words[0] is not None
    assert words[1] is None


def test_words_of_letters_alone_are_filled_in(filler, masked):
    assert {"cat", "rain", "the", "animals"} <= set(filler.words)
    assert not {"[MASK]", "[PAD]", ".", ""} & set(filler.words)
    assert "animals" not in Filler.load(ModelSpec(name=str(masked.folder)), protected((), masked.labels)).words


def test_negations_numbers_label_words_and_the_protected_stay(masked):
    row = {"id": "0", "text": "It was NOT 3 animals, didn't the Dog say", "label": 0}
    leave = protected(("say",), masked.labels)
    draft = Draft.of(row, None, 1.0, leave, rng_of(0, "0"))
    assert [draft.words[at].text for at in draft.chosen] == ["It", "was", "the", "Dog"]
    variant = draft.variant(["a", None, "some", "cat"])
    assert variant == {"parent": "0", "text": "A was NOT 3 animals, didn't some Cat say"}


def test_capitals_stay():
    assert [cased_like("paris", other) for other in ("DOG", "Dog", "dog", "I")] == ["PARIS", "Paris", "paris", "Paris"]


def test_entities_stay_and_tags_stay_aligned(tokens, masked, tmp_path):
    context = replace(tokens.context(), work_dir=tmp_path)
    technique = MlmSubstitution(checkpoint=str(masked.folder), fraction=0.6, min_similarity=0)
    after = technique.rows(tokens.rows, context)
    parents = {row["id"]: row for row in tokens.rows}
    made = [row for row in after if row["source"]]
    assert len(made) > len(parents) / 2
    for row in made:
        parent = parents[row["parent"]]
        assert row["label"] == parent["label"]
        assert len(row["tokens"]) == len(row["starts"]) == len(row["label"])
        for at, word in enumerate(row["tokens"]):
            assert row["text"][row["starts"][at] :].startswith(word)
            if row["label"][at]:
                assert word == parent["tokens"][at]
        assert row["tokens"] != parent["tokens"]


def test_each_row_has_its_variants_whatever_rows_are_beside_it(masked, context):
    technique = MlmSubstitution(n_aug=2, fraction=0.3, min_similarity=0)
    whole = technique.rows(masked.rows, context)
    part = technique.rows(masked.rows.select([4, 2]), context)
    of_part = {row["id"]: row["text"] for row in part if row["source"]}
    assert of_part.items() <= {row["id"]: row["text"] for row in whole if row["source"]}.items()
    assert len(of_part) == 4
    assert context.facts["mlm_substitution"]["made"] == 4


def test_another_process_reads_what_the_first_made(masked, context, monkeypatch):
    technique = MlmSubstitution(min_similarity=0)
    first = technique.rows(masked.rows, context)
    monkeypatch.setattr(MlmSubstitution, "_variants", lambda *_: pytest.fail("made again"))
    again = replace(context, facts={})
    assert texts_of(technique.rows(masked.rows, again)) == texts_of(first)
    assert again.facts == context.facts


def test_torchs_generator_goes_on_as_in_a_process_that_reads_what_was_made(masked, context):
    state = torch.random.get_rng_state()
    MlmSubstitution().rows(masked.rows, context)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_variants_unlike_their_row_are_dropped_and_counted(masked, context):
    few, all_of_them = (
        MlmSubstitution(n_aug=3, fraction=0.5, temperature=50.0, min_similarity=least) for least in (0.98, 0)
    )
    assert len(few.rows(masked.rows, context)) < len(all_of_them.rows(masked.rows, replace(context, facts={})))
    facts = context.facts["mlm_substitution"]
    assert facts["unlike"] > 0
    assert sum(facts.values()) == 3 * len(masked.rows)


@pytest.mark.parametrize("nothing", [{"fraction": 0}, {"n_aug": 0}])
def test_no_strength_makes_no_rows(nothing, masked, context):
    assert MlmSubstitution(**nothing).rows(masked.rows, context) is masked.rows


def test_a_second_text_stays(masked, context):
    pairs = masked.rows.add_column("text_pair", [f"second {at}" for at in range(len(masked.rows))])
    after = MlmSubstitution(min_similarity=0).rows(pairs, context)
    second = dict(zip(pairs["id"], pairs["text_pair"], strict=True))
    assert all(row["text_pair"] == second[row["parent"]] for row in after if row["source"])


def test_taught_on_the_rows_it_fills_in_words_of_the_class_in_front(filler, monkeypatch):
    """The claim of conditional BERT: the class decides which words fit."""
    monkeypatch.setattr(teaching, "LEARNING_RATE", 1e-2)
    filler = replace(filler, model=copy.deepcopy(filler.model))
    pairs = [(topic, " ".join(words[at:] + words[:at])) for topic, words in TOPICS.items() for at in range(6)]
    state = torch.random.get_rng_state()
    teaching.teach(filler, [text for _, text in pairs], [topic for topic, _ in pairs], steps=60, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    asked = [gapped("the", "the", seed=at, front=topic) for topic in TOPICS for at in range(20)]
    found = [words[0] for words in filler.fill(asked, top_k=20, temperature=1.0)]
    of_class = [word in words for word, words in zip(found, np.repeat(list(TOPICS.values()), 20, axis=0), strict=True)]
    assert np.mean(of_class) > 0.5  # a third of the topics' words by chance


def test_with_label_conditioned_the_class_stands_in_front_and_the_model_is_taught(masked, context, monkeypatch):
    taught = []
    monkeypatch.setattr(mlm_substitution, "teach", lambda filler, texts, fronts, *_: taught.append((texts, fronts)))
    after = MlmSubstitution(label_conditioned=True, min_similarity=0).rows(masked.rows, context)
    assert taught == [(masked.rows["text"][:], [masked.labels[label] for label in masked.rows["label"]])]
    assert texts_of(after) != texts_of(MlmSubstitution(min_similarity=0).rows(masked.rows, context))


def test_a_model_without_the_head_is_refused_with_one_that_has_it(text, tmp_path):
    with pytest.raises(UserError, match=r"mlm_substitution.checkpoint \(such as distilbert.*no masked-language-model"):
        MlmSubstitution().rows(text.rows, replace(text.context(), work_dir=tmp_path))


def test_rows_of_many_classes_are_not_conditioned(masked, context):
    with pytest.raises(UserError, match="label_conditioned: for rows of one class each"):
        MlmSubstitution(label_conditioned=True).rows(
            masked.rows, replace(context, problem_type="multi_label_classification")
        )


@pytest.mark.parametrize("field", ["fraction", "top_k", "temperature", "min_similarity", "n_aug", "steps"])
def test_settings_have_a_range(field):
    with pytest.raises(ValueError, match=field):
        MlmSubstitution(**{field: -1})
