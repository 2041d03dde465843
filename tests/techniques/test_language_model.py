"""A language model writes rows of each class; what was learnt and written is kept, and copies are left out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.synthesis import language_model
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.techniques.synthesis.language_model import LanguageModel
from hf_smalldata.techniques.synthesis.writer import Nucleus, Writer
from hf_smalldata.techniques.synthesis.written import Forms, Line, entities, is_spaced, tags_of
from hf_smalldata.testing import TOPICS, text_rows, tiny_causal_model

QUICK = {"epochs": 2, "max_tokens": 200, "keep": Keep(agreement=0, max_similarity=1)}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory) -> str:
    """A model that has learnt lines `topic: text`, on 600 rows that no test has."""
    folder = tiny_causal_model(tmp_path_factory.mktemp("speaker") / "model")
    writer, names = Writer(ModelSpec(name=str(folder))), list(TOPICS)
    rows = [(f"{names[row['label']]}:", row["text"]) for row in text_rows(200, seed=5)]
    encoded = [writer._encoded(*row) for row in rows]
    optimiser = torch.optim.AdamW(writer.model.parameters(), 5e-3)
    torch.manual_seed(0)
    for _ in range(120):
        chosen = torch.randperm(len(rows))[:32].tolist()
        writer._loss(writer.model, [encoded[at] for at in chosen]).backward()
        optimiser.step()
        optimiser.zero_grad()
    writer.model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def assets(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setattr(language_model, "cached_assets_path", lambda *names: _made(tmp_path / "/".join(names)))
    return tmp_path


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def context(text, tmp_path):
    return replace(text.context(), work_dir=tmp_path)


def of_topic(texts, topic: str) -> float:
    """The share of topic words among those of any topic."""
    counts = Counter(name for text in texts for word in text.split() for name in TOPICS if word in TOPICS[name])
    return counts[topic] / max(counts.total(), 1)


def test_the_nucleus_is_the_smallest_set_that_has_the_probability():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(400, 1)
    rngs = [np.random.default_rng(at) for at in range(400)]
    drawn = Nucleus(rngs, 0.75, 1.0)(None, logits).argmax(1)
    shares = np.bincount(drawn.numpy(), minlength=4) / 400
    assert shares[2:].tolist() == [0, 0]  # 0.5 and 0.3 have 0.75 together
    assert shares[0] == pytest.approx(0.5 / 0.8, abs=0.07)
    again = Nucleus([np.random.default_rng(7)], 0.75, 1.0)(None, logits[:1]).argmax(1)
    assert again == drawn[7]  # whatever rows are beside it


def test_a_low_temperature_draws_the_likeliest():
    logits = torch.tensor([[0.0, 1.0, 0.9]])
    assert all(Nucleus([np.random.default_rng(at)], 1.0, 0.01)(None, logits).argmax() == 1 for at in range(20))


def test_the_loss_is_that_of_the_body_and_its_end_alone(causal):
    writer = Writer(ModelSpec(name=causal))
    tokens, given = writer._encoded("animals:", "cat dog")
    short, _ = writer._encoded("food:", "rice")
    assert given == 2
    with torch.no_grad():
        logits = writer.model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        expected = -sum(logits[at - 1, tokens[at]] for at in range(given, len(tokens))) / (len(tokens) - given)
        alone = writer._loss(writer.model, [(tokens, given)])
        both = writer._loss(writer.model, [(tokens, given), (short, 2)])
        other = writer._loss(writer.model, [(short, 2)])
    assert alone.item() == pytest.approx(expected.item(), rel=1e-5)
    assert both.item() == pytest.approx((3 * alone.item() + 2 * other.item()) / 5, rel=1e-5)


def test_what_is_written_hangs_on_its_name_and_not_on_its_neighbours(speaker):
    writer = Writer(ModelSpec(name=speaker))
    prompts, names = ["food:", "animals:", "weather:"], ["a", "b", "c"]
    (together,) = writer.write(prompts, names, 0.95, 1.0, 40)
    (alone,) = writer.write(prompts[1:2], names[1:2], 0.95, 1.0, 40)
    assert alone == together[1:2]
    (others,) = writer.write(prompts[1:2], ["d"], 0.95, 1.0, 40)
    assert others != alone


def test_a_text_that_does_not_end_is_none(speaker):
    (written,) = Writer(ModelSpec(name=speaker)).write(["food:"] * 4, list("abcd"), 0.95, 1.0, 1)
    assert written == [""] * 4


def test_of_a_prompt_that_is_too_long_the_end_is_read(speaker):
    writer = Writer(ModelSpec(name=speaker))
    room = writer.model.config.max_position_embeddings - 20
    long = "food: rice and soup\n" * 400 + "food:"
    end = writer.tokenizer(long)["input_ids"][-room:]
    assert len(end) == room > 20
    (found,) = writer.write([long], ["a"], 0.95, 1.0, 20)
    (same,) = writer.write([writer.tokenizer.decode(end)], ["a"], 0.95, 1.0, 20)
    assert found == same


def test_tuning_teaches_what_classes_mean_here_and_is_done_once(speaker, tmp_path, monkeypatch):
    topics = list(TOPICS)
    lines = [(f"{topics[row['label'] - 1]}:", row["text"]) for row in text_rows(8)]  # animals: texts on food, ...
    found = {}
    for name, folder in (("plain", None), ("tuned", tmp_path / "adapter"), ("again", tmp_path / "adapter")):
        writer = Writer(ModelSpec(name=speaker))
        if name == "again":
            monkeypatch.setattr(writer, "_learnt", lambda *_: pytest.fail("learnt twice"))
        if folder is not None:
            writer.tune(lines, 16, 30, 2e-2, folder)
        (found[name],) = writer.write(["animals:"] * 24, [f"{at}" for at in range(24)], 0.9, 1.0, 64)
    assert found["again"] == found["tuned"]
    assert of_topic(found["plain"], "animals") > 0.6
    assert of_topic(found["tuned"], "food") > 0.6
    assert [file.suffix for file in (tmp_path / "adapter").glob("adapter_model*")] == [".safetensors"]


def test_a_loss_that_is_no_number_stops_and_leaves_nothing(causal, tmp_path):
    writer = Writer(ModelSpec(name=causal))
    with torch.no_grad():
        next(writer.model.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match=r"no number at step 1 of 2; lower .*learning_rate \(0.01\)"):
        writer.tune([("food:", "rice")], 4, 2, 1e-2, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_each_class_gets_new_rows_in_its_own_words(text, speaker, context):
    after = LanguageModel(checkpoint=speaker, write=8, **QUICK).rows(text.rows, context)
    made = after.select(range(len(text.rows), len(after)))
    assert Counter(made["label"][:]) == {0: 4, 1: 4, 2: 4}
    assert not set(made["text"]) & set(text.rows["text"])
    assert set(made["source"]) == {"language_model"}
    for label, topic in enumerate(TOPICS):
        own = [row["text"] for row in made if row["label"] == label]
        assert of_topic(own, topic) > 0.6
    assert context.facts["language_model"]["written"] == 8 * 12


def test_without_tuning_rows_of_the_class_are_shown(text, causal, context, monkeypatch):
    shown, write = [], Writer.write

    def noted(self, prompts, *more):
        shown.extend(prompts)
        return write(self, prompts, *more)

    monkeypatch.setattr(Writer, "write", noted)
    LanguageModel(checkpoint=causal, tune=False, shots=2, **QUICK).rows(text.rows, context)
    own = {topic: [row["text"] for row in text.rows if row["label"] == at] for at, topic in enumerate(TOPICS)}
    assert len(set(shown)) > 3  # drawn anew for each
    for prompt in shown:
        *lines, last = prompt.split("\n")
        topic, _, nothing = last.partition(":")
        assert nothing == ""
        assert len(lines) == 2
        assert all(line.removeprefix(f"{topic}: ") in own[topic] for line in lines)


def test_another_ratio_or_seed_asks_only_for_what_is_missing(text, causal, context, monkeypatch):
    asked, tuned = [], []
    write, learn = Writer.write, Writer._learnt

    def counted(self, prompts, *more):
        asked.append(len(prompts))
        return write(self, prompts, *more)

    monkeypatch.setattr(Writer, "write", counted)
    monkeypatch.setattr(Writer, "_learnt", lambda self, *more: tuned.append(1) or learn(self, *more))

    def texts(ratio: float, seed: int = 0) -> list[str]:
        keep = Keep(agreement=0, max_similarity=1, ratio=ratio, diverse=False)
        technique = LanguageModel(checkpoint=causal, **{**QUICK, "keep": keep})
        return technique.rows(text.rows, replace(context, seed=seed))["text"][len(text.rows) :]

    first = texts(0.5)
    assert asked == [24]
    more = texts(1.0)
    assert asked == [24, 24]  # of 48
    assert set(first) <= set(more)
    assert texts(1.0) == more
    assert set(texts(0.5, seed=1)) != set(first)
    assert asked == [24, 24, 24]
    assert len(tuned) == 1


def test_names_stand_for_labels_in_front(text, context):
    forms = Forms(context, {"food": "what one eats"})
    assert forms.line({"text": "rice\nand  bread", "label": 1}) == Line("what one eats", "rice and bread", 1)
    assert forms.row(Line("what one eats", " soup ", 1)) == {"text": "soup", "label": 1}
    assert forms.row(Line("what one eats", " ", 1)) is None
    with pytest.raises(UserError, match="no class 'foot'; did you mean 'food'"):
        LanguageModel(names={"foot": "x"}).rows(text.rows, context)


def test_rows_of_several_labels_have_all_of_them_in_front(context):
    forms = Forms(replace(context, problem_type="multi_label_classification"), {})
    assert forms.line({"text": "rice in the rain", "label": [0, 1, 1]}).front == "food, weather"
    assert forms.line({"text": "well", "label": [0, 0, 0]}).front == "nothing"


def test_tagged_rows_are_read_as_they_were_written(tokens):
    forms = Forms(tokens.context(), {}, is_spaced(list(tokens.rows)))
    for row in tokens.rows:
        line = forms.line(row)
        assert forms.row(line) == {name: row[name] for name in ("text", "tokens", "starts", "label")}
    marked = next(line for line in map(forms.line, tokens.rows) if line.front == "animals, food")
    assert "](animals)" in marked.body
    assert "](food)" in marked.body


@pytest.mark.parametrize("body", ["a [cat(animals)", "a [cat](weather)", "[cat dog](animals) and ]", "[ cat](animals)",
                                  "a [cat](animals)s saw", "", "[[cat](animals)](food)"])  # fmt: skip
def test_marks_that_do_not_hold_together_make_no_row(body, tokens):
    for spaced in (True, False):
        assert Forms(tokens.context(), {}, spaced).row(Line("animals", body, None)) is None


def test_words_are_cut_as_the_rows_have_them(tokens):
    line = Line("animals", "the [cat dog](animals), and", None)
    assert Forms(tokens.context(), {}, spaced=True).row(line) is None  # "dog," is one word there
    row = Forms(tokens.context(), {}, spaced=False).row(line)
    assert row["tokens"] == ["the", "cat", "dog", ",", "and"]
    assert [tokens.labels[tag] for tag in row["label"]] == ["O", "B-animals", "I-animals", "O", "O"]


def test_touching_entities_stay_apart():
    labels = ("O", "B-x", "I-x")
    row = {"tokens": ["a", "b", "c"], "starts": [0, 2, 4], "label": [1, 1, 2]}
    assert entities(row, labels) == [(0, 1, "x"), (2, 5, "x")]
    assert tags_of([(0, 1), (2, 3), (4, 5)], [(0, 1, "x"), (2, 5, "x")]) == ["B-x", "B-x", "I-x"]


def test_pairs_are_refused_and_so_are_rows_that_cannot_be_shown(text, tokens, context, causal):
    pairs = text.rows.add_column("text_pair", text.rows["text"][:])
    with pytest.raises(UserError, match="for single texts, and these rows are pairs"):
        LanguageModel(checkpoint=causal).rows(pairs, context)
    row = {"id": "0", "text": "[1]", "tokens": ["[", "1", "]"], "starts": [0, 1, 2], "label": [0, 0, 0]}
    with pytest.raises(UserError, match=r"no row can be shown .* hold \[brackets\]"):
        LanguageModel(checkpoint=causal).rows(Dataset.from_list([row]), replace(tokens.context(), seed=3))


def test_a_model_that_is_not_there_is_told_of_the_techniques_own_setting(text, context):
    with pytest.raises(UserError, match=r"techniques\.language_model\.checkpoint"):
        LanguageModel(checkpoint="/no/such/folder").rows(text.rows, context)
