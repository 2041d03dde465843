"""The page in a real browser: nothing is loaded, nothing runs, phones can read it, both schemes have contrast."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
LEAST_CONTRAST = """() => {
  const channels = colour => {
    const numbers = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith('color(srgb') ? numbers : [...numbers.slice(0, 3).map(n => n / 255), ...numbers.slice(3)];
  };
  const luminance = colour => {
    const [r, g, b] = channels(colour).map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  const shown = [...document.body.querySelectorAll('*')].filter(element => element.checkVisibility() &&
    [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return Math.min(...shown.map(element => {
    const style = getComputedStyle(element), drawn = element.namespaceURI.endsWith('svg');
    const [low, high] = [luminance(drawn ? style.fill : style.color), luminance(paper(element))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""


def chromium():
    named = os.environ.get("HF_SMALLDATA_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("HF_SMALLDATA_REQUIRE_CHROMIUM") == "1":
        pytest.fail(
            "HF_SMALLDATA_REQUIRE_CHROMIUM is 1 and there is no Chromium; install it or set HF_SMALLDATA_CHROMIUM"
        )
    if found is None:
        pytest.skip("no Chromium on this machine; install it, or name one in HF_SMALLDATA_CHROMIUM")
    return found


@pytest.fixture(scope="module")
def browser():
    program = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def visit(browser, rendered, tmp_path):
    """Opens the page of a content; collects all that it should not do, and fails on it at the end."""
    done, pages = [], []

    def opened(name, width=1200, scheme="light"):
        file = tmp_path / f"{name}.html"
        file.write_text(rendered(name), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.on("console", lambda message: done.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: done.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (done.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: done.append(request.url) if not _own(request.url, file) else None)
        page.goto(file.as_uri())
        return page

    yield opened
    for page in pages:
        page.close()
    assert done == []


def _own(address, file):
    return address.startswith("data:") or address == file.as_uri()


@pytest.mark.parametrize("name", ["text_study", "image_study", "hostile_study"])
def test_on_a_phone_the_page_does_not_scroll_sideways(visit, name):
    page = visit(name, width=390)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.locator(".narrow svg").first.is_visible()
    assert not page.locator(".wide svg").first.is_visible()


@pytest.mark.parametrize("name", ["text_study", "image_study", "hostile_study"])
def test_every_heading_and_every_plot_is_seen(visit, name):
    page = visit(name)
    headings = page.locator("h1, h2").all()
    assert len(headings) >= 9
    assert all(heading.is_visible() for heading in headings)
    plots = page.locator("figure .wide svg").all()
    assert plots
    assert all(plot.bounding_box()["height"] > 60 for plot in plots)


def test_markup_of_users_is_shown_and_never_run(visit):
    page = visit("hostile_study")
    assert page.title().startswith("<script>document.title")
    assert page.locator("h1").inner_text().startswith("<script>document.title = 'taken'</script><img")
    assert page.evaluate("document.querySelectorAll('script, img').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["text_study", "image_study"])
def test_all_text_can_be_read(visit, name, scheme):
    assert visit(name, scheme=scheme).evaluate(LEAST_CONTRAST) >= 4.5


def test_dark_paper_has_light_ink_in_text_and_plots(visit):
    colours = []
    for scheme in ("light", "dark"):
        page = visit("text_study", scheme=scheme)
        colours.append(
            page.evaluate("""() => {
              const style = selector => getComputedStyle(document.querySelector(selector));
              const mark = document.querySelector('#results .wide use[style*="--accent"]');
              return [style('html').backgroundColor, style('p.lead').color, style('.wide text').fill,
                      getComputedStyle(mark).fill];
            }""")
        )
    assert all(light != dark for light, dark in zip(*colours, strict=True))


def test_print_is_light_and_shows_what_is_folded(visit):
    page = visit("text_study", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#repeat details pre").first.bounding_box()["height"] > 10
    assert not page.locator("nav").is_visible()


def test_a_plot_keeps_its_size_beside_the_text(visit):
    """One CSS pixel a point: text in a plot is as large as the text around it."""
    page = visit("text_study", width=1200)
    drawn = page.locator("#results .wide svg").first
    assert drawn.bounding_box()["width"] == pytest.approx(float(drawn.get_attribute("width")), rel=0.01)
