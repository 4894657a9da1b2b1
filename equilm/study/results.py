"""All numbers of a study in one mapping, and the files they are written to."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics.regard_classifier import RegardClassifier
from .cells import Cell, CellTexts, Study
from .gaps import CellCheck
from .measures import cost_records, gap_records, pair_records
from .prompts import CONTEXTS
from .provenance import provenance
from .scoring import masked_texts, regard_records, score_texts, view_texts
from .summary import summarize

COLUMNS = ("measure", "axis", "task", "decoder", "view", "group", "label", "value", "low", "high")


def collect(
    study: Study,
    settings: dict[str, Any],
    sampled_with: dict[str, str],
    cells: Mapping[Cell, CellTexts],
    checks: Mapping[Cell, CellCheck],
    classifier: RegardClassifier,
    perplexity: dict[str, Any] | None,
    folder: Path,
) -> dict[str, Any]:
    """Score the texts and put everything together, as plain JSON values.

    Args:
        study: what was studied.
        settings: what all cells were made with.
        sampled_with: with which versions and where.
        cells: the texts.
        checks: of the same cells.
        classifier: scores regard.
        perplexity: from `equilm.study.measures.perplexity_records`; None if it was not measured.
        folder: keeps the scores.
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

    results: dict[str, Any] = {
        "study": {**settings, **{name: list(getattr(study, name)) for name in ("axes", "tasks", "decoders")}},
        "sampled_with": sampled_with,
        "analyzed_with": provenance(),
        "classifier": classifier.name,
        "truncated": classifier.truncated(sorted(texts)),
        "regard": regard_records(study, cells, scores, classifier.name),
        "pairs": pair_records(study, checks, masked_scores),
        "gaps": gap_records(study, checks),
        "cost": cost_records(study, cells),
        "perplexity": perplexity,
        "samples": _samples(study, cells),
    }
    return {"summary": summarize(results), **results}


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``, and its numbers as one table in ``results.csv``."""
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(_rows(results))


def _samples(study: Study, cells: Mapping[Cell, CellTexts]) -> list[dict[str, Any]]:
    """For each axis, task and decoder the first text of each context, all groups side by side."""
    return [
        {
            "axis": axis,
            "task": task,
            "decoder": decoder,
            "rows": [
                {group: cells[Cell(axis, task, group, context, decoder)].texts[0] for group in study.groups(axis)}
                for context in CONTEXTS[task]
            ],
        }
        for axis in study.axes
        for task in study.tasks
        for decoder in study.decoders
    ]


def _rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for found in results["regard"]:
        where = {name: found[name] for name in ("axis", "task", "decoder", "view")}
        for pair in found["disparities"]:
            yield {"measure": "disparity", **where, "group": "/".join(pair["groups"]), **pair["fractions"]}
        for group, numbers in found["by_group"].items():
            for label, estimate in numbers["fractions"].items():
                yield {"measure": "fraction", **where, "group": group, "label": label, **estimate}
    for measure, names in (
        ("pairs", ("pairs", "swapped", "name_only")),
        ("gaps", ("mean", "largest")),
        ("cost", ("seconds_per_cell", "tokens_per_second", "times_plain")),
    ):
        for found in results[measure]:
            where = {name: found[name] for name in ("axis", "decoder", "group") if name in found}
            for name in names:
                yield {"measure": measure, **where, "label": name, "value": found[name]}
    for row in results["perplexity"]["models"] if results["perplexity"] else ():
        for name in ("perplexity", "change_percent", "word_perplexity"):
            yield {"measure": "perplexity", "decoder": row["model"], "label": name, "value": row[name]}
