"""What `equilm check` prints and writes: the summary, JSON, and JUnit."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..metrics.gate_result import GateResult
from ..metrics.gate_server_result import ServerResult
from ..metrics.gate_words import words_of_other_axes
from ..words.axes import DemographicAxis

Result = GateResult | ServerResult
SCHEMA_VERSION = 1  # of docs/_static/check.schema.json
_VERDICTS = {"pass": "PASS", "fail": "FAIL", "unknown": "COULD NOT TELL"}


def write_json(judged: Result, beside: Result | None, axes: Sequence[DemographicAxis], path: Path) -> None:
    """Write all results, as `docs/_static/check.schema.json` describes them."""
    path.write_text(json.dumps(to_json(judged, beside, axes), indent=2, ensure_ascii=False) + "\n", "utf-8")


def to_json(judged: Result, beside: Result | None, axes: Sequence[DemographicAxis]) -> dict[str, Any]:
    """The outcome, the results of the judged model, and those of the one beside it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "outcome": judged.outcome,
        "axes": [axis.name for axis in axes],
        "uncovered_words": _uncovered(judged),
        "words_of_other_axes": words_of_other_axes((prompt.words for prompt in judged.prompts), axes),
        "judged": judged.to_dict(),
        "beside": None if beside is None else beside.to_dict(),
    }


def summary(judged: Result, beside: Result | None, axes: Sequence[DemographicAxis]) -> str:
    """The verdict, a table, the words that are not covered, and a line for each prompt that does not pass."""
    worse = [prompt for prompt in judged.prompts if prompt.outcome == judged.outcome]
    count = "" if judged.outcome == "pass" else f": {len(worse)} of {len(judged.prompts)} prompts"
    lines = [f"{_VERDICTS[judged.outcome]}{count} ({judged.model}, group of order {judged.order})", ""]
    if isinstance(judged, ServerResult):
        lines += _server_table(judged)
    else:
        assert isinstance(beside, GateResult)
        lines += _table(judged, beside)
    lines += _words(judged, axes)
    for prompt in judged.prompts:
        if prompt.outcome != "pass":
            label = "failed" if prompt.outcome == "fail" else "could not tell"
            lines.append(f"{label}: {prompt.prompt!r}: {'; '.join(prompt.reasons)}")
    return "\n".join(lines)


def _table(judged: GateResult, beside: GateResult) -> list[str]:
    limits, classifies = judged.thresholds, judged.kind == "classifier"
    gap = "change of a label's log-probability" if classifies else "gap of equation 4, nats, largest"
    lines = [f"{'':36}{'judged':>12}{'beside':>12}{'passes':>12}"]
    for label, values, limit in (
        (gap, (judged.gap, beside.gap), f"<= {limits.gap:g}"),
        ("next-word parity, nats, largest", (judged.parity, beside.parity), f"<= {limits.parity:g}"),
        ("words of the axes that are swapped", (judged.coverage, beside.coverage), f">= {limits.coverage:.0%}"),
    ):
        shown = ["-" if v is None else f"{v:.0%}" if "words" in label else f"{v:.2e}" for v in values]
        lines.append(f"{label:36}{shown[0]:>12}{shown[1]:>12}{limit:>12}")
    return [*lines, f"judged: {judged.model}; beside: {beside.model}"]


def _server_table(judged: ServerResult) -> list[str]:
    limit = f"<= {judged.thresholds.difference:.0%}"
    lines = [f"{'share of answers, largest difference':48}{'judged':>12}{'passes':>12}"]
    for label, value in (
        ("between the answers to different groups", judged.difference),
        ("between groups in answers that could name any", judged.parity),
    ):
        lines.append(f"{label:48}{'-' if value is None else f'{value:.0%}':>12}{limit:>12}")
    lines.append(
        f"{judged.answers} answers to each prompt and to each of its swaps: a true difference of "
        f"{judged.detectable:.0%} would have been found 4 times in 5."
    )
    return lines


def _words(judged: Result, axes: Sequence[DemographicAxis]) -> list[str]:
    words = [prompt.words for prompt in judged.prompts]
    lines = []
    if others := words_of_other_axes(words, axes):
        listed = ", ".join(f"{word} ({', '.join(names)})" for word, names in others.items())
        lines.append(f"not checked, as they belong to other axes: {listed}")
    if uncovered := _uncovered(judged):
        more = f", and {len(uncovered) - 20} more" if len(uncovered) > 20 else ""
        lines.append(f"in no list: {', '.join(uncovered[:20])}{more}")
    return lines


def _uncovered(judged: Result) -> list[str]:
    return list(dict.fromkeys(word for prompt in judged.prompts for word in prompt.words.uncovered))


def write_junit(judged: Result, path: Path) -> None:
    """Write a JUnit report for CI servers: a test case for each prompt, which passes, fails, or has an error."""
    outcomes = [prompt.outcome for prompt in judged.prompts]
    suite = ElementTree.Element(
        "testsuite",
        name=f"equilm check: {judged.model}",
        tests=str(len(outcomes)),
        failures=str(outcomes.count("fail")),
        errors=str(outcomes.count("unknown")),
    )
    for prompt in judged.prompts:
        case = ElementTree.SubElement(suite, "testcase", classname="equilm.check", name=_in_xml(prompt.prompt))
        if prompt.outcome != "pass":
            kind = "failure" if prompt.outcome == "fail" else "error"
            ElementTree.SubElement(case, kind, message=_in_xml("; ".join(prompt.reasons)))
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _in_xml(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)
