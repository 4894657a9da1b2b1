"""How often a judge gets the class of a pronoun right: rules, spaCy, or a causal language model.

    python examples/pronouns/accuracy.py FILE.jsonl
    python examples/pronouns/accuracy.py FILE.jsonl --judge model                 # SmolLM2-135M-Instruct, offline
    python examples/pronouns/accuracy.py FILE.jsonl --judge model --model gpt2

Each line of the file has a ``text``, the ``start`` and ``end`` of a pronoun in it, in characters, and whether it is a
``determiner``. What the judge sees is what it sees in use: the window of the canonical view around the pronoun.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from equilm.loading import load_base, load_offline_model
from equilm.text import CausalJudge, SpacyJudge, TextAction
from equilm.text.pronoun_rules import is_determiner
from equilm.text.pronouns import PronounJudge, context


def accuracy(judge: PronounJudge, rows: list[dict[str, Any]]) -> float:
    """The share of pronouns whose class the judge finds."""
    action, right = TextAction("gender"), 0
    for row in rows:
        start = len(action.canonical_view(row["text"][: row["start"]]))
        window = context(action.canonical_view(row["text"]), start, start + len("her"))
        right += judge(*window) == row["determiner"]
    return right / len(rows)


def main() -> None:
    """Print the judge's accuracy on the file, and that of always saying determiner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--judge", choices=("rules", "spacy", "model"), default="rules")
    parser.add_argument("--model", help="a Hub id or folder of a causal language model; by default the offline one")
    parser.add_argument("--first", type=int, help="only so many lines")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.file.read_text("utf-8").splitlines()][: arguments.first]
    judge: PronounJudge = is_determiner
    if arguments.judge == "spacy":
        judge = SpacyJudge()
    elif arguments.judge == "model":
        judge = CausalJudge(*(load_base(arguments.model) if arguments.model else load_offline_model()))
    always = sum(row["determiner"] for row in rows) / len(rows)
    print(f"{len(rows)} pronouns: {arguments.judge} {accuracy(judge, rows):.3f}, always a determiner {always:.3f}")


if __name__ == "__main__":
    main()
