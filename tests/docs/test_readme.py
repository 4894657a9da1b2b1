"""The README: its badges say what setup.cfg says, and it reads on the package's page as it does in the repository."""

import configparser
import re
from typing import Any

import pytest
from pages import ROOT, blocks, links, own_path, tokens

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def badges() -> dict[str, str]:
    readme = README.read_text("utf-8")
    return dict(re.findall(r"img\.shields\.io/badge/([a-z]+)-(.+)-blue\)", readme))


def test_license(setup: configparser.ConfigParser, badges: dict[str, str]) -> None:
    assert badges["license"].replace("--", "-") == setup["metadata"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_python_versions(setup: configparser.ConfigParser, badges: dict[str, str]) -> None:
    classified = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert badges["python"].split("_|_") == classified
    assert setup["options"]["python_requires"] == f">={classified[0]}"


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_dependencies(setup: configparser.ConfigParser, badges: dict[str, str], package: str) -> None:
    (required,) = re.findall(rf"^{package}(\S+)$", setup["options"]["install_requires"], re.MULTILINE)
    assert badges[package].replace("≥", ">=") == required


def test_it_opens_with_the_installation_a_program_and_a_picture() -> None:
    """In this order, before the first heading after the title; that the program runs is tested with all blocks."""
    install, program, printed, *_ = blocks(README)
    assert (install.language, install.text) == ("bash", "pip install equilm\n")
    assert program.language == "python" and "from_pretrained(name)" in program.text and printed.language == "text"
    parsed = tokens(README)
    headings = [token.map[0] for token in parsed if token.type == "heading_open" and token.map]
    pictures = [token.map[0] for token in parsed if token.map and token.children and _pictures(token)]
    assert any(printed.line < line < headings[1] for line in pictures)


def _pictures(token: Any) -> list[str]:
    """The repository's own pictures in a run of text."""
    sources = [child.attrGet("src") for child in token.children if child.type == "image"]
    return [source for source in sources if own_path(source)]


def test_links_and_pictures_are_absolute() -> None:
    """The package's page has no other files beside it."""
    assert [link for link in links(README) if not link.startswith("https://")] == []
    pictures = [source for token in tokens(README) if token.children for source in _pictures(token)]
    assert len(pictures) >= 3 and all("raw.githubusercontent.com" in source for source in pictures)


def test_it_is_markdown_that_the_package_page_shows(setup: configparser.ConfigParser) -> None:
    """PyPI renders CommonMark with tables, and drops most of HTML."""
    assert setup["metadata"]["long_description"] == "file: README.md"
    assert setup["metadata"]["long_description_content_type"] == "text/markdown"
    assert [token.content for token in tokens(README) if token.type == "html_block"] == []
    inline = [child for token in tokens(README) for child in token.children or ()]
    assert [child.content for child in inline if child.type == "html_inline"] == []
    # A reference that is defined nowhere stays in the text, brackets and all.
    assert [child.content for child in inline if child.type == "text" and re.search(r"\]\[|\]\(", child.content)] == []


def test_the_urls_are_those_of_the_repository(setup: configparser.ConfigParser) -> None:
    metadata = setup["metadata"]
    urls = dict(re.findall(r"^(\w+) = (\S+)$", metadata["project_urls"], re.MULTILINE))
    assert set(urls) == {"Documentation", "Source", "Issues", "Changelog"}
    assert all(url.startswith(metadata["url"]) for url in urls.values())
    for name in ("Documentation", "Changelog"):
        path = own_path(urls[name])
        assert path is not None and (ROOT / path).is_file()
