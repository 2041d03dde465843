"""CoNLL files: the forms that are about, read alike, and every line that does not fit named."""

from __future__ import annotations

import pytest

from hf_smalldata.data.conll import read_conll
from hf_smalldata.errors import UserError

READ = {"tokens": [["EU", "rejects"], ["Peter"]], "tags": [["B-ORG", "O"], ["B-PER"]]}


@pytest.mark.parametrize(
    "text",
    [
        "EU B-ORG\nrejects O\n\nPeter B-PER\n",
        "EU\tB-ORG\nrejects\tO\n\nPeter\tB-PER",
        "EU\tB-ORG\r\nrejects\tO\r\n\t\r\n\r\nPeter\tB-PER\r\n\r\n",
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n",
        "-DOCSTART- O\nEU B-ORG \nrejects  O\n-DOCSTART- O\nPeter B-PER\n",
        "# id 1\n# text = EU rejects\nEU\tB-ORG\nrejects\tO\n\n#2\nPeter\tB-PER\n",
        "# id 7d domain=en\nEU _ _ B-ORG\nrejects _ _ O\n\n# id 8\nPeter _ _ B-PER\n",
        "# one\nEU B-ORG\nrejects O\n\n# two\nPeter B-PER",
    ],
)
def test_forms_of_conll_read_alike(text):
    assert read_conll(text, "train.conll") == READ


@pytest.mark.parametrize("sign", [" ", "\t"])
def test_a_token_may_begin_with_a_number_sign(sign):
    text = f"I{sign}O\n#{sign}O\n#acl{sign}B-event\n"
    assert read_conll(text, "a.conll")["tokens"] == [["I", "#", "#acl"]]
    assert read_conll(text, "a.conll")["tags"] == [["O", "O", "B-event"]]


def test_a_token_may_hold_blanks_where_tabs_cut_and_odd_spaces_always():
    assert read_conll("New York\tB-LOC\nis\tO\n", "a.conll")["tokens"] == [["New York", "is"]]
    assert read_conll("10\u00a0000 O\na\u2028b O\n", "a.conll")["tokens"] == [["10\u00a0000", "a\u2028b"]]


def test_lines_that_do_not_fit_are_named_up_to_twenty():
    lines = ["good\tO"] * 60 + ["bad"] * 30
    with pytest.raises(UserError, match="line 61: expected 2 columns, found 1") as refused:
        read_conll("\n".join(lines), "train.conll")
    assert "line 80" in str(refused.value)
    assert "10 more" in str(refused.value)
    assert "line 81" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\tO\nb\t\n", "line 2: expected a token first and a tag last"),
        ("a\tO\n\tO\n", "line 2: expected a token first and a tag last"),
        ("one\ntwo\n\nthree\n", "single column"),
        ("-DOCSTART- O\n\n", "no such line"),
        ("1\tEU\tB-ORG\n2\tis\tO\n\n1\tPeter\tB-PER\n", "its number"),
    ],
)
def test_files_without_tokens_and_tags_are_refused(text, reason):
    with pytest.raises(UserError, match=reason) as refused:
        read_conll(text, "train.txt")
    assert "train.txt" in str(refused.value)
