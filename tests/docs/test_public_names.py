"""The declared API: every public name has a place in the reference, no private one has, and examples need no others."""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, PAGES, ROOT, blocks
from pages import name as page_name

import equilm

REFERENCE = sorted((DOCS / "reference").glob("*.rst"))
# Scripts that build or drive a part of the package, and so know what is inside it.
INSIDERS = {
    "examples/bias_benchmarks/bias_records.py",
    "examples/bias_benchmarks/bias_scoring.py",
    "examples/pronouns/accuracy.py",
    "examples/regard_classifier/overlap.py",
    "examples/regard_classifier/train.py",
    "examples/regard_study/run.py",
    "examples/scan/run.py",
}


@pytest.fixture(scope="module")
def names() -> Any:
    """The module that the build of the documentation uses."""
    spec = importlib.util.spec_from_file_location("public_names", DOCS / "public_names.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def public(names: Any) -> dict[str, Any]:
    found: dict[str, Any] = names.public_names()
    return found


def test_every_public_name_has_one_place(names: Any, public: dict[str, Any]) -> None:
    placed = names.placed_names(REFERENCE)
    assert names.missing_names(public, placed) == []
    assert sorted({name for name in placed if placed.count(name) > 1}) == []


def test_no_private_name_is_in_the_reference(names: Any, public: dict[str, Any]) -> None:
    assert names.private_names(public, names.placed_names(REFERENCE)) == []


def test_every_public_class_and_function_says_what_it_does(names: Any, public: dict[str, Any]) -> None:
    silent = []
    for name, value in public.items():
        if inspect.isclass(value):
            silent += [f"{name}.{method}" for method in names.own_methods(value) if not getattr(value, method).__doc__]
        if (inspect.isclass(value) or inspect.isfunction(value)) and not value.__doc__:
            silent.append(name)
    assert silent == []


def test_names_are_sorted_and_exist(names: Any) -> None:
    for module in names.public_modules():
        assert len(set(module.__all__)) == len(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_contract() -> None:
    """What programs rely on from the first release on."""
    assert set(equilm.__all__) >= {
        *("Action", "DemographicAxis", "VocabularyAction", "equi_tune", "load_metric", "TextSymmetrizer"),
        *("EquiLMConfig", "EquiLMForCausalLM", "EquiLMForSeq2SeqLM", "EquiLogitsProcessor"),
        *("AutoEquiLM", "EquiLMForMaskedLM", "EquiLMForSequenceClassification"),
        *("EquiLMError", "EquiLMWarning", "symmetrized_generate", "symmetrized_log_prob"),
    }
    assert not {"Group", "CyclicGroup", "DihedralGroup", "ProductGroup"} & set(vars(equilm))


def test_what_is_missing_or_private_is_seen(names: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(
        ".. automodule:: equilm.errors\n   :members:\n\n.. automodule:: equilm.text\n\n"
        ".. autofunction:: equilm.loading.transformers_model\n\n.. py:data:: equilm.testing.TOLERANCE\n"
    )
    placed = names.placed_names([page])
    assert placed == [
        *("equilm.errors.EquiLMError", "equilm.errors.EquiLMWarning"),
        *("equilm.loading.transformers_model", "equilm.testing.TOLERANCE"),
    ]
    public = names.public_names()
    assert names.private_names(public, placed) == ["equilm.loading.transformers_model"]
    missing = names.missing_names(public, placed)
    assert "equilm.text.TextAction" in missing
    assert "equilm.EquiLMError" not in missing  # it is documented where it is public too


def imported(source: str) -> Iterator[str]:
    """The full names that a program imports from the package, and the attributes of modules that it looks up."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "equilm":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("equilm."))


SCRIPTS = [path for folder in ("examples", "evaluation") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=page_name)
def test_examples_and_metrics_import_public_names_only(path: Path, public: dict[str, Any]) -> None:
    private = [name for name in imported(path.read_text("utf-8")) if name not in public]
    assert bool(private) == (page_name(path) in INSIDERS), private


CARDS = sorted((ROOT / "evaluation").glob("*/README.md"))


@pytest.mark.parametrize("page", [page for page in [*PAGES, *CARDS] if blocks(page)], ids=page_name)
def test_pages_import_public_names_only(page: Path, public: dict[str, Any]) -> None:
    code = [block.text for block in blocks(page) if block.language == "python"]
    assert [name for text in code for name in imported(text) if name not in public] == []


def test_names_on_pages_lead_to_the_reference(public: dict[str, Any]) -> None:
    """Roles such as ``{py:func}`` name what is public, or a method of it."""
    role = re.compile(r"\{py:\w+\}`(?:[^`<]*<|~)?(equilm[\w.]+)>?`")
    named = [(page_name(page), name) for page in PAGES for name in role.findall(page.read_text("utf-8"))]
    assert [(page, name) for page, name in named if not {name, name.rpartition(".")[0]} & set(public)] == []
    assert len(named) > 50


def test_private_imports_are_seen() -> None:
    source = "import equilm\nimport equilm.text.action\nfrom equilm._orbit_rows import Rows, distinct_rows\n"
    names = ["equilm.text.action", "equilm._orbit_rows.Rows", "equilm._orbit_rows.distinct_rows"]
    assert list(imported(source)) == names
