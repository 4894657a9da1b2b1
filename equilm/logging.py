"""The package's logger, used as `transformers.utils.logging` is: one level for all modules, one handler, a variable.

    >>> import equilm.logging
    >>> equilm.logging.set_verbosity_info()  # doctest: +SKIP

or set ``EQUILM_VERBOSITY`` to ``debug``, ``info``, ``warning`` (the default), ``error`` or ``critical``. What endangers
fairness is an `equilm.EquiLMWarning` or an error, and never only a line in a log.
"""

import logging
import os
import warnings
from functools import cache

from transformers.utils.logging import get_log_levels_dict

from .errors import EquiLMWarning

__all__ = [
    "disable_default_handler",
    "disable_propagation",
    "enable_default_handler",
    "enable_propagation",
    "get_logger",
    "get_verbosity",
    "set_verbosity",
    "set_verbosity_debug",
    "set_verbosity_error",
    "set_verbosity_info",
    "set_verbosity_warning",
]

_NAME = "equilm"
_VARIABLE = "EQUILM_VERBOSITY"


def get_logger(name: str = _NAME) -> logging.Logger:
    """The logger of a module of the package.

    Args:
        name: its full name, which begins with ``equilm``.
    """
    _root()
    return logging.getLogger(name)


def get_verbosity() -> int:
    """The level of the package's logger: messages below it are not shown."""
    return _root().getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Set the level of the package's logger, such as ``logging.INFO``."""
    _root().setLevel(verbosity)


def set_verbosity_debug() -> None:
    """Show all messages."""
    set_verbosity(logging.DEBUG)


def set_verbosity_info() -> None:
    """Show what the package is doing."""
    set_verbosity(logging.INFO)


def set_verbosity_warning() -> None:
    """Show warnings and errors only."""
    set_verbosity(logging.WARNING)


def set_verbosity_error() -> None:
    """Show errors only."""
    set_verbosity(logging.ERROR)


def enable_propagation() -> None:
    """Hand messages on to the handlers of the root logger as well."""
    _root().propagate = True


def disable_propagation() -> None:
    """Keep messages from the handlers of the root logger, as at the start."""
    _root().propagate = False


def enable_default_handler() -> None:
    """Write messages to standard error, as at the start."""
    _root().addHandler(_handler())


def disable_default_handler() -> None:
    """Do not write messages to standard error."""
    _root().removeHandler(_handler())


@cache
def _handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"[{_NAME}] %(message)s"))
    return handler


@cache
def _root() -> logging.Logger:
    """The package's logger, which is set up at the first call."""
    root = logging.getLogger(_NAME)
    root.setLevel(_first_level())
    root.addHandler(_handler())
    root.propagate = False
    return root


def _first_level() -> int:
    levels = get_log_levels_dict()
    name = os.environ.get(_VARIABLE) or "warning"
    if name not in levels:
        warnings.warn(
            f"{_VARIABLE}={name!r} is not a level, and 'warning' is used: expected one of {', '.join(levels)}.",
            EquiLMWarning,
            stacklevel=2,
        )
        name = "warning"
    return int(levels[name])
