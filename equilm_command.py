"""The program `equilm`: reads its command line before torch is imported, so that help and mistakes cost no seconds.

Importing any module of the package imports the package, which registers its models with transformers and so needs
torch. Hence this module stands beside it, and runs `equilm/cli/parser.py` by its path.
"""

import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        package = find_spec("equilm")
        assert package is not None and package.origin is not None, "it is installed together with this module"
        parser = runpy.run_path(str(Path(package.origin).parent / "cli" / "parser.py"))["build_parser"]()
        arguments = parser.parse_args()
        if arguments.quiet:
            os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it when it is imported
        from equilm.cli.main import run

        return run(arguments)
    except KeyboardInterrupt:  # while the imports were running, or before
        sys.stderr.write("equilm: interrupted\n")
        return 130
