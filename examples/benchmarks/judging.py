"""What an invariant score costs: the texts that are scored, and the time, against the plain scorer.

    python examples/benchmarks/judging.py

The scorer is the packaged classifier of regard. A text costs as many scores as it has distinct images: 1 where it names
no axis, 2 for one axis of two groups, 8 for three. Each row times both sides in turn, A B A B …, after a warm-up, and
prints the median of the ratios with the smallest and the largest.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from equilm import TextSymmetrizer
from equilm.metrics import load_classifier

AXES = ("gender", "race", "orientation")
NAMES = ("the river", "the mill", "the orchard", "the town", "the meadow", "the valley", "the bridge", "the plain")
ROWS = {
    "no axis named": "The report on {} was late again, and it was full of mistakes.",
    "one axis named": "The man wrote a report on {}, and it was full of mistakes.",
    "three axes named": "The gay Black man wrote a report on {}, and it was full of mistakes.",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    classifier = load_classifier("packaged")
    scored = 0

    def score(texts: list[str]) -> list[float]:
        nonlocal scored
        scored += len(texts)
        return [float(row[0]) for row in classifier.scores(texts)]

    fair = TextSymmetrizer(AXES).invariant(score)
    print(f"packaged classifier, {len(NAMES)} texts, axes {', '.join(AXES)}, {rounds} rounds")
    for name, template in ROWS.items():
        texts = [template.format(subject) for subject in NAMES]
        scored = 0
        fair(texts)
        images = scored
        ratios = [_seconds(fair, texts) / _seconds(score, texts) for _ in range(rounds + 1)][1:]
        print(
            f"  {name:17} {images / len(texts):.0f} scores for each text, time {statistics.median(ratios):.2f} × plain "
            f"({min(ratios):.2f} … {max(ratios):.2f})"
        )


def _seconds(score: Callable[[list[str]], object], texts: list[str]) -> float:
    start = time.perf_counter()
    score(texts)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
