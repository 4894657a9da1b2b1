"""The page in a browser: the verdict is read on a desktop, a phone and paper, and no text is too small."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from study_models import STUDY, run

from equilm.study.verdict import headline

pytest.importorskip("playwright", reason="the browser is driven by playwright")

from browser import CHROMIUM, chromium
from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "regard_study" / "index.html"

SMALLEST = """() => Math.min(...[...document.querySelectorAll("body *")]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(element => {
        const svg = element.closest("svg[viewBox]");
        const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
        return scale * parseFloat(getComputedStyle(element).fontSize);
    }))"""
OPEN = "() => document.querySelectorAll('details').forEach(element => { element.open = true })"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("study")
    return folder / "index.html", headline(run(folder))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
@pytest.mark.parametrize("page_is", ["new", "published"])
def test_the_verdict_is_read(browser: Page, written: tuple[Path, str], width: int, height: int, page_is: str) -> None:
    asked: list[str] = []
    browser.on("request", lambda request: asked.append(request.url))
    browser.set_viewport_size({"width": width, "height": height})
    path = written[0] if page_is == "new" else PUBLISHED
    browser.goto(path.as_uri())
    if page_is == "new":
        assert browser.locator("#verdict .headline").inner_text() == written[1]
        assert browser.locator("#verdict .verdict tbody tr").count() == len(STUDY.decoders)
    words = set(browser.locator("#verdict .verdict td").all_inner_texts())
    assert words == {"✓ passes", "✗ fails"}, "each is told by a sign and a word, not by a color alone"
    box = browser.locator("#verdict .verdict").bounding_box()
    assert box is not None and box["y"] + box["height"] < height, "on the first screen"
    for heading in ("What changed", "What it costs", "What is not covered"):
        place = browser.get_by_role("heading", name=heading).bounding_box()
        assert place is not None and place["y"] < height
    assert browser.locator("#chart circle").count() and browser.locator("#chart rect").count()

    browser.evaluate(OPEN)
    assert browser.evaluate("() => document.documentElement.scrollWidth") <= width, "no horizontal scrolling"
    assert browser.evaluate(SMALLEST) >= 10
    assert set(asked) == {path.as_uri()}, "nothing else is loaded"


def test_on_paper_the_tables_are_printed_and_the_page_is_light(browser: Page, written: tuple[Path, str]) -> None:
    browser.goto(written[0].as_uri())
    table = browser.get_by_text("Time to sample")
    assert not table.is_visible()
    browser.emulate_media(media="print", color_scheme="dark")
    assert table.is_visible() and browser.locator("#verdict .headline").is_visible()
    assert not browser.locator("details.samples table").first.is_visible()
    assert browser.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"
    browser.emulate_media(media="screen", color_scheme="dark")
    assert browser.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 28)"
    browser.emulate_media(media="screen", color_scheme="light")


def test_details_are_folded_at_first(browser: Page, written: tuple[Path, str]) -> None:
    browser.goto(written[0].as_uri())
    for text in ("Time to sample", "Content note", "which equation 4 says is 0"):
        assert not browser.get_by_text(text).first.is_visible()
        browser.evaluate(OPEN)
        assert browser.get_by_text(text).first.is_visible()
        browser.reload()
