"""Plots: the same bytes each time, colours of the page, text as text, scales that show what matters."""

import itertools
import re
from functools import partial
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from hf_smalldata import report
from hf_smalldata.report.colours import DARK, LIGHT, SERIES
from hf_smalldata.report.plots import PLOTS
from hf_smalldata.report.svg import inline
from hf_smalldata.report.whiskers import scale, shorten

NOWHERE = (float("-inf"), float("inf"))


def drawn(content, name, wide=True):
    return inline(partial(PLOTS[name], content, wide), f"{name}-plot", "what is seen")


def luminance(colour):
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("name", "wide"), list(itertools.product(PLOTS, (True, False))))
def test_a_plot_takes_fonts_and_colours_from_the_page(contents, name, wide):
    svg = drawn(contents["text_study"](), name, wide)
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.attrib["aria-label"] == "what is seen"
    assert root.findall(".//text")
    assert not root.findall(".//style")
    assert not root.findall(".//metadata")
    assert not root.findall(".//image")
    assert not re.search(r"#[0-9a-f]{6}|font-family|http", svg)
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", svg)) <= set(LIGHT)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_the_same_each_time_whatever_the_user_has_set(contents, name):
    content = contents["text_study"]()
    before = drawn(content, name)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert drawn(content, name) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_references_of_a_plot_stay_within_it(contents):
    svg = drawn(contents["text_study"](), "curves")
    named = set(re.findall(r' id="([^"]+)"', svg))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    assert used
    assert {first or second for first, second in used} <= named
    assert all(name.startswith("curves-plot-") for name in named)


def test_names_are_text_and_never_formulas(contents):
    content = contents["one_seed_run"]()
    content["results"][0]["variant"] = "$x_1$ <b> \x0b שלום 猫 👩‍👩‍👧"
    texts = [text.text for text in ElementTree.fromstring(drawn(content, "results")).iter("text")]
    assert "$x_1$ <b> שלום 猫 👩‍👩‍👧" in texts


def test_verdicts_stand_in_words_beside_their_marks(contents):
    texts = [text.text for text in ElementTree.fromstring(drawn(contents["text_study"](), "comparisons")).iter("text")]
    assert {"helped", "hurt", "not resolved", "better"} <= set(texts)


def test_a_far_baseline_is_told_as_a_figure_and_does_not_squash_the_others(contents):
    content = contents["text_study"]()
    far = [each for each in content["results"] if each["variant"] == "majority class"]
    texts = [text.text for text in ElementTree.fromstring(drawn(content, "results")).iter("text")]
    assert {f"{each['metrics']['accuracy']['value']:.3f}" for each in far} <= set(texts)
    ticks = [float(text) for text in texts if re.fullmatch(r"0\.\d\d?", text or "")]
    assert min(ticks) > 0.5


def test_the_scale_shows_all_whiskers_of_usual_length():
    intervals = [{"value": v, "low": v - 0.02, "high": v + 0.03} for v in (0.7, 0.8, 0.9)]
    low, high = scale(intervals, NOWHERE)
    assert low < 0.68
    assert high > 0.93


def test_the_scale_cuts_a_whisker_that_would_hide_the_rest():
    usual = [{"value": v, "low": v - 0.02, "high": v + 0.02} for v in (0.7, 0.72, 0.74)]
    low, high = scale([*usual, {"value": 0.7, "low": -5.0, "high": 6.0}], NOWHERE)
    assert 0.5 < low < 0.68
    assert 0.76 < high < 0.9


def test_the_scale_ends_where_the_metric_does():
    low, high = scale([{"value": 0.98, "low": 0.7, "high": 1.3}, {"value": 0.9, "low": 0.6, "high": 1.2}], (0.0, 1.0))
    assert low < 0.6
    assert 1.0 < high < 1.1


def test_the_scale_of_one_value_without_an_interval_has_a_width():
    low, high = scale([{"value": 0.8, "low": None, "high": None}], NOWHERE)
    assert low < 0.8 < high


def test_long_names_are_shortened_by_the_room_they_take():
    assert shorten("short", 200) == "short"
    assert shorten("a" * 300, 70) == "a" * 9 + "…"
    assert shorten("猫" * 300, 70) == "猫" * 4 + "…"


def test_the_forecast_is_dashed_and_the_measured_part_is_not(contents):
    content = contents["text_study"]()
    content["curves"] = content["curves"][:1]
    whole = drawn(content, "curves")
    content["curves"][0]["band"] = [each for each in content["curves"][0]["band"] if each["train_rows"] <= 320]
    assert whole.count("stroke-dasharray") == drawn(content, "curves").count("stroke-dasharray") + 1


def test_every_colour_can_be_read_on_its_paper():
    for palette in (LIGHT, DARK):
        for role in {*SERIES, "ink", "muted", "accent", "good", "bad"}:
            for paper in ("paper", "raised"):
                light, dark = sorted((luminance(palette[role]), luminance(palette[paper])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (role, paper)


def test_roles_are_the_same_in_both_schemes_and_told_apart_by_their_colour():
    assert set(LIGHT) == set(DARK)
    assert len(set(LIGHT.values())) == len(LIGHT)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_can_be_written_as_a_png(contents, name, tmp_path):
    report.figure_png(contents["text_study"](), name, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width >= 680
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_an_unknown_plot_is_refused(contents, tmp_path):
    with pytest.raises(KeyError, match="pie"):
        report.figure_png(contents["text_study"](), "pie", tmp_path / "plot.png")
