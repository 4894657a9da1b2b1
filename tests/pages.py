"""The pages of the documentation and what stands in them: blocks of code, commands and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from markdown_it.token import Token

markdown_it = pytest.importorskip("markdown_it", reason="needs equilm[docs]")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# What a reader on GitHub or of the built site can follow; the cards in evaluation/ have tests of their own.
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        ROOT / "CODE_OF_CONDUCT.md",
        *(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
        *(ROOT / "examples").rglob("README.md"),
    ]
)

_MARKDOWN = markdown_it.MarkdownIt("commonmark").enable("table")


def name(page: Path) -> str:
    """The page's path from the root of the repository, as tests are called and messages say."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        language: the word after the fence; empty without one, and for indented blocks.
        text: what stands in it.
        line: the number of its first line in the page.
    """

    language: str
    text: str
    line: int


def tokens(page: Path) -> "list[Token]":
    """The page's blocks and, for each run of text, an ``inline`` token with children."""
    return _MARKDOWN.parse(page.read_text("utf-8"))


def blocks(page: Path) -> list[Block]:
    """All blocks of code, fenced and indented."""
    found = [token for token in tokens(page) if token.type in ("fence", "code_block")]
    return [Block(token.info.strip(), token.content, (token.map or [0])[0] + 1) for token in found]


def inline_code(page: Path) -> list[str]:
    """What stands in backticks in running text."""
    children = (child for token in tokens(page) for child in token.children or ())
    return [child.content for child in children if child.type == "code_inline"]


def own_path(link: str) -> str | None:
    """The path in the repository, with its heading, of an absolute link to it; None for links to anything else."""
    found = re.match(
        r"https://(?:github\.com|raw\.githubusercontent\.com)/equilm/equilm/(?:blob/|tree/)?main/(.+)", link
    )
    return found and found[1]


def links(page: Path) -> list[str]:
    """The targets of all links and images."""
    children = (child for token in tokens(page) for child in token.children or ())
    targets = (child.attrGet("href") or child.attrGet("src") for child in children)
    html = re.findall(r'(?:src|href)="([^"]+)"', page.read_text("utf-8"))
    return [str(target) for target in targets if target] + html


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    parsed = tokens(page)
    titles = [parsed[i + 1].content for i, token in enumerate(parsed) if token.type == "heading_open"]
    labels = re.findall(r"^\(([\w-]+)\)=$", page.read_text("utf-8"), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]
    return {*slugs, *labels}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every shell command in the page's blocks, without prompt, comment and environment variables."""
    for block in blocks(page):
        if block.language not in ("", "bash", "console"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language == "console" and not line.startswith("$ "):
                continue  # what the command printed
            if re.match(r"(\$ )?\S*(equilm|make|python[0-9.]*|pip|accelerate) ", line):
                yield shlex.split(line.removeprefix("$ "), comments=True)


def pages_with_links() -> list[Path]:
    """The pages that link to anything."""
    return [page for page in PAGES if links(page)]
