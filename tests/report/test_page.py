"""The page: one well-formed file that loads nothing, says what the content says, and takes user text for text."""

import base64
import copy
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from hf_smalldata import report
from hf_smalldata.report.formats import shown
from hf_smalldata.report.page import thumbnail

VOID = {"meta", "link", "br", "img"}
ORDER = ["setting", "notes", "results", "differences", "gate", "curves", "classes", "confusion", "calibration",
         "conformal", "errors", "label-errors", "cost", "repeat"]  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes in order, and all text; fails where tags are not closed in their order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def attributes(self, tag, name):
        return [attributes.get(name) for each, attributes in self.tags if each == tag]


@pytest.fixture
def page(content_name, rendered):
    return Page(rendered(content_name))


def test_the_page_is_well_formed_and_its_references_meet(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(page.attributes("section", "aria-labelledby")) - {None} <= set(ids)
    links = [link.removeprefix("#") for link in page.attributes("a", "href")]
    assert links == [name for name in page.attributes("section", "id") if name]
    assert {link[1:] for link in page.attributes("use", "href")} <= set(ids)


def test_sections_stand_in_order_and_only_with_content(contents, rendered):
    there = {name: Page(rendered(name)).attributes("section", "id") for name in contents}
    sections = {name: [each for each in found if each] for name, found in there.items()}
    assert all(found == [each for each in ORDER if each in found] for found in sections.values())
    assert sections["one_seed_run"] == ["setting", "results", "differences", "cost", "repeat"]
    assert {"gate", "curves", "notes"} <= set(sections["text_study"])
    assert {"calibration", "conformal", "label-errors"} <= set(sections["image_study"])


def test_the_page_loads_nothing_and_runs_nothing(page):
    assert "script" not in [tag for tag, _ in page.tags]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    addresses = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policies == [
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    ]


def test_every_figure_of_the_results_and_comparisons_is_there(content, page):
    plain = report._plain(content)
    for each in plain["results"]:
        assert all(shown(interval) in page.text for interval in each["metrics"].values())
    for each in plain["comparisons"]:
        assert shown(each["difference"], sign=True) in page.text
        assert (each["needed"] or "") in page.text


def test_intervals_say_what_they_speak_of(content, page):
    assert page.text.count(content["setting"]["interval"]) >= 3  # beside the answer, the plot and the table


def test_plots_and_pictures_have_words_and_tables_have_captions(page):
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert drawings
    assert all(each["role"] == "img" and each["aria-label"] for each in drawings)
    assert all(page.attributes("img", "alt"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == 1


def test_markup_of_users_is_shown_as_text(rendered):
    html = rendered("hostile_study")
    page = Page(html)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert page.text.count("<script>document.title = 'taken'</script>") > 10
    assert "img" not in [tag for tag, _ in page.tags]
    assert "nan" not in page.text


def test_many_classes_show_the_weakest_and_the_most_confused(rendered):
    many, few = Page(rendered("hostile_study")), Page(rendered("text_study"))
    assert "All 77 classes" in many.text
    assert "heat" not in many.attributes("table", "class")
    assert "heat" in few.attributes("table", "class")


def test_rows_are_shown_by_their_text_and_without_one_by_their_id(contents):
    content = contents["text_study"]()
    first, last = content["diagnosis"]["errors"][0]["id"], content["diagnosis"]["errors"][-1]["id"]
    inputs = {first: ("a premise", "a hypothesis")}
    text = Page(report.html(content, inputs)).text
    assert f"a premise a hypothesis row {first}" in text
    assert f"row {last}" in text


def test_a_long_text_is_cut_where_the_reader_sees_it(contents):
    content = contents["text_study"]()
    row = content["diagnosis"]["errors"][0]["id"]
    text = Page(report.html(content, {row: "x" * 5000})).text
    assert "x" * 400 + "…" in text
    assert "x" * 401 not in text


def test_multi_label_rows_name_all_labels_or_none(rendered):
    text = Page(rendered("multi_label_run")).text
    assert "true battery, price 0.100 said no label 0.800" in text


@pytest.mark.parametrize(("mode", "shape", "expected"), [("RGB", (300, 240), (160, 128)), ("L", (8, 4), (160, 80))])
def test_a_thumbnail_is_160_pixels_long(mode, shape, expected):
    head, data = thumbnail(Image.new(mode, shape)).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == expected


def test_a_thumbnail_keeps_nothing_but_its_pixels():
    image = Image.fromarray(np.zeros((50, 50, 3), dtype=np.uint8))
    image.info |= {"exif": b"Exif\x00\x00 where it was taken", "comment": b"where it was taken"}
    assert b"taken" not in base64.b64decode(thumbnail(image).split(",")[1])


def test_the_page_is_the_same_each_time_and_leaves_the_content_alone(contents):
    content = contents["text_study"]()
    before = copy.deepcopy(content)
    assert report.html(content, {}) == report.html(content, {})
    assert content == before


def test_both_files_are_written(contents, tmp_path):
    content = contents["one_seed_run"]()
    page, card = report.write(content, {}, tmp_path / "new" / "folder")
    assert page.read_text(encoding="utf-8") == report.html(content, {})
    assert card.read_text(encoding="utf-8") == report.markdown(content)
    assert sorted(os.listdir(page.parent)) == ["report.html", "report.md"]


def test_a_report_that_cannot_be_finished_leaves_the_old_one(contents, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        report.write(contents["one_seed_run"](), {}, tmp_path)
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_half_an_emoji_is_written_as_a_question_mark(contents, tmp_path):
    content = contents["one_seed_run"]() | {"title": "cut \ud83d here"}
    page, _ = report.write(content, {}, tmp_path)
    assert '<h1 dir="auto">cut ? here</h1>' in page.read_text(encoding="utf-8")


def test_collapsed_trainings_are_counted(contents):
    content = contents["text_study"]()
    content["results"][0]["runs"][0]["collapsed"] = True
    text = Page(report.html(content, {})).text
    assert re.search(
        r"36 trainings, [\dhmins. ]+ in all; at most 1\.21 GB of memory; 1 gave one constant answer\.", text
    )
