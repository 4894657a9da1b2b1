"""The verdict of a study: which decoders pass on which axis, and why the others fail."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics.gate_result import Thresholds
from .cells import DECODERS, PAIRED
from .records import JudgeRecord, StudyResults
from .scoring import MENTIONS

# As in `equilm check`, in nats per token.
GAP_LIMIT = Thresholds().gap

# A difference counts as seen if its corrected p-value is below this.
LEVEL = 0.05


@dataclass(frozen=True)
class Finding:
    """Whether one decoder passes on one axis.

    Args:
        decoder: the decoder.
        axis: the axis.
        passed: whether it passes.
        reasons: why it fails, the most important reason first; empty if it passes.
    """

    decoder: str
    axis: str
    passed: bool
    reasons: Sequence[str]


def verdict(results: StudyResults) -> list[Finding]:
    """The findings for each decoder and axis. A decoder passes on an axis if both of these hold:

    1. Equation 4: on its texts, the gap is at most `GAP_LIMIT`. The other group's prompt counts as it is written, so a
       decoder that does not swap its words fails.
    2. Judges: no invariant judge sees a difference between groups, and after neutral prompts no group is named more
       often, in any task. A difference counts if its p-value, times the number of comparisons, is below `LEVEL`.
    """
    return [_finding(results, decoder, axis) for decoder in results.study.decoders for axis in results.study.axes]


def comparisons(results: StudyResults) -> int:
    """The number of tests that each decoder has to pass, by which p-values are multiplied."""
    decoder = results.study.decoders[0]
    return sum(len(found.disparities) for found in results.judged if found.decoder == decoder and counts(found))


def counts(found: JudgeRecord) -> bool:
    """Whether a judge's record decides the verdict: the others contain the judge's own bias."""
    return found.view in ("invariant", "mentions")


def headline(results: StudyResults) -> str:
    """The verdict in one sentence."""
    findings = verdict(results)
    passes = [d for d in results.study.decoders if all(f.passed for f in findings if f.decoder == d)]
    fails = [d for d in results.study.decoders if not any(f.passed for f in findings if f.decoder == d)]
    mixed = [d for d in results.study.decoders if d not in passes and d not in fails]
    told = [
        f"{_listed([DECODERS[d] for d in chosen])} {verb if len(chosen) == 1 else plural}"
        for chosen, verb, plural in (
            (fails, "fails", "fail"),
            (mixed, "passes on some axes only", "pass on some axes only"),
            (passes, "passes", "pass"),
        )
        if chosen
    ]
    return "; ".join(told) + "."


def changes(results: StudyResults) -> list[str]:
    """A sentence for each axis: how far apart the groups are where the plain model has them furthest apart."""
    sentences = []
    for axis in results.study.axes:
        found = [
            r for r in results.judged if r.axis == axis and counts(r) and r.judge in (results.classifier, MENTIONS)
        ]
        plain = [r for r in found if r.decoder == "plain"]
        if not plain or len(results.study.decoders) == 1:
            continue
        worst = max(plain, key=lambda record: record.disparities[0].fractions.value)
        told = [
            f"{DECODERS[r.decoder]} {r.disparities[0].fractions.value:.3f}"
            for r in found
            if (r.task, r.view) == (worst.task, worst.view)
        ]
        sentences.append(f"{axis}, {worst.task}: {', '.join(told)} apart")
    return sentences


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _finding(results: StudyResults, decoder: str, axis: str) -> Finding:
    number, reasons = comparisons(results), []
    (gap,) = [gap for gap in results.gaps if (gap.decoder, gap.axis) == (decoder, axis)]
    if gap.largest > GAP_LIMIT:
        skipped = [p for p in results.pairs if (p.decoder, p.axis) == (decoder, axis) and p.promised < p.pairs]
        why = ", as it does not swap the words of all prompts" if skipped and decoder in PAIRED else ""
        reasons.append(f"swapping the group changes a probability by up to {gap.largest:.3g} nats per token{why}")
    seen = [
        (pair.fractions.value, found, min(1.0, pair.fractions.p_value * number))
        for found in results.judged
        if (found.decoder, found.axis) == (decoder, axis) and counts(found)
        for pair in found.disparities
        if pair.fractions.p_value * number < LEVEL
    ]
    for value, found, p_value in sorted(seen, key=lambda entry: -entry[0]):
        test = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        what = "one group is named more often" if found.judge == MENTIONS else f"the groups are {value:.3f} apart"
        reasons.append(f"{what} in {found.task}{'' if found.judge == MENTIONS else f' ({found.judge})'}, {test}")
    return Finding(decoder, axis, not reasons, reasons)
