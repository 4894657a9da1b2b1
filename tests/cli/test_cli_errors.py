"""What a user can get wrong at the command line: one line on standard error, the right exit code, never a traceback."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_models import saved_word_model, word_tokenizer

import equilm_command
from equilm.cli.main import main
from equilm.cli.parser import PAPER_AXES, build_parser
from equilm.study import DECODERS, Study
from equilm.study.prompts import CONTEXTS, GROUPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_word_model(tmp_path_factory.mktemp("model"))


def code_and_lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, list[str]]:
    """The exit code and the lines on standard error, without argparse's usage lines."""
    code: object
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines), lines
    return code, [line for line in lines if line.startswith("equilm") and "usage:" not in line]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", ""), "a prompt is empty"),
        (("generate",), "There is no prompt"),
        (("generate", "x", "--max-new-tokens", "0"), "'0' is not a whole number of at least 1"),
        (("generate", "x", "--max-new-tokens", "-3"), "'-3' is not a whole number of at least 1"),
        (("generate", "x", "--num-beams", "0"), "'0' is not a whole number of at least 1"),
        (("generate", "x", "--temperature", "0"), "'0' is not a number above 0"),
        (("generate", "x", "--temperature", "nan"), "'nan' is not a number above 0"),
        (("generate", "x", "--top-k", "-1"), "'-1' is not a whole number of at least 0"),
        (("generate", "x", "--top-p", "1.5"), "'1.5' is not a number above 0 and at most 1"),
        (("generate", "x", "--seed", "-1"), "'-1' is not a whole number from 0 to 4294967295"),
        (("generate", "x", "--batch-size", "0"), "'0' is not a whole number of at least 1"),
        (("generate", "x", "--device", "gpu"), "'gpu' is not a device"),
        (("generate", "x", "--device", "cuda:99"), "This machine has no device 'cuda:99'"),
        (
            (
                "generate",
                "\ud800",
            ),
            "is not valid Unicode",
        ),
        (("generate", "--prompts", "/no/such/file"), "there is no file '/no/such/file'"),
        (("generate", "x", "--output", "/no/such/folder/out"), "the folder '/no/such/folder' does not exist"),
        (("generate", "x", "--model", ""), "the name is empty"),
        (("generate", "x", "--plain", "--compare"), "not allowed with"),
        (("report", "--samples", "0"), "'0' is not a whole number of at least 1"),
        (("push", "--output", __file__), "cannot be a folder"),
        (("push", "--output", f"{__file__}/deeper"), "cannot be a folder"),
        (("report", "--output", __file__), "cannot be a folder"),
        (("audit", "--axis", "shoe size"), "No axis 'shoe size'"),
        (("polish",), "invalid choice: 'polish'"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_value_is_named(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    code, lines = code_and_lines(capsys, *arguments)
    assert code == 2 and len(lines) == 1 and words in lines[0], lines


def test_folders_and_files_that_are_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no tokenizer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "no tokenizer" / name).write_bytes((Path(folder) / name).read_bytes())
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"model_type": "gpt2"')
    for model, words in (
        (tmp_path / "empty", "contains no model: it has no config.json"),
        (Path(folder) / "config.json", "is a file: give the folder"),
        (tmp_path / "no tokenizer", ""),
        (tmp_path / "torn", ""),
    ):
        code, lines = code_and_lines(capsys, "generate", "x", "--model", str(model))
        assert code == 2 and len(lines) == 1 and words in lines[0], lines


def test_a_model_of_another_kind_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    code, lines = code_and_lines(capsys, "generate", "x", "--model", str(tmp_path))
    assert code == 2 and len(lines) == 1 and "DynamicCache" not in lines[0] and "BERT" in lines[0].upper(), lines


def test_a_text_that_is_too_short_is_found_before_the_work(
    capsys: pytest.CaptureFixture[str], folder: str, tmp_path: Path
) -> None:
    text = tmp_path / "short.txt"
    text.write_text("The man said that the woman was here. " * 10)
    started = time.monotonic()
    code, lines = code_and_lines(
        capsys, "push", "--model", folder, "--output", str(tmp_path / "out"), "--data", str(text), "--blocks", "2000"
    )
    assert code == 2 and "211 tokens, fewer than one block" in lines[0] and time.monotonic() - started < 60


def test_an_interrupt_is_exit_code_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equilm.cli.audit.run", interrupted)
    assert main(["audit"]) == 130
    assert capsys.readouterr().err == "equilm: interrupted\n"


def test_an_unforeseen_error_is_one_line_and_a_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_arguments: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("equilm.cli.audit.run", torn)
    assert main(["audit"]) == 2
    assert capsys.readouterr().err == "equilm: RuntimeError: two lines\n"
    with pytest.raises(RuntimeError, match="two"):
        main(["audit", "--traceback"])


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(folder: str) -> None:
    audit = f"{sys.executable} -m equilm.cli.main audit --model {folder}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {audit} | true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Broken pipe" not in done.stderr, done.stderr


word = st.one_of(
    st.sampled_from(
        ["generate", "audit", "demo", "report", "push", "--model", "--axis", "--seed", "--top-p", "-", "--"]
    ),
    st.text(max_size=5),
    st.integers(-3, 3).map(str),
)


@settings(max_examples=100)
@given(st.lists(word, max_size=5))
def test_random_command_lines_end_in_an_exit_code(words: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        build_parser().parse_args(words)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['equilm', sys.argv[1], '--help']\n"
        "import equilm_command\n"
        "try: equilm_command.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    for command, default in (("generate", "(default: 40)"), ("report", "(default: 15)")):  # of --max-new-tokens
        done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and default in " ".join(done.stdout.split()), done.stderr


def test_the_program_runs_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["equilm", "audit", "--model", folder, "--axis", "race"])
    assert equilm_command.main() == 0
    assert "race: 2 of 2 lists mapped" in capsys.readouterr().out


def test_the_parsers_choices_are_the_packages() -> None:
    parser, study = build_parser(), Study()
    given_nothing = parser.parse_args(["report"])
    for name in ("max_new_tokens", "top_k", "seed"):
        assert getattr(given_nothing, name) == getattr(study, name)
    assert set(PAPER_AXES) == set(GROUPS)
    for option, choices in (("--task", CONTEXTS), ("--decoder", DECODERS)):
        for choice in choices:
            parser.parse_args(["report", option, choice])
