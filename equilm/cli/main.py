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

from .parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run(build_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen command and return the exit code."""
    from transformers.utils import logging as transformers_logging

    command = importlib.import_module(f"equilm.cli.{arguments.command}")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if arguments.quiet:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.environ["TQDM_DISABLE"] = "1"
    try:
        return command.run(arguments) or 0
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("equilm: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.traceback:
            raise
        print(f"equilm: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    """The message for an error: our own as it is, others with their type if the message alone would be unclear."""
    from equilm.errors import EquiLMError

    text = str(error).strip()
    if isinstance(error, EquiLMError | argparse.ArgumentTypeError):
        return text
    words = " ".join(text.split()) or "no message"
    if len(words) > 400:
        words = words[:400] + " …"
    return words if isinstance(error, OSError) else f"{type(error).__name__}: {words}"


if __name__ == "__main__":
    sys.exit(main())
