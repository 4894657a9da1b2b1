"""The package's imports make no circle, and nothing in it depends on the rest of the repository."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import equilm

PACKAGE = Path(equilm.__file__).parent
Graph = dict[str, set[str]]


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, name: str) -> Iterator[str]:
    """What a module imports anywhere, within functions and under ``TYPE_CHECKING`` too, by absolute names."""
    parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{origin}.{alias.name}"  # a module of that package, or a name in that module
                yield origin


def import_graph(package: Path) -> Graph:
    """For each module the package's own modules that it imports."""
    names = {module_name(path, package): path for path in package.rglob("*.py")}
    graph: Graph = {}
    for name, path in names.items():
        found = set(imported(path, name)) & names.keys()
        # "from . import module" needs the module only: that its package is imported before is no circle.
        graph[name] = {other for other in found if not name.startswith(f"{other}.")} - {name}
    return graph


def test_the_package_has_no_import_circle() -> None:
    graph = import_graph(PACKAGE)
    assert len(graph) > 80 and "equilm.groups" in graph["equilm.actions"]
    list(TopologicalSorter(graph).static_order())  # a CycleError names the circle


@pytest.mark.parametrize(
    "line", ["from .a import A", "from . import a", "def f():\n    from .a import A", "import pack.a"]
)
def test_a_circle_would_be_found(line: str, tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from .a import A\n")
    (package / "a.py").write_text("from .b import B\nA = 1\n")
    (package / "b.py").write_text(f"{line}\nB = 2\n")
    with pytest.raises(CycleError):
        list(TopologicalSorter(import_graph(package)).static_order())


def test_the_package_names_no_example() -> None:
    texts = (path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".md", ".json", ".jinja"))
    assert [str(path) for path in texts if "examples/" in path.read_text("utf-8")] == []
