"""The index of the paper: every equation, section, table and figure is there, symbols import, and tests exist."""

import ast
import re
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest
from pages import DOCS, ROOT

INDEX = (DOCS / "paper_index.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in INDEX.splitlines() if row[:1] == "|"]

# A public name links to the reference; what is inside the package stands in plain code.
SYMBOL = re.compile(r"`~?(equilm\.[\w.]+)`")

# Equations, sections with something to compute, tables, figures and algorithms that the paper's body has or names.
ITEMS = [
    *(f"Eq. {i}" for i in range(1, 5)),
    *(f"§{section}" for section in ("3.1", "3.2", "3.3", "4", "5.1", "5.2", "5.3", "6.1", "6.2", "6.3")),
    *(f"Table {i}" for i in (1, 2, 6, 7, 8, 9, 10, 11, 12)),
    *(f"Fig. {i}" for i in (1, 2, 3, 5)),
    "Alg. 2",
    *(f"App. {letter}" for letter in "ABCDEFGH"),
]


@cache
def names_in(file: Path) -> frozenset[str]:
    """The names of a file's tests, with their classes, as pytest writes them."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return frozenset(names)


@pytest.mark.parametrize("item", ITEMS)
def test_the_item_has_a_row(item: str) -> None:
    assert [row for row in ROWS if re.search(rf"{re.escape(item)}(?![\d.])", row[0])], item


def test_every_row_names_code_and_a_test() -> None:
    for row in ROWS:
        if row[2] in ("here", "---") or row[3] == "–":  # a heading, and what is not computed
            continue
        assert SYMBOL.search(row[2]) and "`tests/" in row[3], row


def test_rows_without_a_test_are_theorems_or_point_elsewhere() -> None:
    untested = {row[0]: row[2] for row in ROWS if row[3] == "–"}
    assert set(untested) == {"§4 universality", "App. B", "App. G"}
    assert set(untested.values()) == {"nothing to compute", "see there"}


@pytest.mark.parametrize("symbol", sorted(set(SYMBOL.findall(INDEX))))
def test_the_symbol_imports(symbol: str) -> None:
    resolve_name(symbol)


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[^`]+)`", INDEX))))
def test_the_test_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in names_in(ROOT / file)
