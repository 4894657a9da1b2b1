"""The documentation on a phone: a page as wide as its screen, in which wide tables and pictures fit or scroll."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, PAGES, tokens

pytest.importorskip("playwright", reason="the browser is driven by playwright")
pytest.importorskip("furo", reason="needs equilm[docs]")

from browser import CHROMIUM, chromium
from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")]

WIDTH = 390
SETTINGS = """
extensions = ["myst_parser"]
html_theme, html_static_path, html_css_files = "furo", [{static!r}], ["tables.css"]
"""


def tables() -> Iterator[str]:
    """All tables of the documentation, as they are written."""
    for page in PAGES:
        lines = page.read_text("utf-8").splitlines()
        for token in tokens(page):
            if token.type == "table_open" and token.map:
                yield "\n".join(lines[slice(*token.map)])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in the documentation's style with all of its tables, a long line of code and its widest picture."""
    source = tmp_path_factory.mktemp("site")
    (source / "conf.py").write_text(SETTINGS.format(static=str(DOCS / "_static")), "utf-8")
    parts = ["# Tables", "![Wide](equivariance.svg)", "```\n" + "x" * 300 + "\n```", *tables()]
    (source / "equivariance.svg").write_bytes((DOCS / "images" / "equivariance.svg").read_bytes())
    (source / "index.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(source / "html")]
    subprocess.run(command, check=True, capture_output=True)
    return source / "html" / "index.html"


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile"), WIDTH, 844) as opened:
        opened.goto(site.as_uri())
        yield opened


def test_the_page_is_as_wide_as_the_screen(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH
    assert page.evaluate("document.querySelector('img[alt=Wide]').getBoundingClientRect().right") <= WIDTH


def test_wide_tables_scroll_in_their_box(page: Page) -> None:
    boxes = page.evaluate(
        "[...document.querySelectorAll('table')].map(table => {"
        " const box = table.parentElement, style = getComputedStyle(box);"
        " return {right: box.getBoundingClientRect().right, inner: box.scrollWidth, outer: box.clientWidth,"
        " overflow: style.overflowX} })"
    )
    assert len(boxes) > 30
    assert all(box["right"] <= WIDTH and box["overflow"] == "auto" for box in boxes)
    assert any(box["inner"] > box["outer"] for box in boxes)


def test_long_cells_are_not_squeezed(page: Page) -> None:
    widths = page.evaluate(
        "[...document.querySelectorAll('td')].filter(cell => cell.innerText.length > 20)"
        ".map(cell => cell.getBoundingClientRect().width)"
    )
    assert min(widths) >= 100


def test_texts_of_tables_can_be_read(page: Page) -> None:
    sizes = page.evaluate(
        "[...document.querySelectorAll('td, th')].map(cell => parseFloat(getComputedStyle(cell).fontSize))"
    )
    assert min(sizes) >= 12
