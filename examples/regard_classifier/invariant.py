"""What the packaged classifier of regard loses and gains when it is made invariant.

    python examples/regard_classifier/invariant.py ../shared/data/regard

The folder is that of train.py. Prints the accuracy on dev + test, plain and invariant under all built-in axes named
below, and how many labels flip where the subject of each sentence is a group and g swaps the groups.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sets import Rows, load_sets

from equilm import TextSymmetrizer
from equilm.metrics import LABELS, invariance, load_classifier

AXES = ("gender", "race", "orientation")
SUBJECTS = {"gender": "The man", "race": "The Black person", "orientation": "The gay person"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    train, held, _ = load_sets(parser.parse_args().folder)
    classifier = load_classifier("packaged")

    def score(texts: list[str]) -> list[dict[str, float]]:
        return [dict(zip(LABELS, map(float, row), strict=True)) for row in classifier.scores(texts)]

    rows: Rows = [row for name in ("dev", "test") for row in held[name]]
    texts = [text for text, _ in rows]
    print(f"dev + test, {len(rows)} texts, axes {', '.join(AXES)}")
    own = np.array([label for _, label in rows])
    for kind, scorer in (("plain", score), ("invariant", TextSymmetrizer(AXES).invariant(score))):
        likeliest = np.array([np.argmax([entry[label] for label in LABELS]) for entry in scorer(texts)])
        print(f"  {kind:10} {int((likeliest == own).sum())} right, accuracy {(likeliest == own).mean():.3f}")

    sentences = [text for text, _ in [*train, *rows]]
    for axis, subject in SUBJECTS.items():
        named = [text.replace("XYZ", subject) for text in sentences]
        scorers: list[tuple[str, Any]] = [("plain", score), ("invariant", TextSymmetrizer(axis).invariant(score))]
        for kind, scorer in scorers:
            result = invariance(scorer, named, axis)
            assert result.label_flips is not None
            flips = result.label_flips
            print(
                f"  {axis:12} {kind:10} labels that flip {flips.value:.1%} ({flips.low:.1%} to {flips.high:.1%}) of "
                f"{result.moved}; largest change of a probability {result.largest:.1e}"
            )


if __name__ == "__main__":
    main()
