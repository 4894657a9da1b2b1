"""The layout of the package: what a saved model carries stays flat, all else has a folder, and every name says which.

transformers copies the files that a class imports relatively, and knows no folders
(`get_relative_import_files`, `custom_object_save`): that decides what stands at the top level.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

import equilm

PACKAGE = Path(equilm.__file__).parent
# Not the file that a `custom_generate` repository is made of: it is data, and transformers says what it is called.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.with_name("__init__.py").is_file())
FLAT = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
MODELS = sorted(PACKAGE.glob("modeling_equilm*.py"))
LIBRARIES = {"torch", "transformers", "tokenizers", "huggingface_hub"}


def carried() -> dict[str, Path]:
    """The modules that the folder of some saved model holds, by name."""
    roots = [*MODELS, *PACKAGE.glob("configuration_equilm*.py")]
    files = {Path(file) for root in roots for file in get_relative_import_files(root)} | set(roots)
    return {file.stem: file for file in files}


def name(path: Path) -> str:
    """The path from the package, as tests are called."""
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[tuple[ast.ImportFrom | ast.Import, str]]:
    """Every import, at the top or inside a function, with the module it names; relative ones begin with their dots."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)


def guarded(path: Path) -> set[int]:
    """The lines of imports that may fail: an `ImportError` is caught."""
    tries = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Try)]
    expected = [node for node in tries if any(ast.unparse(h.type) == "ImportError" for h in node.handlers if h.type)]
    return {inner.lineno for node in expected for inner in node.body}


def test_the_models_are_found() -> None:
    saved = {equilm.EquiLMForCausalLM, equilm.EquiLMForSeq2SeqLM, equilm.EquiLMConfig, equilm.EquiLMSeq2SeqConfig}
    assert {cls.__module__.removeprefix("equilm.") for cls in saved} <= set(carried())
    assert {"groups", "actions", "symmetrize", "errors", "_modeling_base"} <= set(carried())


def test_what_a_saved_model_carries_is_flat() -> None:
    assert {module: file.parent for module, file in carried().items() if file.parent != PACKAGE} == {}


@pytest.mark.parametrize("module", sorted(carried()))
def test_what_a_saved_model_carries_imports_siblings_and_what_every_reader_has(module: str) -> None:
    """Wherever the import stands: where equilm cannot be imported, a function fails as well, unless it expects that."""
    allowed = set(sys.stdlib_module_names) | LIBRARIES
    expected = guarded(PACKAGE / f"{module}.py")
    for node, imported in imports(PACKAGE / f"{module}.py"):
        if node.lineno in expected:
            continue
        if imported.startswith("."):
            siblings = [imported[1:]] if imported != "." else [alias.name for alias in node.names]
            assert imported[:2] != ".." and set(siblings) <= set(carried()), f"line {node.lineno}: {imported}"
        else:
            assert imported.split(".")[0] in allowed, f"line {node.lineno}: {imported}"


def test_flat_modules_with_an_underscore_are_those_that_are_carried_and_that_no_user_imports() -> None:
    """A user imports those that declare names, and the models and their configurations."""
    for_users = {module for module in FLAT if declares_names(PACKAGE / f"{module}.py")}
    for_users |= {module for module in FLAT if module.startswith(("modeling_equilm", "configuration_equilm"))}
    assert {module for module in FLAT if not module.startswith("_")} == for_users
    assert {module for module in FLAT if module.startswith("_")} <= set(carried())


def declares_names(path: Path) -> bool:
    """Whether a module has an ``__all__``."""
    assigned = [
        node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    targets = [
        target for node in assigned for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def test_only_public_modules_and_subpackages_declare_names() -> None:
    places = {name(path) for path in MODULES if declares_names(path)}
    subpackages = {f"{path.parent.name}/__init__.py" for path in PACKAGE.glob("*/__init__.py")}
    assert places == {"__init__.py"} | subpackages | {
        f"{module}.py"
        for module in (
            "actions",
            "auto",
            "errors",
            "groups",
            "loading",
            "logging",
            "logits_process",
            "sampling",
            "symmetrize",
            "testing",
        )
    }


def test_the_top_level_is_short() -> None:
    files = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    later = len(MODELS) - 2  # each kind of model after the first two may add its modeling and two modules of its own
    assert len(files) <= 24 + 3 * later, sorted(files)


def test_no_module_has_the_name_of_another() -> None:
    counts = Counter(path.stem.strip("_") for path in MODULES if path.stem != "__init__")
    counts.update(path.parent.name for path in MODULES if path.stem == "__init__" and path.parent != PACKAGE)
    # A command's module has the command's name, and `equilm serve` is named after what it starts.
    assert [module for module, count in counts.items() if count > 1] == ["serve"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_and_says_what_lives_there(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(source))


def test_contributing_has_a_row_for_every_flat_module_and_folder() -> None:
    """Its map, whose first column names modules in backticks, folders with a slash."""
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8")
    table = page.partition("| module |")[2].partition("\n\n")[0]
    named = [module for row in table.splitlines()[2:] for module in re.findall(r"`([^`]+)`", row.split("|")[1])]
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(named) == sorted(FLAT | folders)


def test_the_checks_see_what_is_wrong(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("from ..a import b\ndef f():\n    import numpy.linalg\n__all__ = ['f']\n")
    assert [imported for _, imported in imports(module)] == ["..a", "numpy.linalg"]
    assert declares_names(module) and not declares_names(PACKAGE / "_orbit_rows.py")
    module.write_text("try:\n    import equilm.words\nexcept ImportError as error:\n    raise\nimport equilm.text\n")
    assert guarded(module) == {2}
