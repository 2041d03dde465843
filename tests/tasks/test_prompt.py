"""A template inside a tokenizer: in stock pipelines too, never cut off, in the words' own spelling."""

from __future__ import annotations

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, BertTokenizer, RobertaTokenizer

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.prompt import prompt, prompted
from hf_smalldata.tasks.task import ModelSpec

TEMPLATE = "It was {mask}. {text}"
LINES = ("It was great. the cat saw a dog", "It was bad. the soup was very good today", "Great, the cat was bad")


@pytest.fixture
def bpe(tmp_path) -> RobertaTokenizer:
    """RoBERTa's kind of tokenizer, in which a word after a blank is another token than at the beginning."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(LINES * 20, 320, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    trained.save_model(str(tmp_path))
    return RobertaTokenizer.from_pretrained(tmp_path)


def tokens(tokenizer, *texts: str, **more: int) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(*texts, truncation=True, **more)["input_ids"])


def test_the_mask_stands_first_and_all_else_in_its_order(masked):
    assert tokens(masked.processor, "The cat") == ["[MASK]", "[CLS]", "it", "was", ".", "the", "cat", "[SEP]"]
    assert set(masked.processor("The cat")["token_type_ids"]) == {0}
    assert prompt(AutoTokenizer.from_pretrained(masked.folder), TEMPLATE).place == 3


def test_a_pair_keeps_its_layout_behind_the_template(masked):
    assert tokens(masked.processor, "cat", "dog")[5:] == ["cat", "[SEP]", "dog", "[SEP]"]
    assert masked.processor("cat", "dog")["token_type_ids"] == [0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_a_long_text_is_cut_and_the_template_is_not(masked):
    assert tokens(masked.processor, "cat " * 90)[:5] == ["[MASK]", "[CLS]", "it", "was", "."]
    assert len(masked.processor("cat " * 90, truncation=True)["input_ids"]) == masked.processor.model_max_length
    assert tokens(masked.processor, "cat dog cow", max_length=7) == [
        "[MASK]",
        "[CLS]",
        "it",
        "was",
        ".",
        "cat",
        "[SEP]",
    ]


def test_a_saved_tokenizer_has_the_template_whatever_class_it_came_from(masked, bpe, tmp_path):
    for tokenizer in (BertTokenizer.from_pretrained(masked.folder), bpe):
        expected = prompted(tokenizer, TEMPLATE)
        expected.save_pretrained(tmp_path / "saved")
        again = AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert again("Great cat", "the dog") == expected("Great cat", "the dog")
        assert again.mask_token == expected.mask_token
        assert again.model_max_length == expected.model_max_length
        assert tokens(again, "the cat")[0] == again.mask_token


def test_in_byte_pairs_words_of_template_and_text_have_their_blanks(bpe):
    found = tokens(prompted(bpe, TEMPLATE), "Great cat")
    assert found[:5] == ["<mask>", "<s>", "It", "Ġwas", "."]
    assert "".join(found[5:-1]).replace("Ġ", " ") == " Great cat"
    assert found[-1] == "</s>"


def test_without_a_blank_before_the_text_none_is_put_there(bpe):
    found = tokens(prompted(bpe, "It was {mask}.{text}"), "Great cat")
    assert "".join(found[5:-1]).replace("Ġ", " ") == "Great cat"


def test_a_pair_of_byte_pairs_keeps_its_two_separators(bpe):
    found = tokens(prompted(bpe, TEMPLATE), "cat", "dog")
    at = found.index("</s>")
    assert found[at : at + 2] == ["</s>", "</s>"]
    assert found[-1] == "</s>"


@pytest.mark.parametrize("template", ["{text} It was {mask}.", "It was {text}", "{mask} {mask} {text}", "{mask}"])
def test_a_template_of_another_form_is_refused(template):
    with pytest.raises(
        Problems, match=r"model\.template: expected one \{mask\} and after it, at the end, one \{text\}"
    ):
        Recipe.parse({"task": "text-classification", "data": {"train": "a.csv"},
                      "model": {"name": "x", "template": template}})  # fmt: skip


def test_a_template_must_leave_room_for_texts(masked):
    with pytest.raises(UserError, match=r"model\.max_length: expected more than 7, .* got 7"):
        masked.task.load_processor(ModelSpec(name=str(masked.folder), template=TEMPLATE, max_length=7))


def test_a_tokenizer_without_a_mask_is_refused(text):
    with pytest.raises(UserError, match=r"model\.template: .*no mask token"):
        text.task.load_processor(ModelSpec(name=str(text.folder), template=TEMPLATE))


def test_a_model_with_a_template_reads_the_mask_in_its_place(masked):
    plain = get_task("text-classification").load_model(
        ModelSpec(name=str(masked.folder)), masked.labels, "single_label_classification"
    )
    table, moved = (each.bert.embeddings.position_embeddings.weight for each in (plain, masked.network()))
    assert moved[:5].equal(table[[3, 0, 1, 2, 4]])
