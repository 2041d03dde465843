"""Sequences: FASTA as it is found, letters cleaned without inventing any."""

import pytest

from hf_smalldata.data.load import load
from hf_smalldata.data.sequences import clean, guess_alphabet, read_fasta
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError


def fasta(*headers, letters="ACGT"):
    return read_fasta("".join(f">{header}\n{letters}\n" for header in headers), "some.fasta")


def test_wrapped_lines_comments_blank_lines_and_windows_line_ends_are_read():
    columns = read_fasta("; made by hand\r\n>a\r\nACG\r\nTT\r\n\r\n;more\r\n>b the second\r\nGG\r\n", "some.fasta")
    assert columns == {"id": ["a", "b"], "sequence": ["ACGTT", "GG"], "description": ["", "the second"]}


@pytest.mark.parametrize(
    ("headers", "ids", "labels"),
    [
        (["a label=promoter x", 'b x label="no promoter"', "c"], ["a", "b", "c"], ["promoter", "no promoter", None]),
        (["a|label=1", "b;label=0", "c|9|label=1|z"], ["a", "b", "c|9|z"], ["1", "0", "1"]),
        (["a|promoter", "b|other", "x|c|promoter"], ["a", "b", "x|c"], ["promoter", "other", "promoter"]),
        (["a promoter", "b other", "c promoter"], ["a", "b", "c"], ["promoter", "other", "promoter"]),
    ],
)
def test_labels_are_read_from_the_common_forms_of_headers(headers, ids, labels):
    columns = fasta(*headers)
    assert columns["id"] == ids
    assert columns["label"] == labels


@pytest.mark.parametrize(
    "headers",
    [
        ["sp|P69905|HBA_HUMAN", "sp|P68871|HBB_HUMAN"],  # names, not classes
        ["a promoter", "b promoter of a gene"],  # descriptions
        ["a|promoter", "b"],
        ["a", "b"],
        ["a mislabel=1", "b mislabel=2"],
    ],
)
def test_headers_without_labels_give_none(headers):
    assert "label" not in fasta(*headers)


def test_a_label_is_no_part_of_the_description():
    assert fasta("a of E. coli label=1 K12", "b label=0")["description"] == ["of E. coli K12", ""]


def test_all_that_is_wrong_with_a_file_is_said_at_once():
    with pytest.raises(UserError) as error:
        read_fasta("ACGT\nACG\n>a\n>b\nAC\n>\nGG\n", "some.fasta")
    for said in ("line 1: expected a header such as '>name', found 'ACGT'", "line 3: '>a' has no letters",
                 "line 6: '>' without a name", "3 problems in some.fasta"):  # fmt: skip
        assert said in str(error.value)


def test_a_file_without_a_record_is_an_error():
    with pytest.raises(UserError, match="expected '>name' and lines of letters, found none"):
        read_fasta("; nothing\n", "some.fasta")


def test_no_more_than_twenty_records_are_named():
    with pytest.raises(UserError, match="and 5 more like it"):
        read_fasta("".join(f">r{at}\n" for at in range(25)), "some.fasta")


@pytest.mark.parametrize(
    ("sequences", "alphabet"),
    [
        (["ACGTN", "AAAA"], "dna"),
        (["ACGU", "AAAA"], "rna"),
        (["MKTAYIAKQR", "GAGA"], "protein"),
        (["ACGT" * 5 + "R"], "dna"),  # one code of two letters makes no protein
        (["AAAA"], "dna"),
        ([], "dna"),
    ],
)
def test_the_alphabet_is_guessed_from_all_letters(sequences, alphabet):
    assert guess_alphabet(sequences) == alphabet


def test_case_and_blanks_are_mended_and_lower_case_is_told():
    found, warnings = clean(["acg tT\tA", "ACGT"], ["a", "b"], "x.csv")
    assert found == ["ACGTTA", "ACGT"]
    assert warnings == ["1 of 2 sequences hold lower-case letters (soft-masked repeats), read as upper-case"]


def test_rna_keeps_its_u():
    assert clean(["ACGU"], ["a"], "x.csv") == (["ACGU"], [])


def test_many_unknown_letters_are_told_with_their_share():
    assert "25% of all letters are N" in clean(["ACGT" * 3 + "NNNN"], ["a"], "x.csv")[1][0]
    assert clean(["ACGT" * 5 + "N"], ["a"], "x.csv")[1] == []
    assert "50% of all letters are X" in clean(["MKXX"], ["a"], "x.csv", "protein")[1][0]


def test_other_letters_are_named_by_row_and_place():
    with pytest.raises(UserError) as error:
        clean(["ACGT" * 9, "ACGRACYT" + "ACGT" * 9], ["x:0", "x:1"], "x.csv")
    assert "x:1: letter 'R' at 4, letter 'Y' at 7" in str(error.value)
    assert "x:0" not in str(error.value)
    assert "replace ambiguous letters (R, Y) by N" in str(error.value)


@pytest.mark.parametrize(
    ("sequence", "alphabet", "advice"),
    [
        ("ACGU", "dna", "DNA with T and RNA with U"),
        ("AC-GT", "dna", "remove gaps"),
        ("AC1GT", "rna", "replace unknown letters by N"),
        ("MK?", "protein", "unknown amino acids by X"),
    ],
)
def test_the_advice_fits_the_letter(sequence, alphabet, advice):
    with pytest.raises(UserError, match=advice):
        clean([sequence], ["a"], "x.csv", alphabet)


def test_a_given_alphabet_is_not_guessed():
    assert clean(["GAGAGA"], ["a"], "x.csv", "protein") == (["GAGAGA"], [])
    with pytest.raises(UserError, match="read as dna"):
        clean(["MKTAYIAK"], ["a"], "x.csv", "dna")


def test_the_alphabet_is_told_by_the_rows_of_all_splits_together():
    train = {"sequence": ["MKLEWQVV", "MKWEEDLL"] * 2, "label": ["a", "b"] * 2}
    test = {"sequence": ["GATTACA", "ACGTACG"], "label": ["a", "b"]}  # a peptide of such letters
    read = load(DataSpec(name="rows"), "sequence", objects={"train": train, "test": test})
    assert read.test["sequence"][:] == test["sequence"]
    with pytest.raises(UserError, match="letter 'M'"):
        load(DataSpec(name="rows", alphabet="dna"), "sequence", objects={"train": train, "test": test})
    wrong = {"sequence": ["ACGTRACG", "ACGT"], "label": ["a", "b"]}  # R is no nucleotide, but an amino acid
    assert load(DataSpec(name="rows"), "sequence", objects={"train": train, "test": wrong}).test is not None
    with pytest.raises(UserError, match="letter 'R' at 5"):
        load(
            DataSpec(name="rows"), "sequence", objects={"train": {**test, "sequence": ["ACGT" * 9] * 2}, "test": wrong}
        )
