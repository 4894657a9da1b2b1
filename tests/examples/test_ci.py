"""The examples for continuous integration: the workflow's command exists, and the tests run as they stand."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from word_models import saved_word_model, word_tokenizer

from equilm import EquiLMForCausalLM
from equilm.cli.parser import build_parser, read_prompts

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"


def test_the_workflow_checks_and_keeps_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow: dict[Any, Any] = yaml.safe_load((EXAMPLES / "fairness.yml").read_text("utf-8"))
    steps = workflow["jobs"]["check"]["steps"]
    (command,) = [shlex.split(step["run"]) for step in steps if "equilm check" in step.get("run", "")]
    monkeypatch.chdir(EXAMPLES)  # its prompts are there
    arguments = build_parser().parse_args(command[1:])
    assert command[0] == "equilm" and arguments.command == "check" and len(read_prompts(arguments)) == 4
    (upload,) = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()"
    assert upload["with"]["path"].split() == [str(arguments.json), str(arguments.junit)]
    assert workflow[True] == ["push", "pull_request"]  # YAML reads the key "on" as a boolean


@pytest.mark.slow
def test_the_example_of_tests_passes_a_fair_model_and_fails_a_plain_one(tmp_path: Path) -> None:
    command = shutil.which("equilm", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("needs equilm installed in the environment of the tests")
    plain, fair = saved_word_model(tmp_path / "plain"), tmp_path / "fair"
    EquiLMForCausalLM.from_base(plain).save_pretrained(fair)
    word_tokenizer().save_pretrained(fair)
    for name in ("test_fairness.py", "prompts.txt"):
        shutil.copy(EXAMPLES / name, tmp_path)
    environment = {**os.environ, "PATH": f"{Path(command).parent}{os.pathsep}{os.environ['PATH']}"}
    for model, code, words in ((fair, 0, "4 passed"), (plain, 1, "4 failed")):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_fairness.py"],
            cwd=tmp_path,
            env={**environment, "FAIRNESS_MODEL": str(model)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code and words in done.stdout, done.stdout + done.stderr
    assert "gap of equation 4" in done.stdout
