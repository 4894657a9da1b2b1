"""Every block of code in the documentation runs, without the Hub, and prints what the page says it prints."""

import doctest
import io
import json
import re
import runpy
import shlex
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import SkipTest

import huggingface_hub.constants
import pytest
from pages import DOCS, PAGES, ROOT, blocks, name, own_path

from equilm import DemographicAxis, loading
from equilm.cli import audit, models
from equilm.cli import main as cli
from equilm.loading import OFFLINE_MODEL_ID

pytest.importorskip("sybil", reason="needs equilm[docs]")
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

pytestmark = pytest.mark.slow

# Blocks that do not run here, by page, with the reason that the page gives. It may only become shorter.
NOT_RUN = {
    ("docs/tutorials/train-and-push.md", "needs an account on the Hub"),
    ("examples/openai_server/README.md", "needs a server at this address"),
}
NOTEBOOKS = sorted((ROOT / "examples").rglob("*.ipynb"))
LANGUAGES = {
    "python",
    "text",
    "console",
    "bash",
    "json",
    "{include}",
    "{literalinclude}",  # of examples, which have tests of their own
    "{toctree}",
    "",
}  # without one: in READMEs, not code


@pytest.fixture(scope="module")
def offline() -> Any:
    """The offline model and its tokenizer, ready to continue texts."""
    model, tokenizer = loading.load_offline_model()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return model, tokenizer


@pytest.fixture(scope="module")
def hub_cache(offline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the Hub in which the offline model stands under its Hub id, as if it had been downloaded."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / f"models--{OFFLINE_MODEL_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    model, tokenizer = offline
    model.save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return cache


class Completions(BaseHTTPRequestHandler):
    """Answers as a server of the OpenAI protocol does, women otherwise than men."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = " a nurse, and her husband" if "woman" in json.dumps(request) else " a driver, and his wife"
        chat = self.path.endswith("/chat/completions")
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        answer = {"object": "list", "choices": [{"index": 0, "finish_reason": "stop", **choice}]}
        body = json.dumps({"id": "1", "created": 0, "model": request["model"], **answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Nothing: requests are no news."""


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """The address of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Completions) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


class Page:
    """Runs the blocks of one page, one after the other, in one namespace.

    Args:
        path: the page.
        model: what the command line loads where no model is named.
    """

    def __init__(self, path: Path, model: Any):
        self.model = model
        self.printed: str | None = None  # by the last block
        self.not_run: list[str] = []
        evaluators = {"python": self._python, "text": self._text, "console": self._console, "json": self._json}
        parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
        self.document = Sybil([*parsers, SkipParser()]).parse(path)

    def run(self) -> None:
        """Run them all; what a block prints goes to the block of text after it."""
        for example in self.document.examples():
            self._evaluate(example)

    def _evaluate(self, example: Example) -> None:
        try:
            example.evaluate()
        except SkipTest as reason:
            self.not_run.append(str(reason))

    def _python(self, example: Example) -> None:
        output = io.StringIO()
        with redirect_stdout(output):
            PythonEvaluator()(example)
        self.printed = output.getvalue()

    def _text(self, example: Example) -> str | None:
        assert self.printed is not None, f"line {example.line}: a text block shows what the block before it prints"
        printed, self.printed = self.printed, None
        return differs(str(example.parsed), printed)

    def _console(self, example: Example) -> str | None:
        """Runs the `equilm` commands below which the page shows what they print."""
        for session in str(example.parsed).split("$ ")[1:]:
            command, _, expected = session.partition("\n")
            if not expected.strip():
                continue
            program, *arguments = shlex.split(command, comments=True)
            assert program == "equilm", f"line {example.line}: {command!r} is shown with output, but it is not run"
            output = io.StringIO()
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
                patch.setattr(models, "load_offline_model", lambda: self.model)
                patch.setattr(audit, "load_offline_tokenizer", lambda: self.model[1])
                assert cli.main(arguments) == 0
            if message := differs(expected, output.getvalue()):
                return message
        return None

    def _json(self, example: Example) -> None:
        DemographicAxis.from_dict(json.loads(example.parsed))  # axes are the only JSON that users write


def differs(expected: str, printed: str) -> str | None:
    """How what was printed differs from what the page says, where ``...`` stands for anything."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker, example = doctest.OutputChecker(), doctest.Example("", expected)
    if checker.check_output(example.want, printed, options):
        return None
    return checker.output_difference(example, printed, options | doctest.REPORT_NDIFF)


# What other libraries warn their own users about; all other warnings are errors, as everywhere.
@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
@pytest.mark.filterwarnings(r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated:FutureWarning")
@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page)], ids=name)
def test_blocks_run(
    path: Path, hub_cache: Path, server_url: str, offline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(loading, "load_offline_model", lambda: offline)  # unpacked once for all pages
    monkeypatch.chdir(tmp_path)
    page = Page(path, offline)
    page.run()
    assert {(name(path), reason) for reason in page.not_run} == {entry for entry in NOT_RUN if entry[0] == name(path)}
    assert len(page.not_run) == sum(entry[0] == name(path) for entry in NOT_RUN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_run_and_print_what_they_show(
    path: Path, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.chdir(tmp_path)
    notebook, runner = json.loads(path.read_text("utf-8")), runpy.run_path(str(ROOT / "examples" / "notebook.py"))
    for number, (shown, printed) in enumerate(zip(runner["stored"](notebook), runner["run"](notebook), strict=True)):
        assert differs(shown, printed) is None, f"cell {number}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_open_in_colab_and_were_run_in_order(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    first = "".join(notebook["cells"][0]["source"])
    assert f"https://colab.research.google.com/github/equilm/equilm/blob/main/{name(path)}" in first
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert "".join(code[0]["source"]).startswith("%pip install")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) > 5
    linked = re.findall(r"\((https://github\.com/[^)]+)\)", path.read_text("utf-8"))
    assert linked and all((ROOT / str(own_path(link))).is_file() for link in linked)


def test_every_language_is_known() -> None:
    """A block in a language that nothing here runs or parses would be skipped in silence."""
    found = [(name(page), block) for page in PAGES for block in blocks(page)]
    unknown = [(page, block) for page, block in found if block.language.partition(" ")[0] not in LANGUAGES]
    assert unknown == []


def test_pages_of_the_site_leave_no_block_without_a_language() -> None:
    """There, a block without a language could be anything."""
    bare = [(name(page), block.line) for page in PAGES for block in blocks(page) if page.is_relative_to(DOCS)
            and not block.language]  # fmt: skip
    assert bare == []


def run_text(tmp_path: Path, text: str) -> Page:
    path = tmp_path / "page.md"
    path.write_text(text, "utf-8")
    page = Page(path, None)
    page.run()
    return page


def test_a_failing_block_is_seen(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_text(tmp_path, "# A\n\n```python\n1 / 0\n```\n")
    with pytest.raises(AssertionError, match="did not evaluate as expected"):
        run_text(tmp_path, "# A\n\n```python\nprint(1)\n```\n\nwhich prints\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match="a text block shows"):
        run_text(tmp_path, "# A\n\n```text\n2\n```\n")


def test_a_block_that_does_not_run_is_counted(tmp_path: Path) -> None:
    page = run_text(tmp_path, '<!-- skip: next "needs a moon" -->\n\n```python\n1 / 0\n```\n\n```python\nx = 1\n```\n')
    assert page.not_run == ["needs a moon"] and page.document.namespace["x"] == 1
