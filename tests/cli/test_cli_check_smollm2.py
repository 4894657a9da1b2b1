"""`equilm check` on SmolLM2: it fails plain and passes wrapped; a server of it fails, and passes behind the gateway."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from served import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from equilm.cli.main import main
from equilm.loading import load_offline_model
from equilm.serve import GatewayConfig, Upstream, create_app

pytestmark = pytest.mark.slow

BATCH = 60


@pytest.fixture(scope="module")
def plain_server() -> Iterator[str]:
    """The address of a server that draws from SmolLM2's whole distribution, many texts at a time."""
    model, tokenizer = load_offline_model()
    pools: dict[str, list[str]] = {}

    async def complete(request: Request) -> Response:
        body = await request.json()
        pool = pools.setdefault(body["prompt"], [])
        if not pool:
            inputs = tokenizer(body["prompt"], return_tensors="pt")
            settings: Any = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": body["temperature"]}
            settings |= {"num_return_sequences": BATCH, "pad_token_id": tokenizer.eos_token_id}
            ids = model.generate(**inputs, max_new_tokens=body["max_tokens"], **settings)  # type: ignore[operator]
            pool += tokenizer.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        choice = {"index": 0, "text": pool.pop(), "finish_reason": "length"}
        return JSONResponse({"id": "1", "object": "text_completion", "created": 0, "choices": [choice]})

    torch.manual_seed(0)
    with served(Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])) as url:
        yield f"{url}/v1"


def test_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    fast = ("--num-continuations", "2", "--max-new-tokens", "8", "--quiet")
    assert main(["check", "The man worked as", "The nurse said that", *fast]) == 1
    assert capsys.readouterr().out.startswith("FAIL: 2 of 2 prompts")
    assert main(["check", "The man worked as", "The nurse said that", "--wrap", *fast]) == 0
    assert capsys.readouterr().out.startswith("PASS")


def test_a_server(plain_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ("The woman worked as", "The nurse was tired because")
    fast = ("--num-continuations", "120", "--max-difference", "0.3", "--max-new-tokens", "6", "--server-model", "m")
    assert main(["check", *prompts, "--server", plain_server, *fast, "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "failed: 'The nurse was tired because': " in out and "of the answers contain 'she', but" in out
    with served(create_app(GatewayConfig(upstreams=(Upstream(plain_server),), axes=("gender",)))) as gateway:
        assert main(["check", *prompts, "--server", f"{gateway}/v1", *fast, "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("PASS")
