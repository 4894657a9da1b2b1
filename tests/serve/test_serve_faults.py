"""When upstream is killed, a client stops reading, or everything fails at once: errors, and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served
from toy_upstream import ToyUpstream

from equilm.serve import GatewayConfig, Upstream, create_app
from equilm.text.action import TextAction

GENDER = TextAction("gender")
REPLY = "The woman took her coat. " * 200
# A server of its own process, which can be killed.
SERVER = """
import sys, uvicorn
from toy_upstream import ToyUpstream
toy = ToyUpstream()
toy.fault, toy.reply = "slow", sys.argv[2]
uvicorn.run(toy.app, port=int(sys.argv[1]), log_level="error")
"""


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": "The man"}], **fields}


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    for _ in range(400):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail(f"not so after 20 s: {what}")


@pytest.fixture
def other_process() -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port), REPLY], cwd=Path(__file__).parent)
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the upstream server listens")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("n", [1, 3])
def test_an_upstream_that_is_killed_in_a_stream(other_process: tuple[Any, str], n: int) -> None:
    process, upstream = other_process
    with Served(create_app(GatewayConfig((Upstream(upstream),), ("gender",)))).running() as gateway:
        ask: dict[str, Any] = {"url": f"{gateway.url}/v1/chat/completions", "json": chat(stream=True, n=n)}
        headers = {"X-Equilm-Return-Elements": "true"}
        with httpx.stream("POST", **ask, headers=headers, timeout=30) as response:
            elements = [int(g) for g in response.headers["x-equilm-elements"].split(",")]
            lines = []
            for line in response.iter_lines():
                lines.append(line)
                if len(lines) == 40:
                    os.kill(process.pid, signal.SIGKILL)
        found = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert found[-1]["error"]["code"] in ("upstream_broken", "bad_answer") and "data: [DONE]" not in lines
        for index, g in enumerate(elements):
            parts = [event["choices"][0] for event in found[:-1] if event["choices"][0]["index"] == index]
            text = "".join(part["delta"].get("content", "") for part in parts)
            # A pronoun at the very end may lack the text that tells its class: all but it is what it should be.
            assert text and GENDER.act(REPLY, g).startswith(text[:-4])
        assert httpx.post(**ask, timeout=30).json()["error"]["code"] == "upstream_unreachable"


@pytest.fixture
def pair() -> Iterator[tuple[ToyUpstream, Served, Served]]:
    """An upstream server and a gateway that no other test uses, to count what is left of them."""
    toy = ToyUpstream()
    with Served(toy.app).running() as upstream:
        config = GatewayConfig((Upstream(upstream.url),), ("gender",), stall_timeout=0.4)
        with Served(create_app(config)).running() as gateway:
            yield toy, upstream, gateway


@pytest.mark.slow
def test_nothing_is_left_of_requests_that_fail(pair: tuple[ToyUpstream, Served, Served]) -> None:
    toy, upstream, gateway = pair
    httpx.post(f"{gateway.url}/v1/chat/completions", json=chat())
    wait_until(lambda: gateway.connections == 0, "the client's connection is closed")
    tasks = gateway.tasks()
    faults = ["429", "500", "html", "killed", "ends", "garbage", "half", "error event", "stalls", "stall", ""]
    for fault in faults:
        toy.fault, toy.reply = fault, "The woman took her coat"
        for stream in (False, True):
            for n in (1, 4):
                response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(stream=stream, n=n), timeout=30)
                wrong = "error" in response.text
                assert wrong or not fault or (not stream and response.status_code == 200)
    toy.fault = "slow"
    for _ in range(5):
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=chat(stream=True, n=4)) as response:
            next(response.iter_bytes())
    wait_until(lambda: toy.open_streams == 0, "no stream upstream is open")
    wait_until(lambda: gateway.tasks() <= tasks and gateway.connections == 0, "no task is left")
    # What the gateway keeps is for later requests: at most as many as were open at once, the whole answers of n = 4.
    wait_until(lambda: upstream.connections <= 4, "broken connections are closed")
    assert "equilm_in_progress 0\n" in httpx.get(f"{gateway.url}/metrics").text


@pytest.mark.slow
def test_a_client_that_does_not_read_slows_the_upstream_and_is_cut_off() -> None:
    toy = ToyUpstream()
    toy.reply, toy.pieces = "x" * 4000 * 2000, 4000  # 8 MB, more than the buffers of three connections hold
    with Served(toy.app).running() as upstream:
        config = GatewayConfig((Upstream(upstream.url),), ("gender",), total_timeout=2)
        with Served(create_app(config)).running() as gateway, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
            body = json.dumps(chat(stream=True)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until(lambda: toy.open_streams == 1, "the stream has begun")
            tasks = gateway.tasks()
            time.sleep(1)
            assert toy.open_streams == 1  # the upstream waits too
            assert toy.sent < 2000
            # Long after its time, when what the client has not read cannot be sent, the request is given up.
            wait_until(lambda: toy.open_streams == 0 and gateway.tasks() < tasks, "the request has ended")


def test_a_connection_that_the_upstream_has_closed_is_not_an_error() -> None:
    """The first request on each connection is answered; the second finds the connection closed, without an answer."""
    answer = json.dumps({"choices": [{"index": 0, "message": {"content": "He"}, "finish_reason": "stop"}]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n".encode()

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(head + answer)
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            for _ in range(3):
                threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        config = GatewayConfig((Upstream(f"http://127.0.0.1:{listening.getsockname()[1]}"),), ("gender",))
        with Served(create_app(config)).running() as gateway:
            for _ in range(3):
                response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(), timeout=30)
                assert response.status_code == 200
                assert response.json()["choices"][0]["message"]["content"] in ("He", "She")
