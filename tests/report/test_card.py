"""The markdown of a report: tables that GitHub reads as such, and nothing that users bring in becomes markup."""

import re

from hf_smalldata import report
from hf_smalldata.report.card import escape
from hf_smalldata.report.formats import shown


def cells(line):
    return re.split(r"(?<!\\)\|", line)


def test_every_table_has_as_many_cells_in_each_line(content):
    tables = re.findall(r"(?:^\|.*\n)+", report.markdown(content), flags=re.M)
    assert tables
    for table in tables:
        header, *lines = table.splitlines()
        assert all(len(cells(line)) == len(cells(header)) for line in lines)


def test_every_result_and_difference_is_there_as_the_terminal_shows_it(content):
    text = report.markdown(content).replace("\\", "")
    plain = report._plain(content)
    for each in plain["results"]:
        assert all(shown(interval) in text for interval in each["metrics"].values())
    for each in plain["comparisons"]:
        assert shown(each["difference"], sign=True) in text


def test_sections_without_content_are_left_out(contents):
    headings = {name: re.findall(r"^## (.*)", report.markdown(make()), re.M) for name, make in contents.items()}
    assert headings["one_seed_run"] == ["Findings", "Setting", "Results", "Paired differences"]
    assert headings["image_study"] == ["Findings", "Setting", "Results", "Paired differences", "Calibration"]
    assert headings["text_study"][2] == "Notes"


def test_markup_of_users_is_escaped(contents):
    text = report.markdown(contents["hostile_study"]())
    assert r"\<script\>" in text
    assert not re.search(r"(?<!\\)[<`]", text)
    assert "nan" not in text


def test_pipes_and_line_breaks_do_not_end_a_cell():
    assert escape("a|b\nc") == r"a\|b c"
    assert escape("see [x](y) *z* _u_ $v$") == r"see [x\](y) \*z\* \_u\_ \$v\$"
    assert escape("[ ] [x]: y") == r"\[ ] [x\]: y"


def test_intervals_stay_as_they_are():
    assert escape("+0.036 [+0.009, +0.062]") == "+0.036 [+0.009, +0.062]"


def test_there_are_no_images_and_no_heading_of_the_first_level(content):
    text = report.markdown(content)
    assert "![" not in text
    assert not re.search(r"^# ", text, re.M)
