"""Every link in the documentation leads somewhere: files, folders and headings of the repository, without the internet.

The build checks the links between pages of the site too; here it is all pages, as readers of the repository see them.
Links to other sites are checked by ``make linkcheck`` alone.
"""

from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, anchors, links, name, own_path, pages_with_links


@pytest.mark.parametrize("page", pages_with_links(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not leads_somewhere(page, link)]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether a link's file is there, with the heading that it names."""
    if own := own_path(link):
        return leads_somewhere(ROOT / "README.md", own)
    if link.split(":")[0] in ("http", "https", "mailto"):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() and page.parent == DOCS:
        target = DOCS / "results" / path  # docs/conf.py's html_extra_path: the site has what is there beside its pages
    return target.exists() and (not anchor or (target.suffix == ".md" and anchor in anchors(target)))


def test_broken_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two, *three*?\n\n[a](#one-two-three) [b](other.md) [c](#two) ![d](x.svg) <https://a.org>\n")
    (tmp_path / "other.md").write_text("(label)=\n# Other\n")
    assert [link for link in links(page) if not leads_somewhere(page, link)] == ["#two", "x.svg"]
    ours = "https://github.com/equilm/equilm/blob/main/"
    assert leads_somewhere(page, f"{ours}CONTRIBUTING.md#style") and not leads_somewhere(
        page, f"{ours}CONTRIBUTING.md#no"
    )
    assert not leads_somewhere(page, "https://raw.githubusercontent.com/equilm/equilm/main/docs/images/no.svg")
    assert leads_somewhere(page, "other.md#label") and not leads_somewhere(page, "other.md#one-two-three")


def test_all_pages_are_there() -> None:
    names = {name(page) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/faq.md", "examples/finetune_lora/README.md"} <= names
