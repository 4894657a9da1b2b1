"""The gateway over HTTP: what is sent, what comes back, what is refused, and what happens when upstream fails."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from toy_upstream import ToyUpstream

from equilm.serve import Upstream
from equilm.text.action import TextAction

GENDER = TextAction("gender")
Make = Callable[..., str]


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": text}], **fields}


def post(url: str, body: Any, path: str = "chat/completions", **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/{path}", json=body, headers=headers, timeout=30)


def events(response: httpx.Response) -> list[Any]:
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def streamed_text(response: httpx.Response, index: int = 0) -> str:
    parts = [event["choices"][0] for event in events(response) if event != "[DONE]" and event.get("choices")]
    mine = [part for part in parts if part["index"] == index]
    return "".join(part["delta"].get("content", "") if "delta" in part else part["text"] for part in mine)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_each_choice_is_its_own_request_swapped_and_swapped_back(
    url: str, toy: ToyUpstream, stream: bool, path: str
) -> None:
    toy.reply = " The man took his coat and gave her the key. He"
    body = chat("The man", n=6, stream=stream, seed=3)
    if path == "completions":
        body["prompt"] = body.pop("messages")[0]["content"]
    response = post(url, body, path, **{"X-Equilm-Return-Elements": "true"})
    elements = [int(g) for g in response.headers["x-equilm-elements"].split(",")]
    assert response.headers["x-equilm-axes"] == "gender"
    assert len(toy.requests) == 6 and set(elements) == {0, 1}
    sent = Counter(request.get("prompt") or request["messages"][0]["content"] for request in toy.requests)
    assert sent == Counter(GENDER.act("The man", g) for g in elements)
    assert len({request["seed"] for request in toy.requests}) == 6
    for index, g in enumerate(elements):
        wanted = GENDER.act(toy.reply, g)
        if stream:
            assert streamed_text(response, index) == wanted
        else:
            choice = response.json()["choices"][index]
            assert choice["index"] == index
            assert (choice["message"]["content"] if path.startswith("chat") else choice["text"]) == wanted
    assert not stream or events(response)[-1] == "[DONE]"


def test_everything_that_holds_text_is_swapped_and_nothing_else(url: str, toy: ToyUpstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://x/man.png"}}
    call = {"id": "man", "type": "function", "function": {"name": "ask", "arguments": '{"who": "\\nman"}'}}
    schema = {"type": "object", "properties": {"man": {"enum": ["he", "it"], "type": "string"}}, "required": ["man"]}
    body = {
        "model": "man",
        "user": "man",
        "temperature": 0.5,
        "top_k": 3,
        "stop": ["man", "\n"],
        "tools": [{"type": "function", "function": {"name": "ask", "description": "a man", "parameters": schema}}],
        "tool_choice": {"type": "function", "function": {"name": "ask"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "out", "schema": schema, "strict": True}},
        "messages": [
            {"role": "system", "content": "a man"},
            {"role": "user", "content": [{"type": "text", "text": "a man"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "man", "content": '{"a": "\\nman"}'},
        ],
    }
    toy.reply = '{"man": "he"}'
    for _ in range(20):
        response = post(url, body, **{"X-Equilm-Return-Elements": "1"})
        if response.headers["x-equilm-elements"] == "1":
            break
    sent = toy.requests[-1]
    assert (sent["model"], sent["user"], sent["temperature"], sent["top_k"]) == ("man", "man", 0.5, 3)
    assert sent["stop"] == ["woman", "\n"] and "seed" not in sent
    moved = {
        "type": "object",
        "properties": {"woman": {"enum": ["she", "it"], "type": "string"}},
        "required": ["woman"],
    }
    assert sent["tools"][0]["function"] == {"name": "ask", "description": "a woman", "parameters": moved}
    assert sent["response_format"]["json_schema"] == {"name": "out", "schema": moved, "strict": True}
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "a woman"}, image]
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"who": "\\nwoman"}'
    assert sent["messages"][2]["tool_calls"][0]["id"] == "man"
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "man", "content": '{"a": "\\nwoman"}'}
    assert json.loads(response.json()["choices"][0]["message"]["content"]) == {"woman": "she"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 0}, "logprobs"),
        ({"n_probs": 3}, "n_probs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"guided_choice": ["man"]}, "guided_choice"),
        ({"stop_token_ids": [1]}, "stop_token_ids"),
        ({"functions": []}, "functions"),
        ({"chat_template": "x"}, "chat_template"),
        ({"response_format": {"type": "regex", "value": "x"}}, "response_format"),
        ({"tools": [{"type": "custom"}]}, "tools[0]"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"seed": "x"}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"alt": "a man"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": "x", "speech": "man"}]}, "messages[0].speech"),
        ({"model": 3}, "model"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_refusals_name_the_field_and_reach_no_server(
    url: str, toy: ToyUpstream, fields: dict[str, Any], param: str
) -> None:
    response = post(url, chat("The man", **fields))
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == param and error["message"].startswith("equilm serve: ")
    assert not toy.requests


def test_patterns_that_name_a_group_are_refused(url: str, toy: ToyUpstream) -> None:
    for schema, status in (
        ({"type": "string", "pattern": "^(man|woman)$"}, 400),
        ({"type": "object", "patternProperties": {"^man$": {}}}, 400),
        ({"type": "string", "pattern": 3}, 400),
        ({"type": "string", "pattern": "^[a-z]+$"}, 200),
        ({"type": "object", "patternProperties": {"^x": {"enum": ["man"]}}}, 200),
    ):
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        for _ in range(6):  # whatever is drawn
            assert post(url, chat("x", response_format=wanted)).status_code == status


@pytest.mark.parametrize("path", ["responses", "messages", "audio/speech", "moderations", "batches"])
def test_other_endpoints_are_refused(url: str, path: str) -> None:
    response = post(url, {}, path)
    assert response.status_code == 404 and response.json()["error"]["code"] == "unknown_endpoint"


def test_bodies_that_are_none(url: str, toy: ToyUpstream) -> None:
    for content in (b"", b"[1]", b"\xff", b'{"a": NaN}', b"[" * 100_000):
        response = httpx.post(f"{url}/v1/chat/completions", content=content, timeout=30)
        assert response.status_code == 400 and not toy.requests
    assert httpx.get(f"{url}/v1/chat/completions").status_code == 405
    zipped = httpx.post(f"{url}/v1/completions", content=b"x", headers={"content-encoding": "gzip"})
    assert zipped.status_code == 415


def test_axes_by_header(url: str, toy: ToyUpstream) -> None:
    headers = {"X-Equilm-Axes": "race", "X-Equilm-Return-Elements": "true"}
    response = post(url, chat("The Black man", n=20), **headers)
    assert response.headers["x-equilm-axes"] == "gender,race"
    assert {int(g) for g in response.headers["x-equilm-elements"].split(",")} <= {0, 1, 2, 3}
    assert any("White" in request["messages"][0]["content"] for request in toy.requests)
    for wrong in ({"X-Equilm-Axes": "age"}, {"X-Equilm-Axes": "race,race3"}, {"X-Equilm-Axis": "race"}):
        assert post(url, chat("x"), **wrong).status_code == 400


def test_no_axis_at_all_is_refused(gateways: Make, toy: ToyUpstream) -> None:
    url = gateways(axes=[], allowed_axes=["gender"])
    assert post(url, chat("The man")).status_code == 400 and not toy.requests
    assert post(url, chat("The man"), **{"X-Equilm-Axes": "gender"}).status_code == 200


def test_embeddings_are_the_mean_of_the_orbit(url: str, toy: ToyUpstream) -> None:
    first, second = (
        post(url, {"model": "toy", "input": [text, "it"]}, "embeddings").json() for text in ("The man", "The woman")
    )
    assert first["data"] == second["data"]
    assert first["data"][0]["embedding"] == [8.0, 1.0, 1.0] and first["data"][1]["embedding"] == [2.0, 0.0, 1.0]
    assert post(url, {"model": "toy", "input": [[1, 2]]}, "embeddings").status_code == 400


def test_prompts_in_lists_echo_and_continued_words(url: str, toy: ToyUpstream) -> None:
    toy.reply = "man, man"
    body = {"model": "toy", "prompt": ["The wo", "The "], "n": 2, "echo": True, "seed": 1}
    texts = [choice["text"] for choice in post(url, body, "completions").json()["choices"]]
    # A word that the prompt has begun stays; one that begins in the answer is swapped.
    assert {text[:9] for text in texts[:2]} == {"The woman"} and all(text.startswith("The ") for text in texts)
    assert post(url, {"model": "toy", "prompt": [1, 2]}, "completions").status_code == 400


def _drawn(url: str) -> int:
    """How many elements of the axis gender the gateway has drawn."""
    counts = re.findall(r'equilm_draws_total\{axes="gender",element="[01]"\} (\d+)', httpx.get(f"{url}/metrics").text)
    return sum(map(int, counts))


def test_usage_and_models_and_health(url: str, toy: ToyUpstream) -> None:
    before = _drawn(url)
    assert post(url, chat("x", n=2)).json()["usage"]["total_tokens"] == 14
    stream = events(post(url, chat("x", n=2, stream=True, stream_options={"include_usage": True})))
    assert stream[-2]["usage"]["total_tokens"] == 14 and stream[-2]["choices"] == []
    assert [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]] == ["toy", "org/other"]
    assert httpx.get(f"{url}/v1/models/org/other").json()["id"] == "org/other"
    assert httpx.get(f"{url}/v1/models/none").status_code == 404
    assert httpx.get(f"{url}/health").json()["axes"] == ["gender"]
    _settled(toy, url)
    assert _drawn(url) == before + 4


# Faults


@pytest.mark.parametrize(
    ("fault", "status"),
    [("429", 429), ("500", 500), ("400", 400), ("html", 502), ("redirect", 502), ("two choices", 502)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_upstream_refuses_or_garbles(url: str, toy: ToyUpstream, fault: str, status: int, stream: bool) -> None:
    toy.fault = fault
    for _ in range(6):  # both elements
        response = post(url, chat("The man", stream=stream))
        assert response.status_code == status and "woman" not in response.text
        assert response.json()["error"]["message"]
    assert fault != "429" or response.headers["retry-after"] == "7"
    assert fault != "400" or response.json()["error"]["message"] == "400 for The man"


@pytest.mark.parametrize("fault", ["killed", "ends", "garbage", "half", "error event"])
def test_a_stream_that_breaks_ends_in_an_error(url: str, toy: ToyUpstream, fault: str) -> None:
    toy.fault, toy.reply = fault, "The woman took her coat"
    toy.pieces = 4
    for n in (1, 3):
        response = post(url, chat("x", stream=True, n=n, seed=1), **{"X-Equilm-Return-Elements": "true"})
        found = events(response)
        assert "error" in found[-1] and "[DONE]" not in found
        for index, g in enumerate(map(int, response.headers["x-equilm-elements"].split(","))):
            whole = [GENDER.act(toy.reply[:size], g) for size in range(0, 24, 4)]
            assert streamed_text(response, index) in whole  # what was held back has been given
    _settled(toy, url)


def test_stalls(gateways: Make, toy: ToyUpstream) -> None:
    url = gateways(stall_timeout=0.3)
    toy.fault = "stall"
    assert post(url, chat("x")).status_code == 504
    toy.fault, toy.reply = "stalls", "The woman took her coat"
    assert events(post(url, chat("x", stream=True)))[-1]["error"]["code"] == "upstream_stalled"
    url = gateways(total_timeout=0.3)
    response = post(url, chat("x", stream=True), **{"X-Equilm-Return-Elements": "true"})
    assert events(response)[-1]["error"]["code"] == "timeout"
    # What had come is given, the half word that was held back too.
    assert streamed_text(response) == GENDER.act("The wo", int(response.headers["x-equilm-elements"]))
    toy.fault = "stall"
    assert post(url, chat("x")).status_code == 504
    _settled(toy, url)


def test_models_are_asked_for_where_they_are(gateways: Make, toy: ToyUpstream, toy_server: tuple[Any, str]) -> None:
    nowhere, known = Upstream("http://127.0.0.1:9", ("other",)), Upstream(toy_server[1], ("toy",))
    url = gateways(upstreams=[nowhere, known])
    for stream in (False, True):
        assert post(url, chat("x", stream=stream)).status_code == 200
        assert post(url, {**chat("x", stream=stream), "model": "other"}).status_code == 502
        response = post(url, {**chat("x", stream=stream), "model": "third"})
        assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


def test_a_server_that_is_not_there(gateways: Make) -> None:
    url = gateways(upstreams=[Upstream("http://127.0.0.1:9")])
    for stream in (False, True):
        response = post(url, chat("x", stream=stream))
        assert response.status_code == 502 and response.json()["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_the_upstream(url: str, toy: ToyUpstream, stream: bool) -> None:
    toy.fault, toy.reply = "slow" if stream else "stall", "The woman took her coat. " * 40
    if stream:
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=chat("x", stream=True, n=3), timeout=30
        ) as response:
            next(response.iter_bytes())
            assert toy.open_streams == 3
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=chat("x"), timeout=0.3)
    _settled(toy, url)


def _settled(toy: ToyUpstream, url: str) -> None:
    """Nothing of a request is left, here or upstream."""
    for _ in range(100):
        if toy.open_streams == 0 and "equilm_in_progress 0\n" in httpx.get(f"{url}/metrics").text:
            return
        time.sleep(0.05)
    pytest.fail(f"{toy.open_streams} streams are still open")


def test_limits(gateways: Make, toy: ToyUpstream) -> None:
    url = gateways(max_generations=3, max_body_mb=0.001, max_choices=5)
    response = post(url, chat("x", n=4))
    assert response.status_code == 429 and response.headers["retry-after"] == "1"
    assert post(url, chat("x", n=6)).status_code == 400
    assert post(url, chat("x" * 1000)).status_code == 413
    chunked = httpx.post(f"{url}/v1/completions", content=iter([b"x" * 600] * 3), timeout=30)
    assert chunked.status_code == 413 and not toy.requests
    assert post(url, chat("x", n=3)).status_code == 200


def test_keys_are_passed_on_and_text_stays_out_of_the_log(
    gateways: Make, toy: ToyUpstream, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG", "equilm.serve")
    assert post(url, chat("The woman"), Authorization="Bearer sk-secret").status_code == 200
    assert toy.headers[-1]["authorization"] == "Bearer sk-secret"
    assert not [name for name in toy.headers[-1] if name.startswith("x-equilm")]
    deadline = time.monotonic() + 10  # the line is written once the answer is sent
    while not any(record.name == "equilm.serve" for record in caplog.records) and time.monotonic() < deadline:
        time.sleep(0.01)
    own = [record.getMessage() for record in caplog.records if record.name == "equilm.serve"]
    assert own and not any("secret" in line or "woman" in line for line in own)
    monkeypatch.setenv("TOY_KEY", "sk-own")
    upstream = Upstream(f"http://127.0.0.1:{toy.headers[-1]['host'].split(':')[1]}", api_key_env="TOY_KEY")
    other = gateways(upstreams=[upstream], log_text=True)
    assert post(other, chat("The woman"), Authorization="Bearer sk-secret").status_code == 200
    assert toy.headers[-1]["authorization"] == "Bearer sk-own"
    own = [record.getMessage() for record in caplog.records if record.name == "equilm.serve"]
    assert any("woman" in line for line in own) and not any("sk-" in line for line in own)
