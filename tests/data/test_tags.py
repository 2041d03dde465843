"""Tags: every scheme to the same entities, and what breaks a scheme is named, never guessed at unasked."""

from __future__ import annotations

import random

import pytest

from hf_smalldata.data.tags import check_lengths, detect, tag_names, to_iob2
from hf_smalldata.errors import UserError


def written(scheme, entities, length):
    """Tags of entities (start, end, type) in a scheme, by its definition."""
    tags = ["O"] * length
    for start, end, kind in entities:
        touches = any(other[1] == start and other[2] == kind for other in entities)
        first, last, one = {
            "IOB1": ("B" if touches else "I", "I", "B" if touches else "I"),
            "IOB2": ("B", "I", "B"),
            "BILOU": ("B", "L", "U"),
            "IOBES": ("B", "E", "S"),
        }[scheme]
        letters = [one] if end - start == 1 else [first, *["I"] * (end - start - 2), last]
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags


def made(seed):
    """Sentences of entities, some of which touch."""
    rng = random.Random(seed)
    for _ in range(40):
        at, entities = rng.randrange(3), []
        while at < 15:
            end = at + rng.randint(1, 4)
            entities.append((at, end, rng.choice(["PER", "ORG"])))
            at = end + rng.choice([0, 0, 1, 3])
        yield entities, 20


def ids_of(sentences):
    return [f"rows:{at}" for at in range(len(sentences))]


def iob2(sentences, **settings):
    return to_iob2(sentences, ids_of(sentences), "rows", **settings)


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BILOU", "IOBES"])
@pytest.mark.parametrize("seed", range(3))
def test_every_scheme_is_detected_and_read_to_the_same_iob2(scheme, seed):
    given = [written(scheme, *each) for each in made(seed)]
    assert detect(given) == scheme
    assert iob2(given) == ([written("IOB2", *each) for each in made(seed)], [])


def test_bmewo_and_small_letters_and_underscores_are_read():
    assert iob2([["B-PER", "M-PER", "E-PER", "W-ORG", "O"]])[0] == [["B-PER", "I-PER", "I-PER", "B-ORG", "O"]]
    assert iob2([["b_PER", "i_PER", "o"]])[0] == [["B-PER", "I-PER", "O"]]


@pytest.mark.parametrize("given", [["I-PER", "I-PER", "O", "I-ORG"], ["PER", "PER", "O", "ORG"]])
def test_io_tags_with_or_without_prefix_begin_an_entity_where_the_type_changes(given):
    assert detect([given]) == "IO"
    assert iob2([given])[0] == [["B-PER", "I-PER", "O", "B-ORG"]]


def test_bare_types_that_look_like_a_prefix_stay_whole():
    assert iob2([["E-mail", "O", "phone"]])[0] == [["B-E-mail", "O", "B-phone"]]


def test_types_keep_their_hyphens():
    assert tag_names(iob2([["B-creative-work", "I-creative-work"]])[0]) == ("O", "B-creative-work", "I-creative-work")


def test_held_out_rows_are_read_by_the_scheme_of_the_training_rows():
    assert iob2([["I-PER", "B-PER"]], scheme="IOB1")[0] == [["B-PER", "B-PER"]]
    with pytest.raises(UserError, match="IOB2"):
        iob2([["I-PER", "O"]], scheme="IOB2")


