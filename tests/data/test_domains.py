"""Unlabelled rows and rows of other domains: read, named, and never rows that judge."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from datasets import Dataset

from hf_smalldata.data.domains import apart, at_most, rest, with_domains
from hf_smalldata.data.load import load
from hf_smalldata.data.sample import split
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError
from hf_smalldata.testing import COLOURS, audio_folder, image_folder


@pytest.fixture
def write(tmp_path):
    """A name and rows -> the path of a jsonl file."""

    def file(name, rows):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        return str(path)

    return file


def reviews(count, word="fine", labels=("neg", "pos"), **more):
    return [{"text": f"{word} {at}", "label": labels[at % len(labels)], **more} for at in range(count)]


def read(kind="text", **data):
    spec = DataSpec(**data)
    return apart(with_domains(split(load(spec, kind), spec), spec, kind), spec)


@pytest.fixture
def target(write):
    return {"train": write("train.jsonl", reviews(8, "train")), "test": write("test.jsonl", reviews(8, "test"))}


def test_unlabelled_rows_have_an_input_and_a_domain_and_no_label(target, write):
    rows = read(**target, unlabelled=write("more.jsonl", reviews(9, "more"))).unlabelled
    assert set(rows.column_names) == {"id", "domain", "text"}
    assert rows["text"][:] == [f"more {at}" for at in range(9)]
    assert set(rows["domain"]) == {"more"}
    assert len(set(rows["id"])) == 9


def test_they_come_from_several_sources_and_from_lines_of_text(target, write, tmp_path):
    (tmp_path / "lines.txt").write_text("\n\n".join(f"line {at}" for at in range(5)))
    data = read(**target, unlabelled=[str(tmp_path / "lines.txt"), write("more.jsonl", [{"text": "a"}, {"text": "b"},
                                                                                       {"text": "c"}])])  # fmt: skip
    assert data.unlabelled["domain"][:] == ["lines"] * 5 + ["more"] * 3


def test_a_column_names_their_domains(target, write):
    rows = [{"text": f"x {at}", "shop": "ab"[at % 2]} for at in range(8)]
    data = read(**target, unlabelled=write("more.jsonl", rows), domain="shop")
    assert data.unlabelled["domain"][:] == ["a", "b"] * 4


def test_rows_without_an_input_are_left_out_and_counted(target, write):
    data = read(**target, unlabelled=write("more.jsonl", [*reviews(9), {"text": " "}]))
    assert len(data.unlabelled) == 9
    assert "more.jsonl: 1 unlabelled rows have no input; left out" in data.warnings


def test_pictures_may_lie_in_a_folder_of_any_depth(tmp_path):
    labelled = image_folder(tmp_path / "few", 4)
    loose = image_folder(tmp_path / "loose", 4, seed=1)
    for name in COLOURS:
        for file in (loose / name).iterdir():
            file.rename(loose / f"{name}-{file.name}")
        (loose / name).rmdir()
    data = read("image", train=str(labelled), unlabelled=str(loose))
    assert len(data.unlabelled) == 12
    assert set(data.unlabelled.column_names) == {"id", "domain", "image"}


def test_test_rows_among_them_are_refused_by_content(target, write):
    rows = [*reviews(8, "more"), {"text": " TEST  3"}]
    with pytest.raises(UserError, match=r"1 of 9 unlabelled rows are test rows .*must not learn from what judges it"):
        read(**target, unlabelled=write("more.jsonl", rows))


def test_transductive_learning_has_to_be_asked_for_and_is_told(target, write):
    rows = [*reviews(8, "more"), {"text": "test 3"}]
    data = read(**target, unlabelled=write("more.jsonl", rows), transductive=True)
    assert len(data.unlabelled) == 9
    assert any("1 of 9 unlabelled rows are test rows, without their labels" in said for said in data.warnings)


def test_rows_that_were_held_out_of_the_training_rows_are_taken_out(write):
    train = write("train.jsonl", reviews(40, "train"))
    data = read(train=train, unlabelled=write("all.jsonl", reviews(40, "train")), validation_fraction=0.2)
    held = {*data.test["text"], *data.validation["text"]}
    assert held
    assert not held & set(data.unlabelled["text"])
    assert len(data.unlabelled) == 40 - len(held)


def test_a_source_row_may_not_be_a_test_row(target, write):
    with pytest.raises(UserError, match=r"data\.source: 1 of 9 source rows are test rows"):
        read(**target, source=write("other.jsonl", [*reviews(8, "other"), *reviews(1, "test")]))


def test_so_few_unlabelled_rows_are_refused(target, write):
    with pytest.raises(UserError, match="expected 8 rows or more, found 3"):
        read(**target, unlabelled=write("more.jsonl", reviews(3, "more")))


def test_the_rest_are_training_rows_that_were_not_drawn():
    pool = Dataset.from_dict({"id": list(map(str, range(12))), "text": list("abcdefghijkl"), "label": [0, 1] * 6})
    found = rest(pool, pool.select([0, 1, 5]))
    assert set(found.column_names) == {"id", "text", "domain"}
    assert found["text"][:] == list("cdeghijkl")


def test_the_rest_of_all_rows_is_refused(target):
    with pytest.raises(UserError, match=r"data\.unlabelled: 'rest' is what labels_per_class or fraction does not draw"):
        read(**target, unlabelled="rest")


def test_source_rows_get_the_targets_labels(target, write):
    rows = reviews(9, "film", ("good", "bad", "so so"))
    names = {"good": "pos", "bad": "neg", "so so": None}
    data = read(**target, source=write("films.jsonl", rows), source_labels=names)
    assert data.labels == ("neg", "pos")
    assert data.source["label"][:] == [1, 0] * 3
    assert set(data.source["domain"]) == {"films"}
    assert set(data.source.column_names) == {"id", "domain", "text", "label"}
    assert data.source.features["label"] == data.train.features["label"]


def test_several_sources_and_their_domains(target, write):
    one, two = (write(f"{name}.jsonl", reviews(4, name, shop=name[0])) for name in ("films", "books"))
    assert read(**target, source=[one, two]).source["domain"][:] == ["films"] * 4 + ["books"] * 4
    assert read(**target, source=[one, two], domain="shop").source["domain"][:] == ["f"] * 4 + ["b"] * 4


def test_a_domain_of_one_class_is_told(target, write):
    rows = [*reviews(6, "film", shop="f"), *reviews(4, "book", ("pos",), shop="b")]
    said = "source: all rows of domain b are pos: what tells the domain tells the class"
    assert said in read(**target, source=write("both.jsonl", rows), domain="shop").warnings
    assert said not in read(**target, source=write("all.jsonl", rows)).warnings


def test_labels_that_do_not_match_are_refused_with_both_lists(target, write):
    other = write("other.jsonl", reviews(6, "other", ("negative", "pos")))
    with pytest.raises(UserError, match=r"labels negative, pos; the target has neg, pos.*set data.source_labels"):
        read(**target, source=other)
    with pytest.raises(UserError, match="'negativ' is no label of the target; did you mean 'neg'"):
        read(**target, source=other, source_labels={"negative": "negativ"})
    with pytest.raises(UserError, match=r"'negativ' is no label of any source; did you mean 'negative'"):
        read(**target, source=other, source_labels={"negative": "neg", "negativ": "neg"})
    with pytest.raises(UserError, match=r"data\.source_labels leaves no row of .*other\.jsonl; map one of its labels"):
        read(**target, source=other, source_labels={"negative": None, "pos": None})
    with pytest.raises(UserError, match=r"'negative:neg' is no label of any source; a pair is written with a space"):
        read(**target, source=other, source_labels={"negative:neg": None})


def test_a_source_may_have_labels_of_its_own(target, write):
    one, two = (
        write("one.jsonl", reviews(6, "one", ("good", "pos"))),
        write("two.jsonl", reviews(6, "two", ("bad", "good"))),
    )
    data = read(**target, source=[one, two], source_labels="own")
    assert data.labels == ("neg", "pos")
    assert data.source_labels == ("good", "pos", "bad")
    assert data.source["label"][:] == [0, 1] * 3 + [2, 0] * 3


def test_a_domain_column_that_a_source_lacks_is_told_as_such(target, write):
    with pytest.raises(UserError, match=r"data.domain: no column 'shop'"):
        read(**target, source=write("other.jsonl", reviews(6, "other")), domain="shop")


def test_labels_for_no_source_are_refused():
    with pytest.raises(ValueError, match="`source_labels` needs `source`"):
        DataSpec(name="x", source_labels={"a": "b"})


@pytest.mark.parametrize(("kind", "said"), [("image", "image"), ("audio", "audio")])
def test_texts_are_no_pictures_and_no_sounds(kind, said, tmp_path):
    folder = (image_folder if kind == "image" else audio_folder)(tmp_path / "few", 4)
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match=f"holds texts, and the task reads {said}s"):
        read(kind, train=str(folder), unlabelled=str(tmp_path / "lines.txt"))


def test_rows_that_nobody_asked_for_are_not_there(target):
    data = read(**target)
    assert data.unlabelled is None
    assert data.source is None
    assert replace(data) == data


def test_of_more_rows_than_are_asked_for_some_are_drawn_by_the_seed():
    rows = Dataset.from_dict({"id": [f"{at:02}" for at in range(30)]})
    drawn = [at_most(rows, 10, seed)["id"][:] for seed in (0, 0, 1)]
    assert len(set(drawn[0])) == 10
    assert drawn[0] == sorted(drawn[0])
    assert drawn[0] == drawn[1] != drawn[2]
    assert at_most(rows, 30, 0) is rows
