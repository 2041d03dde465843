"""Spans of characters: words that can be put back, tags that say the same, and every unusable span named."""

from __future__ import annotations

import pytest

from hf_smalldata.data.spans import tags_of_spans, words
from hf_smalldata.errors import UserError


def cut(text):
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann's HIV-1 test, 3.5 ml.", ["Ann", "'", "s", "HIV", "-", "1", "test", ",", "3", ".", "5", "ml", "."]),
        ("naïve cafe\u0301 \t\n x", ["naïve", "cafe\u0301", "x"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("张三在Berlin工作", ["张", "三", "在", "Berlin", "工", "作"]),
        ("snake_case", ["snake", "_", "case"]),
        ("  ", []),
    ],
)
def test_words_are_runs_of_letters_and_single_signs(text, expected):
    assert cut(text) == expected


def test_words_miss_nothing_but_blanks():
    text = "".join(map(chr, range(0x20, 0x3000, 7)))
    assert "".join(cut(text)) == "".join(text.split())


TEXT = "Ann Lee joined  ACME, Rome."


def tagged(spans, text=TEXT, **settings):
    return tags_of_spans([text], [spans], ["row:0"], "rows.jsonl", **settings)


@pytest.mark.parametrize("key", ["label", "type", "tag", "entity", "entity_group"])
def test_spans_become_tags_whatever_the_label_is_called_and_whatever_their_order(key):
    tokens, starts, tags, warnings = tagged([{"start": 22, "end": 26, key: "LOC"}, {"start": 0, "end": 7, key: "PER"}])
    assert tokens == [["Ann", "Lee", "joined", "ACME", ",", "Rome", "."]]
    assert starts == [[0, 4, 8, 16, 20, 22, 26]]
    assert tags == [["B-PER", "I-PER", "O", "O", "O", "B-LOC", "O"]]
    assert warnings == []


def test_spans_may_be_lists_and_blanks_around_them_are_no_part_of_the_entity():
    assert tagged([[14, 20, "ORG"], (0, 4, "PER")])[2] == [["B-PER", "O", "O", "B-ORG", "O", "O", "O"]]


def test_touching_spans_stay_two_entities():
    assert tagged([[0, 3, "PER"], [4, 7, "PER"]])[2][0][:3] == ["B-PER", "B-PER", "O"]


def test_a_span_that_cuts_a_word_is_refused_or_widened_when_asked():
    with pytest.raises(UserError, match="row:0: span 1:5 PER 'nn L' cuts a word of 'Ann Lee'"):
        tagged([[1, 5, "PER"]])
    *_, tags, warnings = tagged([[1, 5, "PER"]], broken="repair")
    assert tags[0][:3] == ["B-PER", "I-PER", "O"]
    assert "1 rows: row:0" in warnings[0]


def test_two_entities_in_one_word_are_refused_even_when_widening():
    with pytest.raises(UserError, match="share a word"):
        tagged([[0, 1, "A"], [1, 3, "B"]], broken="repair")


@pytest.mark.parametrize("broken", ["refuse", "repair"])
@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ([20, 99, "LOC"], "outside the text of 27"),
        ([-4, 3, "LOC"], "outside"),
        ([3, 3, "LOC"], "empty"),
        ([14, 16, "LOC"], "blanks"),
        ([0, 7, "LOC"], "overlap"),
        ({"start": 0, "label": "LOC"}, "expected a span such as"),
        ({"start": 0, "end": 3}, "expected a span such as"),
        ([0, 3, " "], "expected a span such as"),
        ([0, 3.0, "LOC"], "expected a span such as"),
        ("PER", "expected a span such as"),
    ],
)
def test_unusable_spans_are_refused(span, reason, broken):
    with pytest.raises(UserError, match=f"row:0: .*{reason}"):
        tagged([[4, 7, "PER"], span], broken=broken)


def test_all_rows_are_named_up_to_twenty():
    ids = [f"row-{at}-" for at in range(30)]
    with pytest.raises(UserError, match="10 more") as refused:
        tags_of_spans(["ab"] * 30, [[[0, 9, "X"]]] * 30, ids, "rows")
    assert all(row_id in str(refused.value) for row_id in ids[:20])
    with pytest.raises(UserError, match="expected a list of spans, found None"):
        tags_of_spans(["ab"], [None], ["row"], "rows")
