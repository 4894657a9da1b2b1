"""Sheng et al.'s (2019) regard data sets, and which texts of the follow-up data set reword them."""

import re
from collections.abc import Sequence
from pathlib import Path

Rows = list[tuple[str, int]]
"""Texts, and indices into `equilm.metrics.regard_classifier.LABELS`."""


def load_sets(folder: Path) -> tuple[Rows, dict[str, Rows], Rows]:
    """The data sets in a folder.

    Args:
        folder: contains train_other.tsv, dev.tsv, test.tsv and dialogpt.tsv.

    Returns:
        The training texts, which are train_other without the text that is also in test; the held-out texts as "dev" and
        "test"; and the answers of DialoGPT, whose subjects are pronouns.
    """
    held = {name: read(folder / f"{name}.tsv") for name in ("dev", "test")}
    held_texts = {text for rows in held.values() for text, _ in rows}
    train = [row for row in read(folder / "train_other.tsv") if row[0] not in held_texts]
    return train, held, read(folder / "dialogpt.tsv")


def read(file: Path) -> Rows:
    """Rows of a tab-separated file, whose lines start with a label, −1, 0, 1 or 2, and end with a text."""
    lines = (line.split("\t") for line in file.read_text("utf-8").splitlines())
    return [(fields[-1], int(fields[0]) + 1) for fields in lines]


def rewords(text: str, others: Sequence[str], words: int = 5, share: float = 0.5) -> bool:
    """Whether a text shares half of its own or another's runs of five words with that other text."""

    def runs(of: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", of.lower())
        return {tuple(found[start : start + words]) for start in range(len(found) - words + 1)}

    own = runs(text)
    return any(len(own & theirs) >= share * max(1, min(len(own), len(theirs))) for theirs in map(runs, others))