@pytest.mark.parametrize(
    ("fine", "broken", "named", "repaired"),
    [
        (["B-PER", "I-PER", "O"], ["O", "I-PER", "O"], "'I-PER' (token 2)", ["O", "B-PER", "O"]),
        (["B-PER", "I-PER", "O"], ["B-PER", "I-ORG", "O"], "'I-ORG' (token 2)", ["B-PER", "B-ORG", "O"]),
        (["I-PER", "I-PER", "I-PER"], ["O", "B-PER", "O"], "'B-PER' (token 2)", ["O", "B-PER", "O"]),
        (["B-PER", "I-PER", "O"], ["B-PER", "PER", "O"], "'PER' (token 2)", ["B-PER", "I-PER", "O"]),
        (["B-PER", "I-PER", "O"], ["B-PER", "X-PER", "O"], "'X-PER' (token 2)", ["B-PER", "I-PER", "O"]),
        (["B-PER", "I-PER", "O"], ["B-PER", "B-", "0"], "'B-' (token 2), '0' (token 3)", ["B-PER", "O", "O"]),
        (["B-PER", "L-PER", "O"], ["I-PER", "L-PER", "O"], "'I-PER' (token 1)", ["B-PER", "I-PER", "O"]),
        (["B-PER", "L-PER", "O"], ["B-PER", "I-PER", "O"], "'O' (token 3)", ["B-PER", "I-PER", "O"]),
        (["B-PER", "L-PER", "O"], ["O", "O", "B-PER"], "'B-PER' (the last token)", ["O", "O", "B-PER"]),
        (["B-PER", "E-PER", "O"], ["B-PER", "B-PER", "E-PER"], "'B-PER' (token 2)", ["B-PER", "B-PER", "I-PER"]),
        (["S-PER", "O", "O"], ["S-PER", "E-PER", "O"], "'E-PER' (token 2)", ["B-PER", "B-PER", "O"]),
    ],
)
def test_a_broken_tag_is_refused_by_row_and_token_or_repaired_when_asked(fine, broken, named, repaired):
    sentences = [fine, fine, fine, broken]
    with pytest.raises(UserError) as refused:
        iob2(sentences)
    assert named in str(refused.value)
    assert "rows:3" in str(refused.value)
    assert "rows:0" not in str(refused.value)
    assert "data.tag_scheme" in str(refused.value)
    assert "data.broken_tags: repair" in str(refused.value)
    read, warnings = iob2(sentences, broken="repair")
    assert read[3] == repaired
    assert len(warnings) == 1
    assert "1 of 4 rows" in warnings[0]
    assert "rows:3" in warnings[0]


def test_at_most_twenty_rows_are_named_and_all_are_counted():
    sentences = [["B-PER", "I-PER"]] * 60 + [["O", "I-PER"]] * 30
    with pytest.raises(UserError, match="30 tags in 30 of 90 rows") as refused:
        iob2(sentences)
    assert str(refused.value).count("\n  rows:") == 20
    assert "10 more" in str(refused.value)


def test_repair_reads_random_tags_as_seqeval_does():
    from seqeval.metrics.sequence_labeling import get_entities

    rng = random.Random(0)
    tags = ["O", "B-a", "I-a", "B-b", "I-b"]
    given = [rng.choices(tags, k=rng.randint(1, 12)) for _ in range(200)]
    read, _ = iob2(given, scheme="IOB2", broken="repair")
    assert [get_entities(each) for each in read] == [get_entities(each) for each in given]
    assert iob2(read, scheme="IOB2") == (read, [])


def test_tag_names_are_by_alphabet_and_hold_both_tags_of_a_type():
    assert tag_names([["B-b", "O"], ["B-a"]]) == ("O", "B-a", "I-a", "B-b", "I-b")


def test_no_sentences_have_only_the_outside_tag():
    assert detect([]) == "IO"
    assert iob2([[], ["O"]]) == ([[], ["O"]], [])
    assert tag_names([["O"]]) == ("O",)


def test_rows_with_more_or_fewer_tags_than_tokens_are_all_named():
    check_lengths([["a", "b"], []], [["O", "O"], []], ["1", "2"], "rows")
    with pytest.raises(UserError, match=r"(?s)x: .*1 tags for 2 tokens.*z: .*2 tags for 1 tokens") as refused:
        check_lengths([["a", "b"], ["c"], ["d"]], [["O"], ["O"], ["O", "O"]], ["x", "y", "z"], "rows")
    assert "y:" not in str(refused.value)
