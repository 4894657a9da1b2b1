"""`equilm check`: a gate for CI. Exit code 0: the model passes; 1: it fails; 2: the check could not be made."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..loading import is_saved_wrapped
from ..metrics.gate import GateResult, Thresholds, check_prompts
from ..metrics.group_fairness import own_action
from .models import load_fair
from .parser import read_prompts


def run(arguments: argparse.Namespace) -> int:
    """Run `equilm check` and return the exit code.

    Raises:
        EquiLMError: if the check cannot be made, for instance for axes that the model was not wrapped with, or for a
            model that cannot be loaded.
    """
    prompts = read_prompts(arguments)
    thresholds = Thresholds(gap=arguments.max_gap, parity=arguments.max_parity, coverage=arguments.min_coverage)
    saved_wrapped = is_saved_wrapped(arguments.model)
    model, tokenizer = load_fair(arguments)
    action = own_action(model, tokenizer)
    name = arguments.model or "the offline model"

    def check(checked: PreTrainedModel, label: str) -> GateResult:
        return check_prompts(
            checked,
            tokenizer,
            action,
            prompts,
            name=f"{name}, {label}",
            thresholds=thresholds,
            num_continuations=arguments.num_continuations,
            max_new_tokens=arguments.max_new_tokens,
            seed=arguments.seed,
            progress=not arguments.quiet,
        )

    fair, plain = check(model, "wrapped"), check(model.language_model, "plain")
    judged, beside = (fair, plain) if saved_wrapped or arguments.wrap else (plain, fair)
    print(summary(judged, beside))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(to_json(judged, beside), indent=2, ensure_ascii=False) + "\n", "utf-8")
    if arguments.junit is not None:
        write_junit(judged, arguments.junit)
    return 0 if judged.passed else 1


def to_json(judged: GateResult, beside: GateResult) -> dict[str, Any]:
    """The content of ``--json``: whether the model passes, its results, and those of the model beside it."""
    return {"passed": judged.passed, "judged": judged.to_dict(), "beside": beside.to_dict()}


def summary(judged: GateResult, beside: GateResult) -> str:
    """The verdict, a table of the two models, and a line for each prompt that fails."""
    failed = [prompt for prompt in judged.prompts if not prompt.passed]
    verdict = "PASS" if judged.passed else f"FAIL: {len(failed)} of {len(judged.prompts)} prompts"
    lines = [f"{verdict} ({judged.model}, group of order {judged.order})", ""]
    lines.append(f"{'':34}{'judged':>12}{'beside':>12}{'passes':>12}")
    limits = judged.thresholds
    for label, values, limit in (
        ("gap of equation 4, nats, largest", (judged.gap, beside.gap), f"<= {limits.gap:g}"),
        ("next-word parity, nats, largest", (judged.parity, beside.parity), f"<= {limits.parity:g}"),
        ("words of the prompts covered", (judged.coverage, beside.coverage), f">= {limits.coverage:.0%}"),
    ):
        shown = ["-" if v is None else f"{v:.0%}" if "words" in label else f"{v:.2e}" for v in values]
        lines.append(f"{label:34}{shown[0]:>12}{shown[1]:>12}{limit:>12}")
    lines.append(f"judged: {judged.model}; beside: {beside.model}")
    lines += [f"failed: {prompt.prompt!r}: {'; '.join(prompt.reasons)}" for prompt in failed]
    return "\n".join(lines)


def write_junit(judged: GateResult, path: Path) -> None:
    """Write a JUnit report for CI servers, with one test case for each prompt."""
    failed = [prompt for prompt in judged.prompts if not prompt.passed]
    suite = ElementTree.Element(
        "testsuite", name=f"equilm check: {judged.model}", tests=str(len(judged.prompts)), failures=str(len(failed))
    )
    for prompt in judged.prompts:
        case = ElementTree.SubElement(suite, "testcase", classname="equilm.check", name=prompt.prompt)
        if not prompt.passed:
            ElementTree.SubElement(case, "failure", message="; ".join(prompt.reasons))
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
