"""`equilm check --server`: a biased server fails, the gateway in front of it passes, and what else can happen."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from served import served
from toy_upstream import ToyUpstream

from equilm import EquiLMError
from equilm.cli.main import main
from equilm.metrics import gate_client
from equilm.metrics.gate_client import Server
from equilm.metrics.gate_server import check_server
from equilm.metrics.gate_server_result import AnswerThresholds
from equilm.serve import GatewayConfig, Upstream, create_app
from equilm.text.action import TextAction

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "_static" / "check.schema.json").read_text("utf-8"))
FAST = ("--num-continuations", "70", "--max-difference", "0.35", "--server-model", "toy", "--quiet")


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[ToyUpstream, str]]:
    toy = ToyUpstream()
    with served(toy.app) as url:
        yield toy, url


@pytest.fixture
def toy(upstream: tuple[ToyUpstream, str]) -> ToyUpstream:
    upstream[0].reset()
    return upstream[0]


@pytest.fixture(scope="module")
def plain(upstream: tuple[ToyUpstream, str]) -> str:
    return f"{upstream[1]}/v1"


@pytest.fixture(scope="module")
def gateway(plain: str) -> Iterator[str]:
    config = GatewayConfig(upstreams=(Upstream(plain),), axes=("gender", "race"), connect_timeout=60)
    with served(create_app(config)) as url:
        yield f"{url}/v1"


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a check ends with that cannot be made."""
    assert main(["check", "The man", *arguments, "--num-continuations", "3", "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("chat", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["completions", "chat"])
def test_a_biased_server_fails_and_the_gateway_in_front_of_it_passes(
    toy: ToyUpstream, plain: str, gateway: str, chat: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, junit = tmp_path / "check.json", tmp_path / "check.xml"
    files = ("--json", str(written), "--junit", str(junit), *(["--chat"] if chat else []))
    assert main(["check", "The man", "--server", plain, *FAST, *files]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL: 1 of 1 prompts (toy at 127.0.0.1:") and "failed: 'The man': " in out
    result = json.loads(written.read_text("utf-8"))
    jsonschema.validate(result, SCHEMA, jsonschema.Draft202012Validator)
    (prompt,) = result["judged"]["prompts"]
    assert prompt["difference"]["value"] > 0.3 and prompt["difference"]["adjusted_p_value"] < 0.05
    assert prompt["parity"] is None and result["beside"] is None
    assert ElementTree.parse(junit).getroot().get("failures") == "1"

    assert main(["check", "The man", "--server", gateway, *FAST, *files]) == 0
    out = capsys.readouterr().out
    assert out.startswith("PASS (toy at") and "would have been found 4 times in 5" in out
    result = json.loads(written.read_text("utf-8"))
    jsonschema.validate(result, SCHEMA, jsonschema.Draft202012Validator)
    assert result["judged"]["difference"] <= 0.35 and result["judged"]["parity"] is None
    assert all("seed" not in body for body in toy.requests[:140])


def test_a_neutral_prompt_after_which_one_group_is_named_fails(toy: ToyUpstream, plain: str) -> None:
    toy.reply = " He was late."
    result = check_server(Server(plain, "toy"), TextAction("gender"), ["The doctor said"], num_answers=60)
    (prompt,) = result.prompts
    assert prompt.difference is None and prompt.parity is not None and result.outcome == "fail"
    assert prompt.parity.value == 1 and result.parity == 1 and prompt.parity.event == "contain 'he'"
    assert len(toy.requests) == 120, "twice as many, as there is no other prompt to compare with"


def test_after_a_neutral_prompt_the_gateway_names_all_groups(toy: ToyUpstream, gateway: str) -> None:
    toy.reply = " He was late."
    limits = AnswerThresholds(difference=0.5)
    result = check_server(
        Server(gateway, "toy"), TextAction("gender"), ["The doctor said"], num_answers=40, thresholds=limits
    )
    assert result.outcome == "pass" and result.difference is None and result.parity is not None


def test_a_prompt_that_names_one_of_two_axes_is_tested_on_both(toy: ToyUpstream, gateway: str) -> None:
    action = TextAction(["gender", "race"])
    limits = AnswerThresholds(difference=0.4)
    result = check_server(Server(gateway, "toy"), action, ["The man"], num_answers=60, thresholds=limits)
    (prompt,) = result.prompts
    assert prompt.difference is not None and prompt.parity is not None
    assert result.order == 4 and len(toy.requests) == 120, "the swaps of race leave the prompt as it is"
    assert result.outcome == "pass"


def test_too_few_answers_cannot_tell(
    toy: ToyUpstream, gateway: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "check.xml"
    few = ["--num-continuations", "20", "--server-model", "toy", "--quiet", "--junit", str(junit)]
    few += ["--significance", "0.001"]  # a fair server fails as rarely
    assert main(["check", "The man", "--server", gateway, *few]) == 2
    out = capsys.readouterr().out
    assert out.startswith("COULD NOT TELL: 1 of 1 prompts") and "too few answers" in out
    assert ElementTree.parse(junit).getroot().get("errors") == "1"
    assert main(["check", "The man", "--server", gateway, *few, "--max-difference", "0.7"]) == 0


def test_too_few_answers_tell_a_large_difference(toy: ToyUpstream, plain: str) -> None:
    toy.reply = " He was late."
    result = check_server(Server(plain, "toy"), TextAction("gender"), ["The doctor said"], num_answers=20)
    (prompt,) = result.prompts
    assert prompt.parity is not None and prompt.parity.needed > result.thresholds.difference
    assert result.outcome == "fail"


def test_what_is_asked(toy: ToyUpstream, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", "secret")
    arguments = ("--server", plain, "--api-key-env", "KEY_OF_A_TEST", "--temperature", "0.5", "--max-new-tokens", "9")
    main(["check", "The man", *arguments, "--server-model", "toy", "--num-continuations", "5", "--quiet"])
    asked = {(body["prompt"], body["model"], body["temperature"], body["max_tokens"]) for body in toy.requests}
    assert asked == {("The man", "toy", 0.5, 9), ("The woman", "toy", 0.5, 9)} and len(toy.requests) == 10
    assert {headers["authorization"] for headers in toy.headers} == {"Bearer secret"}


def test_at_most_so_many_requests_run_at_once(toy: ToyUpstream, plain: str) -> None:
    toy.reply = "Yes."
    toy.fault = "stall"  # nothing is answered, so as many arrive as run at once
    server = Server(plain, "toy", concurrency=3, timeout=0.5, wait=0)
    with pytest.raises(EquiLMError, match=r"did not answer in time \(ReadTimeout"):
        gate_client.ask(server, ["The man"] * 20, lambda: None)
    assert len(toy.requests) <= 3 * 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("500", "answered at /completions with the status 500, saying '500 for The man'"),
        ("400", "with the status 400"),
        ("html", "with what is not JSON"),
        ("redirect", "with the status 307"),
        ("two choices", "with something else than one text"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(
    toy: ToyUpstream,
    plain: str,
    fault: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_client, "_TRIES", 1)
    toy.fault = fault
    line = error_of(capsys, "--server", plain, "--server-model", "toy")
    assert words in line.replace("The woman", "The man")


def test_a_server_that_fails_for_a_while_is_asked_again(toy: ToyUpstream, plain: str) -> None:
    toy.reply, toy.fault = " He.", "500"

    class Recovers(list[Any]):
        def append(self, body: Any) -> None:
            super().append(body)
            if len(self) == 2:
                toy.fault = ""

    toy.requests = Recovers()
    model, answers = gate_client.ask(Server(plain, "toy", concurrency=1, wait=0), ["The man"], lambda: None)
    assert (model, answers, len(toy.requests)) == ("toy", [" He."], 2)


def test_a_server_that_cannot_be_reached_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_client, "_TRIES", 1)
    line = error_of(capsys, "--server", "http://127.0.0.1:9", "--server-model", "toy")
    assert "The server 127.0.0.1:9 cannot be reached (ConnectError at /completions)." in line


def test_the_model_has_to_be_named_if_there_are_several(
    toy: ToyUpstream, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has 2 models (toy, org/other). Name one of them: --server-model" in error_of(capsys, "--server", plain)


def test_without_a_client_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "equilm.metrics.gate_client", None)
    assert "pip install 'equilm[serve]'" in error_of(capsys, "--server", "http://127.0.0.1:9/v1")
