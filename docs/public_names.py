"""The declared API: what stands in an ``__all__``, and its place in the reference.

A Sphinx extension too: the build warns, which fails it, of a public name without a place and of a private one in it.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_METHODS = (property, cached_property, classmethod, staticmethod)
_DIRECTIVE = re.compile(
    r"^ *\.\. (?:py:data|auto(module|class|function|exception|data)):: (\S+)(\n +:members:$)?", re.MULTILINE
)


def public_modules() -> Iterator[ModuleType]:
    """The package, and of its modules and sub-packages those that declare an ``__all__``."""
    package = importlib.import_module("equilm")
    yield package
    for found in pkgutil.iter_modules(package.__path__, "equilm."):
        module = importlib.import_module(found.name)
        if hasattr(module, "__all__"):
            yield module


def public_names() -> dict[str, Any]:
    """What each public name stands for; a name that two modules offer is there twice."""
    return {
        f"{module.__name__}.{name}": getattr(module, name) for module in public_modules() for name in module.__all__
    }


def placed_names(pages: Iterable[Path]) -> list[str]:
    """The names that pages of the reference document, with what an ``automodule`` takes from its ``__all__``."""
    placed: list[str] = []
    for page in pages:
        for kind, name, with_members in _DIRECTIVE.findall(page.read_text("utf-8")):
            if kind != "module":
                placed.append(name)
            elif with_members:
                placed += [f"{name}.{member}" for member in importlib.import_module(name).__all__]
    return placed


def missing_names(public: dict[str, Any], placed: Iterable[str]) -> list[str]:
    """The public names that are documented by none of their paths, sorted."""
    documented = [public[name] for name in placed if name in public]
    return sorted(name for name, value in public.items() if not any(value is other for other in documented))


def private_names(public: dict[str, Any], placed: Iterable[str]) -> list[str]:
    """The documented names that are not public, sorted."""
    return sorted(set(placed) - set(public))


def own_methods(cls: type[Any]) -> Iterator[str]:
    """Public methods and properties that no base class has: what an override does is said in the base."""
    for name, value in vars(cls).items():
        is_method = inspect.isfunction(value) or isinstance(value, _METHODS)
        inherited = any(name in vars(base) for base in cls.__mro__[1:])
        if is_method and not name.startswith("_") and not inherited:
            yield name


def check(_app: "Sphinx", env: "BuildEnvironment") -> None:
    """Warn of what is missing from the built reference, methods included, and of what is there and private."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    public = public_names()
    objects = env.domains["py"].objects  # type: ignore[attr-defined] - of the Python domain
    documented = {name for name, entry in objects.items() if not entry.aliased and entry.objtype != "module"}
    for name in missing_names(public, documented):
        logger.warning("%s is public, but not in the reference: add it to docs/reference", name)
    for name in documented:
        if inspect.isclass(public.get(name)):
            for method in own_methods(public[name]):
                if f"{name}.{method}" not in documented:
                    logger.warning("%s.%s is public, but not in the reference: give it a docstring", name, method)
    owners = {name: name.rpartition(".")[0] for name in documented}
    for name in private_names(public, [name for name in documented if owners[name] not in public]):
        logger.warning("%s is in the reference, but in no __all__", name)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
