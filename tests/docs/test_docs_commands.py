"""Every command in the documentation is one that exists: its program, its subcommand, its script and its options."""

import argparse
import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pages import PAGES, ROOT, commands, inline_code, name

from equilm.cli.parser import build_parser

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
EXTRAS = re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text("utf-8").partition("extras_require")[2], re.MULTILINE)
PROGRAMS = ("equilm", "make", "python", "pip", "accelerate")


class Parsed(Exception):
    """Raised once a script has parsed its options: what it would do then is not run."""


def check(page: Path, words: Sequence[str]) -> None:
    """Raise an error for a command that does not exist."""
    while "=" in words[0]:  # a variable of the environment
        words = words[1:]
    program, *arguments = words
    match os.path.basename(program).rstrip("0123456789."):  # noqa: PTH119 - a program, not a path
        case "equilm":
            parse(build_parser(), arguments)
        case "make":
            for target in arguments:
                assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE), f"no target {target}"
        case "python" if arguments[0] == "-m":
            assert arguments[1] in ("venv", "pip"), arguments
        case "python":
            check_script(page, arguments[0], arguments[1:])
        case "accelerate":
            place = next(i for i, word in enumerate(arguments) if word.endswith(".py"))
            check_script(page, arguments[place], arguments[place + 1 :])
        case "pip":
            for extra in re.findall(r"equilm\[([\w,]+)\]", " ".join(arguments)):
                assert set(extra.split(",")) <= set(EXTRAS), f"no extra {extra}"
        case _:
            raise AssertionError(f"an unknown program: {program}")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Parse, and say in an error what is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(parser), "error", refuse)
        parser.parse_args(arguments)


def refuse(_parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """In place of `ArgumentParser.error`, which would end the tests."""
    raise AssertionError(message)


def check_script(page: Path, script: str, arguments: Sequence[str]) -> None:
    """Run a script of the examples until it has parsed its options."""
    path = next((folder / script for folder in (ROOT, page.parent) if (folder / script).is_file()), None)
    assert path is not None, f"no script {script}"
    real_parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        real_parse(parser, *args, **kwargs)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", refuse)
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(sys, "argv", [str(path), *arguments])
        patch.syspath_prepend(str(path.parent))
        try:
            with pytest.raises(Parsed):
                runpy.run_path(str(path), run_name="__main__")
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            pytest.skip(f"{script} needs equilm[app]")


CASES = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), CASES, ids=[f"{name(page)}: {' '.join(words)}" for page, words in CASES])
def test_commands_exist(page: Path, words: list[str]) -> None:
    check(page, words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_running_text_exist(page: Path) -> None:
    for code in inline_code(page):
        words = code.split()
        if words[:1] == ["make"] and len(words) == 2:
            check(page, words)
        elif words[:1] == ["equilm"] and len(words) > 1:
            assert re.search(rf"\b{re.escape(words[1])}\b", build_parser().format_help()), code


def test_what_does_not_exist_is_seen() -> None:
    page = ROOT / "README.md"
    wrong = ["equilm audit --axes x", "equilm sing", "make love", "python examples/no.py", "pip install equilm[moon]"]
    wrong += ["python examples/eq4_gap.py --no-such-option", "cargo run"]
    for command in wrong:
        with pytest.raises(AssertionError):
            check(page, command.split())


def test_all_kinds_of_commands_are_found() -> None:
    found = {os.path.basename(words[0]) for _, words in CASES}  # noqa: PTH119 - a program, not a path
    assert found >= set(PROGRAMS)
    assert {"equilm audit", "make docs"} <= {code for page in PAGES for code in inline_code(page)}
