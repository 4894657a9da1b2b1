"""`equilm`: reads the command line, runs the command, and turns any error into one line and an exit code.

Exit codes: 0, success; 1, a check failed; 2, the command could not be run; 130, interrupted.
"""

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from .parser import build_parser, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run(build_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen command and return the exit code."""
    try:
        with warnings.catch_warnings():
            _set_up_output(quiet=arguments.quiet)
            code = importlib.import_module(f"equilm.cli.{arguments.command}").run(arguments) or 0
        sys.stdout.flush()  # here, where a reader that has gone is no error
        return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("equilm: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.traceback:
            raise
        print(f"equilm: {_message(error)}", file=sys.stderr)
        return 2
    finally:
        logging.disable(logging.NOTSET)


def _set_up_output(*, quiet: bool) -> None:
    """What is shown on standard error besides the command's own progress bars."""
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    from equilm import logging as equilm_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of loading weights, and with it those of downloads
    if quiet:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        return
    warnings.showwarning = _show_warning
    if "EQUILM_VERBOSITY" not in os.environ:
        equilm_logging.set_verbosity_info()
    if not HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()  # a download may take minutes


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`: one line, without the place in the code."""
    print(f"equilm: {one_line(str(message))}", file=sys.stderr)


def _message(error: Exception) -> str:
    """The message for an error: our own as it is, others with their type if the message alone would be unclear."""
    from equilm.errors import EquiLMError

    text = one_line(str(error)) or "no message"
    if isinstance(error, EquiLMError | argparse.ArgumentTypeError):
        return text
    if len(text) > 400:
        text = text[:400] + " …"
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
