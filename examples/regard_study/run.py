"""The paper's regard study on one or several processes; the options are those of ``equilm report``.

python examples/regard_study/run.py --output study
accelerate launch --num_processes 4 examples/regard_study/run.py --output study --model Qwen/Qwen3-0.6B
"""

import argparse
import sys

from equilm import EquiLMError
from equilm.cli import report as command
from equilm.cli.parser import report_arguments


def main() -> int:
    """Run the study with these options and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    report_arguments(parser)
    try:
        command.run(parser.parse_args())
    except EquiLMError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
