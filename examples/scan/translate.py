"""Translations by a trained model and its equi-tuned version of commands that combine words in new ways.

    python examples/scan/translate.py                                    # after run.py: the LSTMs of seed 0
    python examples/scan/translate.py --task around_right --count 10
    python examples/scan/translate.py --command "jump twice and walk left"

Prints a Markdown table of translations, of commands drawn from the test pairs or given, with mistakes marked by a ✗,
and the accuracy on the test commands whose swap is a training command, and on the others.
"""

import argparse
import random
from pathlib import Path

from equilm.scan import EquiScanSeq2Seq, ScanSeq2Seq, interpret, load_split

KINDS = {"plain": ScanSeq2Seq, "equi": EquiScanSeq2Seq}
SWAPS = {"add_jump": {"jump": "run", "run": "jump"}, "around_right": {"left": "right", "right": "left"}}


def table(commands: list[str], translations: dict[str, list[str]]) -> str:
    """A row for each command; the actions without their I_."""
    lines = [f"| command | {' | '.join(translations)} |", "|---" * (1 + len(translations)) + "|"]
    for command, *found in zip(commands, *translations.values(), strict=True):
        cells = [actions.replace("I_", "") + ("" if actions == interpret(command) else " ✗") for actions in found]
        lines.append(f"| {' | '.join([command, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Load, translate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(SWAPS), default="add_jump")
    parser.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="lstm")
    parser.add_argument("--seed", type=int, default=0, help="the folder of the trained models")
    parser.add_argument("--command", action="append", help="one or several; by default some of the test pairs")
    parser.add_argument("--count", type=int, default=5, help="of drawn commands")
    parser.add_argument("--longest", type=int, default=12, help="the number of actions in the drawn commands")
    parser.add_argument("--output", type=Path, default=Path("scan-runs"), help="run.py's folder")
    arguments = parser.parse_args()

    split, swap = load_split(arguments.task), SWAPS[arguments.task]
    models = {
        name: kind.from_pretrained(
            arguments.output / arguments.task / f"{name}-{arguments.cell}" / f"seed{arguments.seed}"
        )
        for name, kind in KINDS.items()
    }
    commands = arguments.command
    if commands is None:
        short = [row["commands"] for row in split["test"] if len(row["actions"].split()) <= arguments.longest]
        commands = random.Random(0).sample(short, arguments.count)
    print(table(commands, {name: model.translate(commands) for name, model in models.items()}) + "\n")

    trained = set(split["train"]["commands"])
    parts: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for row in split["test"]:
        swapped = " ".join(swap.get(word, word) for word in row["commands"].split())
        parts[swapped in trained].append(row)
    for name, model in models.items():
        seen, unseen = (f"{model.exact_match(rows):.1%} of {len(rows)}" for rows in parts.values())
        print(f"- {name}: right on {seen} test commands whose swap is in the training pairs, on {unseen} others")


if __name__ == "__main__":
    main()
