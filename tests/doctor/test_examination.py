import pytest

from hf_smalldata.doctor import Lengths, sample
from hf_smalldata.doctor.examination import ORDER
from hf_smalldata.doctor.lengths import lengths


def test_sound_rows_pass_every_check(made):
    found = made.report(train=made.rows(100), test=made.rows(60, seed=1))
    assert [finding.sentence for finding in found.of("warn", "fail")] == []
    assert found.level == "pass"


def test_findings_come_in_a_fixed_order_one_a_check_at_least(made):
    names = [finding.name for finding in made.report(train=made.rows(40), test=made.rows(60, seed=1)).findings]
    assert names == sorted(names, key=ORDER.index)
    assert {"rows", "classes", "leaks", "conflicts", "duplicates", "near leaks", "lengths", "languages"} <= set(names)


def test_the_report_is_as_grave_as_its_gravest_finding(made):
    twice = made.rows(40)
    found = made.report(train=twice, test=[*made.rows(60, seed=1), twice[0]])
    assert found.level == "fail"
    assert found.as_dict()["level"] == "fail"


def test_what_a_model_cuts_off_is_counted(made):
    data = made.sample(train=made.rows(20))
    model = Lengths("tokens", lambda rows: [600 if at < 5 else 10 for at in range(len(rows))], most=512)
    found = lengths(data, model)
    assert found.level == "warn"
    assert "5 of 20 above the model's 512" in found.sentence
    assert found.advice.startswith("raise model.max_length if the model takes more")
    assert len(found.ids) == 5


def test_what_is_read_as_windows_is_not_cut_off(made):
    model = Lengths("tokens", lambda rows: [600] * len(rows), most=512, windows=True)
    assert lengths(made.sample(train=made.rows(20)), model).level == "pass"


def test_beyond_the_cap_contents_are_sampled_and_leaks_are_not(made, monkeypatch):
    monkeypatch.setattr(sample, "MOST_ROWS", 20)
    monkeypatch.setattr("hf_smalldata.doctor.examination.MOST_ROWS", 20)
    rows = made.rows(200)
    found = made.report(train=rows, test=[*made.rows(60, seed=1), *rows[:7]])
    assert len(made.named(found, "leaks").ids) == 7
    assert any("20 rows of train, test, drawn at random" in finding.sentence for finding in found.findings)


def test_regression_has_values_and_no_classes(made):
    rows = [(text, f"{at}.5") for at, text in enumerate(made.texts(60))]
    found = made.report(train=rows)
    assert made.named(found, "classes").sentence == "values from 0.5 to 59.5"


@pytest.mark.parametrize("name", ["conflicts", "label names"])
def test_regression_has_no_names_to_confuse(made, name):
    rows = [(text, f"{at}.5") for at, text in enumerate(made.texts(60))]
    assert made.named(made.report(train=rows), name).sentence == "labels are numbers"
