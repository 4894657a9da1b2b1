"""A Sphinx extension: every public name of the package stands in the reference, or the build warns, which fails it."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)

_METHODS = (property, cached_property, classmethod, staticmethod)


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """The package and all its public modules and subpackages."""
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> Iterator[str]:
    """The full names of what a module offers, each by the module that defines it, with the methods of classes.

    That is what stands in its ``__all__``; without one, the classes and functions that it defines and that do not
    start with an underscore.
    """
    listed = getattr(module, "__all__", None)
    for name, value in list(vars(module).items()):
        is_code = inspect.isclass(value) or inspect.isfunction(value)
        if listed is None:
            is_public = is_code and not name.startswith("_") and value.__module__ == module.__name__
        else:
            is_public = name in listed
        if not is_public:
            continue
        if not is_code:
            yield f"{module.__name__}.{name}"
            continue
        full = f"{value.__module__}.{value.__qualname__}"
        yield full
        if inspect.isclass(value):
            yield from (f"{full}.{method}" for method in _own_methods(value))


def _own_methods(cls: type[Any]) -> Iterator[str]:
    """Public methods and properties that no base class has: what an override does is said in the base."""
    for name, value in vars(cls).items():
        is_method = inspect.isfunction(value) or isinstance(value, _METHODS)
        inherited = any(name in vars(base) for base in cls.__mro__[1:])
        if is_method and not name.startswith("_") and not inherited:
            yield name


def missing_names(package: ModuleType, documented: set[str]) -> list[str]:
    """The public names of a package that are not among the documented ones, sorted."""
    return sorted({name for module in modules(package) for name in public_names(module)} - documented)


def check(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that no page of the reference has."""
    documented = set(env.domains["py"].objects)  # type: ignore[attr-defined] - of the Python domain
    for name in missing_names(importlib.import_module("equilm"), documented):
        logger.warning("%s is public, but not in the reference: add it, with a docstring, to docs/reference", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
