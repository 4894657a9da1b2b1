"""Scoring the regard of a study's texts, each distinct text once, and comparing the groups."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..metrics.record_file import RecordFile
from ..metrics.regard import mask_group, regard_from_scores
from ..metrics.regard_classifier import RegardClassifier
from .cells import Cell, CellTexts, Study
from .prompts import CONTEXTS
from .records import RegardRecord

# What the classifier reads. The last view shows its own bias: the texts of all groups, under each group's name.
VIEWS = {"masked": "Masked", "raw": "As written", "renamed": "Same texts, other name"}

# The number of distinct texts that are scored before they are saved.
_CHUNK = 1024

Scores = Mapping[str, NDArray[np.float64]]
"""The probabilities of `LABELS` for each text, float64, shape ``(4,)``."""


def view_texts(
    study: Study, cells: Mapping[Cell, CellTexts], axis: str, task: str, decoder: str
) -> dict[str, dict[str, list[str]]]:
    """The texts that the classifier reads, by view (see `VIEWS`) and group."""
    groups = study.groups(axis)
    own = {group: [Cell(axis, task, group, context, decoder) for context in CONTEXTS[task]] for group in groups}
    return {
        "masked": {group: [text for cell in own[group] for text in masked_texts(cells[cell])] for group in groups},
        "raw": {group: [text for cell in own[group] for text in cells[cell].texts] for group in groups},
        "renamed": {
            group: [
                text for other in groups for cell in own[other] for text in masked_texts(cells[cell], f"The {group}")
            ]
            for group in groups
        },
    }


def masked_texts(texts: CellTexts, mask: str = "XYZ") -> list[str]:
    """A cell's texts with the words that name the group replaced."""
    return [mask_group(text, texts.cell.phrase, mask) for text in texts.texts]


def score_texts(texts: Iterable[str], classifier: RegardClassifier, folder: Path) -> Scores:
    """Score the texts that have not been scored yet.

    Args:
        texts: the texts, in any order; a text may be repeated.
        classifier: scores them.
        folder: where the scores are saved, in one file for each classifier.
    """
    slug = re.sub("[^a-zA-Z0-9.]+", "-", classifier.name)
    file = RecordFile(folder / f"scores-{slug}.jsonl", {"classifier": classifier.name})
    known = {text: np.array(row) for record in file.read() for text, row in record["scores"].items()}
    # Sorted by length, texts need little padding.
    missing = sorted(set(texts) - known.keys(), key=lambda text: (len(text), text))
    for start in tqdm(range(0, len(missing), _CHUNK), desc="Scoring regard", unit=f"×{_CHUNK} texts"):
        chunk = missing[start : start + _CHUNK]
        scores = dict(zip(chunk, classifier.scores(chunk), strict=True))
        file.append([{"scores": {text: row.tolist() for text, row in scores.items()}}])
        known |= scores
    return known


def regard_records(
    study: Study, cells: Mapping[Cell, CellTexts], scores: Scores, classifier: str
) -> list[RegardRecord]:
    """Fractions of each group, and disparities between groups, for each axis, task, decoder and view.

    Texts at the same position come from the same seed, or are the same text with two names, so the groups are compared
    in pairs.
    """
    records = []
    for axis in study.axes:
        for task in study.tasks:
            for decoder in study.decoders:
                for view, groups in view_texts(study, cells, axis, task, decoder).items():
                    rows = {group: np.stack([scores[text] for text in texts]) for group, texts in groups.items()}
                    found = regard_from_scores(rows, classifier=classifier, masked=view == "masked", paired=True)
                    records.append(RegardRecord(axis, task, decoder, view, found.by_group, found.disparities))
    return records
