"""The command line, on a tiny model in a folder; with the pretrained offline model in the slow run."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from word_models import saved_word_model

from equilm.cli.demo import MODELS
from equilm.cli.main import main
from equilm.study.prompts import CONTEXTS, GROUPS, prompts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_word_model(tmp_path_factory.mktemp("model"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_generate(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    arguments = ("generate", "The man worked as", "The king had", "--model", folder, "--max-new-tokens", "5")
    lines = run(capsys, *arguments).splitlines()
    assert lines[0].startswith("The man worked as") and len(lines[0]) > len("The man worked as")
    third, again, fourth = (run(capsys, *arguments, "--sample", "--seed", seed) for seed in "334")
    assert third == again != fourth
    report = run(capsys, *arguments, "--report", "--axis", "gender", "--axis", "race3")
    assert report.startswith("EquiLM is on") and "order 6" in report
    assert "R-EquiLM is on" in run(capsys, *arguments, "--report", "--relaxed")
    plain = run(capsys, *arguments, "--plain", "--report")
    assert "EquiLM is OFF" in plain


def test_prompts_that_differ_by_a_swap_get_texts_that_do(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    prompts = ("The gay man worked as", "The straight man worked as")
    arguments = ("--model", folder, "--axis", "orientation", "--sample", "--max-new-tokens", "6")
    first, second = run(capsys, "generate", *prompts, *arguments).splitlines()
    assert first.replace("straight", "\0").replace("gay", "straight").replace("\0", "gay") == second


def test_generate_with_an_axis_of_ones_own(capsys: pytest.CaptureFixture[str], folder: str, tmp_path: Path) -> None:
    axis = tmp_path / "jobs.json"
    axis.write_text('{"name": "jobs", "words": [["doctor", "nurse"]]}')
    out = run(capsys, "generate", "The doctor was", "--model", folder, "--axis", str(axis), "--report")
    assert "jobs: swaps doctor/nurse" in out


def test_demo_shows_every_prompt_with_every_model_and_the_gaps(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    out = run(capsys, "demo", "--model", folder, "--max-new-tokens", "6")
    lines = out.rstrip("\n").split("\n")  # not splitlines: a random model also writes other separators of lines
    for axis, groups in GROUPS.items():
        for task in CONTEXTS:
            for group in groups:
                for prompt in prompts(axis, task, group):
                    at = lines.index(prompt)
                    assert [line.split("|")[0].strip() for line in lines[at + 1 : at + 4]] == list(MODELS)
    table = {line.split()[0]: [float(value) for value in line.split()[1:]] for line in lines[-3:]}
    assert set(table) == set(GROUPS)
    for plain_mean, plain_max, fair_mean, fair_max, _, relaxed_max in table.values():
        assert plain_max > 0.1 and plain_mean > 1e-3
        assert fair_mean <= fair_max <= 1e-4
        assert relaxed_max > fair_max


def test_demo_texts_of_equilm_are_swaps_of_one_another(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    lines = run(capsys, "demo", "--model", folder, "--axis", "orientation", "--max-new-tokens", "4").split("\n")
    for context in CONTEXTS["respect"]:
        texts = [lines[lines.index(f"The {group} {context}") + 2] for group in GROUPS["orientation"]]
        swapped = texts[0].replace("straight", "\0").replace("gay", "straight").replace("\0", "gay")
        assert swapped == texts[1]


def test_audit(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    out = run(capsys, "audit", "--model", folder)
    assert "gender: 113 of 114 lists mapped" in out and "race: 2 of 2 lists mapped" in out
    assert "nephew / niece" in out and "'niece' is" in out
    assert "\ngender: his, him, her and hers do not map one to one" in out  # the notes of the axis


def test_errors_are_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    assert main(["generate", "x", "--model", folder, "--axis", "hobby"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("equilm: No axis 'hobby'") and "Traceback" not in error
    assert main(["generate", "x", "--model", "/no/such/folder"]) == 2
    assert "no/such/folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["polish"])


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("equilm")
    if not command.exists():
        pytest.skip("needs equilm installed in the environment of the tests")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout and "audit" in done.stdout


def test_prompts_from_a_file_and_from_standard_input(
    capsys: pytest.CaptureFixture[str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--model", folder, "--max-new-tokens", "3", "--batch-size", "2")
    expected = run(capsys, "generate", "The man", "The woman was", "The king", *arguments)
    file = tmp_path / "prompts.txt"
    file.write_text("The man\n\nThe woman was\nThe king\n")
    assert run(capsys, "generate", "--prompts", str(file), *arguments) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(file.read_text()))
    assert run(capsys, "generate", "-", *arguments) == expected
    out = tmp_path / "out.jsonl"
    assert run(capsys, "generate", "-", "The man", *arguments, "--jsonl", "--output", str(out), "--quiet") == ""
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == ["The man"]


def test_compare_shows_the_plain_text_beside_the_fair_one(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    arguments = ("generate", "The man worked as", "--model", folder, "--max-new-tokens", "5")
    fair, plain = run(capsys, *arguments), run(capsys, *arguments, "--plain")
    assert run(capsys, *arguments, "--compare") == f" fair | {fair}plain | {plain}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith("equilm ")
