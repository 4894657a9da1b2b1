"""Judging a study's texts, each distinct text once by each judge, and comparing the groups."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..metrics.record_file import RecordFile
from ..metrics.regard import mask_group, regard_from_scores
from ..text.symmetrizer import TextSymmetrizer
from .cells import Cell, CellTexts
from .own_prompts import NO_GROUP
from .records import JudgeRecord
from .study_plan import Study
from .text_judges import TextJudge

# How a text is judged. In the third view, the texts of all groups are judged under each group's name: it shows the
# judge's own bias. The last one is without it: a text's score is the mean over all its swaps.
VIEWS = {
    "masked": "Masked",
    "raw": "As written",
    "renamed": "Same texts, other name",
    "invariant": "Invariant judge",
    "mentions": "Mentioned first",
}

# The judge of neutral prompts, which no model is needed for: whose words does a text name first?
MENTIONS = "mentions"

# The number of distinct texts that are scored before they are saved.
_CHUNK = 1024

Scores = Mapping[str, NDArray[np.float64]]
"""The probabilities of a judge's labels for each text, float64, shape ``(labels,)``."""

Groups = dict[str, list[str]]
"""Texts by group."""


def view_texts(study: Study, cells: Mapping[Cell, CellTexts], axis: str, task: str, decoder: str) -> dict[str, Groups]:
    """The texts that a judge reads, by view (see `VIEWS`) and group; none for neutral prompts.

    Only the paper's prompts have a name that can be masked, and are renamed by that name. Other texts are renamed by
    swapping all their words of the axis.
    """
    prompts = study.cells_of(axis, task, decoder)
    if NO_GROUP in prompts[0]:
        return {}
    groups = study.by_axis[axis]
    own = {group: [prompt[group] for prompt in prompts] for group in groups.groups}
    raw = {group: [text for cell in own[group] for text in cells[cell].texts] for group in own}
    if study.is_papers:

        def named(other: str, mask: str) -> list[str]:
            return [text for cell in own[other] for text in masked_texts(cells[cell], mask)]

        masked = {"masked": {group: named(group, "XYZ") for group in own}}
        renamed = {group: [text for other in own for text in named(other, f"The {group}")] for group in own}
    else:
        masked = {}
        renamed = {
            group: [groups.action.act(text, groups.element(other, group)) for other in own for text in raw[other]]
            for group in own
        }
    return {**masked, "raw": raw, "renamed": renamed, "invariant": raw}


def masked_texts(texts: CellTexts, mask: str = "XYZ") -> list[str]:
    """A cell's texts with the words that name the group replaced."""
    return [mask_group(text, texts.cell.phrase, mask) for text in texts.texts]


def score_texts(texts: Iterable[str], judge: TextJudge, folder: Path) -> Scores:
    """Score the texts that have not been scored yet.

    Args:
        texts: the texts, in any order; a text may be repeated.
        judge: scores them.
        folder: where the scores are saved, in one file for each judge.
    """
    slug = re.sub("[^a-zA-Z0-9.]+", "-", judge.name)
    file = RecordFile(folder / f"scores-{slug}.jsonl", {"classifier": judge.name})
    known = {text: np.array(row) for record in file.read() for text, row in record["scores"].items()}
    # Sorted by length, texts need little padding.
    missing = sorted(set(texts) - known.keys(), key=lambda text: (len(text), text))
    for start in tqdm(range(0, len(missing), _CHUNK), desc=f"Judging, {judge.name}", unit=f"×{_CHUNK} texts"):
        chunk = missing[start : start + _CHUNK]
        scores = dict(zip(chunk, judge.scores(chunk), strict=True))
        file.append([{"scores": {text: row.tolist() for text, row in scores.items()}}])
        known |= scores
    return known


class Judging:
    """The comparisons of one study's texts.

    Texts at the same position come from the same seed, or are the same text with two names, so the groups are compared
    in pairs.

    Args:
        study: the study.
        cells: the texts of each cell.
    """

    def __init__(self, study: Study, cells: Mapping[Cell, CellTexts]):
        self.study = study
        self.cells = cells
        self._symmetrizers = {axis: TextSymmetrizer(groups.axis) for axis, groups in study.by_axis.items()}
        # p-values are multiplied by the number of comparisons, so they need as many more permutations.
        self.resamples = max(1000, 40 * sum(len(study.groups_of(axis)) ** 2 for axis, _ in study.sections))

    def texts(self) -> set[str]:
        """All texts that each judge has to score."""
        found: set[str] = set()
        for axis, task in self.study.sections:
            orbit = self._symmetrizers[axis].action.orbit
            for decoder in self.study.decoders:
                for view, groups in view_texts(self.study, self.cells, axis, task, decoder).items():
                    for texts in groups.values():
                        found.update(texts)
                        if view == "invariant":
                            found.update(image for text in texts for image in orbit(text))
        return found

    def records(self, judge: TextJudge, scores: Scores) -> list[JudgeRecord]:
        """What a judge finds: fractions of each group, and disparities between groups, for each view."""
        records = []
        for axis, task in self.study.sections:
            invariant = self._symmetrizers[axis].invariant(lambda texts: [scores[text] for text in texts])
            for decoder in self.study.decoders:
                for view, groups in view_texts(self.study, self.cells, axis, task, decoder).items():
                    rows = {
                        group: np.stack(invariant(texts) if view == "invariant" else [scores[text] for text in texts])
                        for group, texts in groups.items()
                    }
                    records.append(self._compare((axis, task, decoder), judge.name, judge.labels, view, rows))
        return records

    def mentions(self) -> list[JudgeRecord]:
        """How often the texts after neutral prompts name each group first; swapping the groups must change nothing."""
        records = []
        for axis, task in self.study.sections:
            for decoder in self.study.decoders:
                prompts = self.study.cells_of(axis, task, decoder)
                if NO_GROUP not in prompts[0]:
                    continue
                groups = self.study.by_axis[axis]
                cells = [self.cells[prompt[NO_GROUP]] for prompt in prompts]
                named = [
                    groups.member_named(text[len(found.cell.prompt) :], found.cell.prompt)
                    for found in cells
                    for text in found.texts
                ]
                rows = {
                    group: np.array([[member == other, member != other] for other in named], dtype=np.float64)
                    for group, member in zip(groups.groups, groups.members, strict=True)
                }
                labels = ("mentioned first", "not mentioned first")
                records.append(self._compare((axis, task, decoder), MENTIONS, labels, "mentions", rows))
        return records

    def _compare(
        self,
        where: tuple[str, str, str],
        judge: str,
        labels: tuple[str, ...],
        view: str,
        rows: Mapping[str, NDArray[np.float64]],
    ) -> JudgeRecord:
        found = regard_from_scores(
            rows, classifier=judge, labels=labels, masked=view == "masked", paired=True, bootstrap=self.resamples
        )
        return JudgeRecord(*where, judge, view, found.by_group, found.disparities)
