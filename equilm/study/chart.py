"""The chart at the top of a study's page: how far apart the groups are, for each decoder, with intervals.

It is drawn by the page itself, with positions in percent, so that its labels have one size on every screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics.estimates import DifferenceEstimate
from .cells import DECODERS
from .records import JudgeRecord, StudyResults
from .scoring import MENTIONS

_ENDS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class ChartRow:
    """One decoder's mark.

    Args:
        decoder: its name for readers.
        is_plain: whether it is the plain model, whose mark has another shape and color.
        estimate: the disparity of the two groups that are furthest apart.
    """

    decoder: str
    is_plain: bool
    estimate: DifferenceEstimate


@dataclass(frozen=True)
class ChartPanel:
    """The marks of one axis, task and judge.

    Args:
        axis: the axis.
        task: the task.
        judge: the judge.
        groups: the names of the groups.
        rows: one row for each decoder.
    """

    axis: str
    task: str
    judge: str
    groups: Sequence[str]
    rows: Sequence[ChartRow]


@dataclass(frozen=True)
class Chart:
    """The panels of one kind, on one scale.

    Args:
        panels: one for each axis, task and judge.
        end: the right end of the scale, which begins at 0.
    """

    panels: Sequence[ChartPanel]
    end: float

    def percent(self, value: float) -> str:
        """Where a value is, in percent of the width."""
        return f"{100 * min(value / self.end, 1):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The numbers along the scale."""
        return [self.end * part / 2 for part in range(3)]


def chart(results: StudyResults) -> Chart:
    """The chart of the regard classifier, made invariant, and of what neutral prompts are followed by."""
    return _chart([r for r in results.judged if r.view == "mentions" or _is_invariant(r, results.classifier)])


def other_charts(results: StudyResults) -> Chart | None:
    """The chart of the further judges, made invariant; None without any."""
    others = {r.judge for r in results.judged} - {results.classifier, MENTIONS}
    chosen = [r for judge in sorted(others) for r in results.judged if _is_invariant(r, judge)]
    return _chart(chosen) if chosen else None


def _is_invariant(found: JudgeRecord, judge: str) -> bool:
    return found.view == "invariant" and found.judge == judge


def _chart(records: Sequence[JudgeRecord]) -> Chart:
    panels: dict[tuple[str, str, str], list[JudgeRecord]] = {}
    for found in records:
        panels.setdefault((found.axis, found.task, found.judge), []).append(found)
    largest = max(found.disparities[0].fractions.high for found in records)
    return Chart(
        [
            ChartPanel(
                *where,
                list(rows[0].by_group),
                [ChartRow(DECODERS[r.decoder], r.decoder == "plain", r.disparities[0].fractions) for r in rows],
            )
            for where, rows in panels.items()
        ],
        next((end for end in _ENDS if end >= largest), 1.0),
    )
