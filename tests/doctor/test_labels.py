import pytest

from hf_smalldata.doctor import labels


def test_a_rare_misspelling_beside_a_frequent_name_is_suspected(made):
    rows = [(text, ("positive", "negative")[at % 2]) for at, text in enumerate(made.texts(200))]
    found = labels.label_names(made.sample(train=[*rows, ("one", "postive"), ("two", "postive")]))
    assert found.level == "warn"
    assert "'postive' (2 rows) beside 'positive' (100 rows)" in found.sentence
    assert found.ids == ("train:200", "train:201")


def test_case_and_blanks_are_merged_to_the_frequent_spelling(made):
    names = ["cat"] * 50 + ["Cat", "cat ", "CAT"] + ["dog"] * 50
    data = made.sample(train=list(zip(made.texts(103), names, strict=True)))
    assert labels.renames(data) == {"Cat": "cat", "cat ": "cat", "CAT": "cat"}


@pytest.mark.parametrize("names", [("class1", "class2"), ("cat", "car"), ("level 10", "level 11")])
def test_numbered_and_short_names_are_no_typos(made, names):
    rows = [(text, names[at == 0]) for at, text in enumerate(made.texts(60))]
    assert labels.label_names(made.sample(train=rows)).level == "pass"


def test_a_frequent_neighbour_is_no_typo(made):
    rows = [(text, ("legal", "regal")[at % 2]) for at, text in enumerate(made.texts(60))]
    assert labels.label_names(made.sample(train=rows)).level == "pass"


def test_a_class_of_the_test_rows_alone_is_named(made):
    test = [(text, "c" if at < 3 else "a") for at, text in enumerate(made.texts(60, seed=1))]
    found = labels.classes(made.sample(train=made.rows(40), test=test))
    assert [(each.level, each.ids) for each in found if each.ids] == [("warn", ("test:0", "test:1", "test:2"))]


def test_test_rows_of_other_classes_only_fail(made):
    test = [(text, "c") for text in made.texts(60, seed=1)]
    found = labels.classes(made.sample(train=made.rows(40), test=test))
    assert [each.level for each in found] == ["pass", "fail"]


def test_uneven_and_tiny_classes_are_warned_of(made):
    uneven = [(text, "b" if at < 10 else "a") for at, text in enumerate(made.texts(110))]
    tiny = [(text, "b" if at < 3 else "a") for at, text in enumerate(made.texts(20))]
    said = [labels.classes(made.sample(train=rows))[0] for rows in (uneven, tiny)]
    assert [each.level for each in said] == ["warn", "warn"]
    assert "10 (b) to 100 (a)" in said[0].sentence
    assert "fewer than 4: 'b'" in said[1].sentence
