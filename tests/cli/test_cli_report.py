"""`equilm report`: its options, what it refuses, and the same study from Python and from the command line."""

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study_models import classifier, models

from equilm import EquiLMError
from equilm.cli import report as command
from equilm.cli.parser import build_parser
from equilm.metrics import regard_loading
from equilm.study import Study
from equilm.study.run import run_study
from equilm.study.storage import read_header

SCRIPT = Path(__file__).parents[2] / "examples" / "regard_study" / "run.py"
PROMPTS = SCRIPT.with_name("age.txt")
SMALL = ("--axis", "race", "--task", "respect", "--decoder", "equilm", "--samples", "2", "--max-new-tokens", "3")


def report(*options: Any) -> None:
    command.run(build_parser().parse_args(["report", *map(str, options)]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    for part in models():
        part.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _without_a_real_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regard_loading, "load_classifier", lambda name: classifier())


def test_report(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "from the command line"
    report(*SMALL, "--model", model, "--output", output, "--sample-only")
    assert not (output / "index.html").exists() and capsys.readouterr().out == ""
    report(*SMALL, "--output", output, "--page-only")
    assert str(output / "index.html") in capsys.readouterr().out and (output / "index.html").exists()
    assert read_header(output).settings.model == str(model)
    before = (output / "results.json").read_bytes()
    report(*SMALL, "--model", model, "--output", output)
    assert (output / "results.json").read_bytes() == before, "all was there"

    study = Study(axes=("race",), tasks=("respect",), decoders=("equilm",), samples=2, max_new_tokens=3)
    results = run_study(study, *models(), tmp_path / "from Python", classifier(), name=str(model))
    assert results is not None and json.loads(json.dumps(results.to_dict()))["judged"] == json.loads(before)["judged"]


def test_own_prompts(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The {group} person worked as\n\nThe doctor was\n", "utf-8")
    own = ("--axis", "race3", "--groups", "Black", "Asian", "--prompts", prompts, "--output", tmp_path / "own")
    report(*own, "--model", model, "--samples", 2, "--max-new-tokens", 3)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Plain fails; EquiLM and Sequence level on text pass."
    html = (tmp_path / "own" / "index.html").read_text("utf-8")
    assert "race3 (Black, Asian)" in html and told[0] in html
    report(*own, "--samples", 2, "--max-new-tokens", 3, "--page-only")
    assert (tmp_path / "own" / "index.html").read_text("utf-8") == html


def test_the_number_of_texts_follows_the_number_of_prompts() -> None:
    def samples(*options: Any) -> tuple[int, tuple[str, ...]]:
        study = command.study_of(build_parser().parse_args(["report", *map(str, options)]))
        return study.samples, tuple(study.decoders)

    assert samples() == (100, ("plain", "equilm", "r-equilm", "sequence"))
    assert samples("--axis", "age") == (100, ("plain", "equilm", "text"))
    assert samples("--axis", "age", "--prompts", PROMPTS) == (20, ("plain", "equilm", "text"))
    assert samples("--axis", "age", "--prompts", PROMPTS, "--samples", 3, "--decoder", "text") == (3, ("text",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--blocks", "3"), "need --perplexity"),
        (("--perplexity-results", __file__), "need --perplexity"),
        (("--page-only", "--model", "gpt2"), "--page-only runs no model"),
        (("--page-only", "--perplexity", "wikitext-2-raw"), "--page-only runs no model"),
        (("--axis", "agee"), "No axis 'agee': expected one of the built-in names"),
        (("--prompts", PROMPTS), "--prompts and --groups need --axis"),
        (("--groups", "young", "old"), "--prompts and --groups need --axis"),
        (("--axis", "age", "--prompts", PROMPTS, "--task", "respect"), "--task chooses among the paper's prompts"),
        (("--axis", "age", "--axis", "race", "--groups", "a", "b"), "are those of one axis, but there are 2"),
        (("--judge", "/nowhere"), "The judge '/nowhere' cannot be loaded"),
        (("--page-only", "--output", "/nowhere"), "There are no texts of a study in /nowhere"),
    ],
)
def test_errors(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        report(*options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", "0"), "--samples: '0' is not a whole number of at least 1"),
        (("--prompts", "/nowhere.txt"), "--prompts: there is no file '/nowhere.txt'"),
        (("--task", "hobby"), "--task: invalid choice: 'hobby'"),
        (("--decoder", "EquiLM"), "--decoder: invalid choice: 'EquiLM'"),
        (("--sample-only", "--page-only"), "--page-only: not allowed with argument --sample-only"),
    ],
)
def test_unknown_names(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        report(*options)
    assert f"argument {message}" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["matplotlib", "accelerate"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    original: Any = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return original(name, *arguments)

    for name in [
        name
        for name in sys.modules
        if name.startswith("equilm.study.") and not name.endswith((".cells", ".study_plan", ".prompts", ".own_prompts"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EquiLMError, match=rf"equilm report needs {package}. Run: pip install 'equilm\[study\]'"):
        report(*SMALL)


@pytest.mark.slow
def test_the_command_itself_needs_no_extra() -> None:
    code = "import sys, equilm.cli.report; sys.exit('equilm.study.run' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_the_script_refuses_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--page-only", "--classifier", "packaged", "--output", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("There are no texts of a study in")
