"""The package's logger: one level for all its modules, from a function or the environment, apart from the root's."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import equilm.logging as equilm_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    level = equilm_logging.get_verbosity()
    yield
    equilm_logging.set_verbosity(level)
    equilm_logging.enable_default_handler()
    equilm_logging.enable_propagation()


def test_the_level_is_that_of_all_modules(caplog: pytest.LogCaptureFixture) -> None:
    log = equilm_logging.get_logger("equilm.some.module")
    for set_level, level in (
        (equilm_logging.set_verbosity_debug, logging.DEBUG),
        (equilm_logging.set_verbosity_info, logging.INFO),
        (equilm_logging.set_verbosity_warning, logging.WARNING),
        (equilm_logging.set_verbosity_error, logging.ERROR),
    ):
        set_level()
        assert equilm_logging.get_verbosity() == log.getEffectiveLevel() == level
    log.warning("not seen")
    equilm_logging.set_verbosity(logging.WARNING)
    log.warning("seen")
    assert caplog.messages == ["seen"]


def test_handlers_can_be_the_programs_own(caplog: pytest.LogCaptureFixture) -> None:
    root, log = logging.getLogger("equilm"), equilm_logging.get_logger("equilm.module")
    assert len(root.handlers) == 1
    equilm_logging.enable_default_handler()
    assert len(root.handlers) == 1  # once, however often it is asked for
    equilm_logging.disable_default_handler()
    assert root.handlers == []
    equilm_logging.disable_propagation()
    log.error("kept")
    equilm_logging.enable_propagation()
    log.error("handed on")
    assert caplog.messages == ["handed on"]


def run(level: str) -> str:
    """What a program of its own writes to standard error at a level of the environment."""
    code = (
        "import logging; from equilm.logging import get_logger; logging.basicConfig(format='root %(message)s')\n"
        "log = get_logger('equilm.module'); log.info('what happens'); log.warning('what is odd')"
    )
    environment = os.environ | {"EQUILM_VERBOSITY": level}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.slow
def test_the_environment_sets_the_level() -> None:
    assert run("info") == "[equilm] what happens\n[equilm] what is odd\n"
    assert run("") == "[equilm] what is odd\n"
    assert "EQUILM_VERBOSITY='loud' is not a level, and 'warning' is used: expected one of" in run("loud")
