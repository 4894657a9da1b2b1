"""Computing the results of a study, and writing them to files."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..metrics.regard_classifier import RegardClassifier
from .cells import Cell, CellTexts
from .gaps import CellCheck
from .measured import read_perplexity, read_uncovered
from .measures import cost_records, gap_records, pair_records
from .provenance import provenance
from .records import SampleRecord, StudyDescription, StudyResults
from .scoring import Judging, masked_texts, score_texts
from .storage import StudyHeader
from .study_plan import Study
from .summary import summarize
from .text_judges import TextJudge, regard_judge

COLUMNS = ("measure", "axis", "task", "decoder", "judge", "view", "group", "label", "value", "low", "high", "p_value")


def collect(
    study: Study,
    header: StudyHeader,
    cells: Mapping[Cell, CellTexts],
    checks: Mapping[Cell, CellCheck],
    classifier: RegardClassifier,
    judges: Sequence[TextJudge],
    folder: Path,
) -> StudyResults:
    """Judge the texts and compute all results.

    Args:
        study: the study.
        header: what all cells were made with.
        cells: the texts of each cell.
        checks: the checks of the same cells.
        classifier: scores regard.
        judges: further judges.
        folder: where the scores are saved, and what was measured with the model: perplexity and uncovered words.
    """
    judging = Judging(study, cells)
    texts = judging.texts()
    judged, scores = [], {}
    for judge in (regard_judge(classifier), *judges):
        scores[judge.name] = score_texts(texts, judge, folder)
        judged += judging.records(judge, scores[judge.name])

    def masked_scores(cell: Cell) -> NDArray[np.float64]:
        return np.stack([scores[classifier.name][text] for text in masked_texts(cells[cell])])

    names = study.axis_names
    return StudyResults(
        study=StudyDescription(
            **asdict(header.settings),
            axes={name: study.groups_of(name) for name in names},
            tasks={name: tuple(study.by_task[name]) for name in names},
            prompts=len(study.prompts),
            decoders=study.decoders,
        ),
        sampled_with=header.made_with,
        analyzed_with=provenance(),
        classifier=classifier.name,
        truncated=classifier.truncated(sorted(texts)) if texts else None,
        judged=[*judged, *judging.mentions()],
        pairs=pair_records(study, checks, masked_scores if study.is_papers else None),
        gaps=gap_records(study, checks),
        cost=cost_records(study, cells),
        perplexity=read_perplexity(folder),
        uncovered=read_uncovered(folder, names),
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
                {group: cells[cell].texts[0] for group, cell in prompt.items()}
                for prompt in study.cells_of(axis, task, decoder)
            ],
        )
        for axis, task in study.sections
        for decoder in study.decoders
    ]


def _rows(results: StudyResults) -> Iterator[dict[str, object]]:
    for found in results.judged:
        where = {name: getattr(found, name) for name in ("axis", "task", "decoder", "judge", "view")}
        for pair in found.disparities:
            yield {"measure": "disparity", **where, "group": "/".join(pair.groups), **asdict(pair.fractions)}
        for group, numbers in found.by_group.items():
            for label, estimate in numbers.fractions.items():
                yield {"measure": "fraction", **where, "group": group, "label": label, **asdict(estimate)}
    for measure, rows, names in (
        ("pairs", results.pairs, ("pairs", "swapped", "name_only", "promised")),
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
    for word in results.uncovered or ():
        for name in ("prompts", "texts"):
            where = {"axis": word.axis, "group": word.word, "view": word.reason}
            yield {"measure": "uncovered", **where, "label": name, "value": asdict(word)[name]}
