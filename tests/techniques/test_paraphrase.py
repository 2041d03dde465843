"""Paraphrase: what is asked of the model, what of its answers stays, and that it is asked once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from datasets import Dataset

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.augment import paraphrase
from hf_smalldata.techniques.augment.paraphrase import Paraphrase
from hf_smalldata.techniques.synthesis.writer import Writer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paraphrase, "cached_assets_path", lambda *_: tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """Prompts that the model got; it answers with their last word, in quotes, and a number."""
    found: list[str] = []

    def write(self, prompts, names, top_p, temperature, longest):
        found.extend(prompts)
        yield [
            f' "{prompt.split()[-1].split("<")[0]} said {name[0]}" '
            for prompt, name in zip(prompts, names, strict=True)
        ]

    monkeypatch.setattr(Writer, "write", write)
    return found


def told(rows):
    return [(row["parent"], row["text"], row["label"]) for row in rows if row["source"] == "paraphrase"]


def test_each_row_has_variants_with_its_label_whatever_that_is(text, causal, asked):
    rows = Dataset.from_dict({"id": ["a", "b"], "text": ["the cat", "a dog"], "label": [0.5, -2.0],
                              "text_pair": ["one", "two"]})  # fmt: skip
    context = replace(text.context(), train=rows, problem_type="regression", labels=(), facts={})
    after = Paraphrase(checkpoint=causal, n_aug=2, min_similarity=0).rows(rows, context)
    assert told(after) == [("a", "words: said 0", 0.5), ("a", "words: said 1", 0.5), ("b", "words: said 0", -2.0),
                           ("b", "words: said 1", -2.0)]  # fmt: skip
    assert after["text_pair"][2:] == ["one", "one", "two", "two"]
    assert context.facts["paraphrase"]["made"] == 4


def test_a_model_with_a_chat_template_is_asked_by_it(text, causal, asked, monkeypatch):
    load = Writer.__init__

    def templated(self, spec):
        load(self, spec)
        self.tokenizer.chat_template = TEMPLATE

    monkeypatch.setattr(Writer, "__init__", templated)
    technique = Paraphrase(checkpoint=causal, instruction="Other words, please.", min_similarity=0)
    technique.rows(text.rows.select([0]), text.context())
    assert asked == [f"<user>Other words, please.\n\n{text.rows[0]['text']}<answer>"]


def test_without_a_template_the_prompt_ends_where_the_model_goes_on(text, causal, asked):
    Paraphrase(checkpoint=causal, min_similarity=0).rows(text.rows.select([0]), text.context())
    assert asked[0].endswith(f"Text: {text.rows[0]['text']}\nIn other words:")


def test_the_model_is_asked_once_for_all_seeds_and_only_for_what_is_missing(text, causal, asked):
    for seed, rows in ((0, text.rows.select(range(4))), (1, text.rows.select(range(6)))):
        Paraphrase(checkpoint=causal, min_similarity=0).rows(rows, replace(text.context(seed), work_dir=text.work))
    assert len(asked) == len(set(text.rows["text"][:6]))


def test_a_model_that_is_not_there_is_told_as_the_techniques(text):
    with pytest.raises(UserError, match=r"techniques\.paraphrase\.checkpoint: no folder"):
        Paraphrase(checkpoint="/nowhere/at/all").rows(text.rows, text.context())
