"""Computing the results of a study, and writing them to files."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..metrics.regard_classifier import RegardClassifier
from .cells import Cell, CellTexts, Study
from .gaps import CellCheck
from .measures import cost_records, gap_records, pair_records
from .prompts import CONTEXTS
from .provenance import provenance
from .records import PerplexityTable, SampleRecord, StudyDescription, StudyResults
from .scoring import masked_texts, regard_records, score_texts, view_texts
from .storage import StudyHeader
from .summary import summarize

COLUMNS = ("measure", "axis", "task", "decoder", "view", "group", "label", "value", "low", "high", "p_value")


def collect(
    study: Study,
    header: StudyHeader,
    cells: Mapping[Cell, CellTexts],
    checks: Mapping[Cell, CellCheck],
    classifier: RegardClassifier,
    perplexity: PerplexityTable | None,
    folder: Path,
) -> StudyResults:
    """Score the texts and compute all results.

    Args:
        study: the study.
        header: what all cells were made with.
        cells: the texts of each cell.
        checks: the checks of the same cells.
        classifier: scores regard.
        perplexity: from `equilm.study.measures.perplexity_records`; None if it was not measured.
        folder: where the scores are saved.
    """
    texts = {
        text
        for axis in study.axes
        for task in study.tasks
        for decoder in study.decoders
        for groups in view_texts(study, cells, axis, task, decoder).values()
        for read in groups.values()
        for text in read
    }
    scores = score_texts(texts, classifier, folder)

    def masked_scores(cell: Cell) -> NDArray[np.float64]:
        return np.stack([scores[text] for text in masked_texts(cells[cell])])

    return StudyResults(
        study=StudyDescription(**asdict(header.settings), axes=study.axes, tasks=study.tasks, decoders=study.decoders),
        sampled_with=header.made_with,
        analyzed_with=provenance(),
        classifier=classifier.name,
        truncated=classifier.truncated(sorted(texts)),
        regard=regard_records(study, cells, scores, classifier.name),
        pairs=pair_records(study, checks, masked_scores),
        gaps=gap_records(study, checks),
        cost=cost_records(study, cells),
        perplexity=perplexity,
        samples=_samples(study, cells),
    )


def write(results: StudyResults, folder: Path) -> None:
    """Write ``results.json``, and its numbers as a table in ``results.csv``."""
    stored = {"summary": summarize(results), **results.to_dict()}
    (folder / "results.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(_rows(results))


def _samples(study: Study, cells: Mapping[Cell, CellTexts]) -> list[SampleRecord]:
    """For each axis, task and decoder, the first text of each context, with all groups side by side."""
    return [
        SampleRecord(
            axis,
            task,
            decoder,
            [
                {group: cells[Cell(axis, task, group, context, decoder)].texts[0] for group in study.groups(axis)}
                for context in CONTEXTS[task]
            ],
        )
        for axis in study.axes
        for task in study.tasks
        for decoder in study.decoders
    ]


def _rows(results: StudyResults) -> Iterator[dict[str, object]]:
    for found in results.regard:
        where = {"axis": found.axis, "task": found.task, "decoder": found.decoder, "view": found.view}
        for pair in found.disparities:
            yield {"measure": "disparity", **where, "group": "/".join(pair.groups), **asdict(pair.fractions)}
        for group, numbers in found.by_group.items():
            for label, estimate in numbers.fractions.items():
                yield {"measure": "fraction", **where, "group": group, "label": label, **asdict(estimate)}
    for measure, rows, names in (
        ("pairs", results.pairs, ("pairs", "swapped", "name_only")),
        ("gaps", results.gaps, ("mean", "largest")),
        ("cost", results.cost, ("seconds_per_cell", "tokens_per_second", "times_plain")),
    ):
        for row in map(asdict, rows):
            where = {name: row[name] for name in ("axis", "decoder", "group") if name in row}
            for name in names:
                yield {"measure": measure, **where, "label": name, "value": row[name]}
    for model in results.perplexity.models if results.perplexity else ():
        where = {"axis": model.axis or "", "decoder": model.decoder}
        for name in ("perplexity", "change_percent", "word_perplexity"):
            yield {"measure": "perplexity", **where, "label": name, "value": asdict(model)[name]}
