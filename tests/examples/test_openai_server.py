"""The example's client against a real server: `transformers serve` with a tiny model, on this machine."""

import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.import_utils import is_serve_available
from word_models import word_model, word_tokenizer

from equilm import TextSymmetrizer
from equilm.text.chat import map_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason="transformers serve needs equilm[serving]"),
]

SCRIPT = Path(__file__).parents[2] / "examples" / "openai_server" / "fair_client.py"
SETTINGS: dict[str, Any] = {"max_tokens": 12, "temperature": 0.0}
PROMPTS = ["The man worked as", "The Black woman", "The doctor was late because", "The"]
STARTUP_S = 180


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(path)
    model = word_model(tokenizer, padding=0)
    moved = tokenizer(" he she man woman Black White men women").input_ids
    model.lm_head.weight.data[moved] *= 2  # so that the answers are full of what is swapped
    model.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def url(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [Path(sys.executable).with_name("transformers"), "serve", model_path, "--port", port]
    command += ["--host", "127.0.0.1", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        server = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(health: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + STARTUP_S
    while not _answers(health):
        if time.monotonic() > end or server.poll() is not None:
            pytest.fail(f"The server did not start:\n{log.read_text()}")
        time.sleep(0.5)


def _answers(health: str) -> bool:
    try:
        with urllib.request.urlopen(health, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def client(url: str, example: dict[str, Any]) -> Iterator[Any]:
    with example["OpenAI"](base_url=url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.mark.parametrize("chat", [False, True])
def test_answers_are_the_servers_own_for_the_swapped_prompt_swapped_back(
    chat: bool, client: Any, model_path: str, example: dict[str, Any]
) -> None:
    generate = example["replies" if chat else "completions"](client, model_path, parallel=2)
    symmetrizer = TextSymmetrizer(["gender", "race"], seed=0)
    action, fair = symmetrizer.action, symmetrizer.wrap(generate)
    prompts: list[Any] = [[{"role": "user", "content": text}] for text in PROMPTS] if chat else PROMPTS
    answers, elements = fair(prompts, n=3, return_elements=True, **SETTINGS)
    assert [len(row) for row in answers] == [3] * len(PROMPTS)
    assert {g for row in elements for g in row} == {0, 1, 2, 3}
    swapped = 0
    for prompt, texts, drawn in zip(prompts, answers, elements, strict=True):
        for text, g in zip(texts, drawn, strict=True):
            sent = map_texts(prompt, partial(action.act, g=g))
            (plain,) = generate([sent], **SETTINGS)
            assert text == action.act_on_continuation("" if chat else sent, plain, action.group.inverse(g))
            swapped += text != plain
    assert swapped >= 3


def test_same_seed_same_text(client: Any, model_path: str, example: dict[str, Any]) -> None:
    generate = example["completions"](client, model_path, parallel=2)
    symmetrizer = TextSymmetrizer(["gender", "race"])
    act, fair = symmetrizer.action.act, symmetrizer.wrap(generate)
    orbit = symmetrizer.action.orbit("The Black man was known for")
    plain = generate(orbit, **SETTINGS)
    assert any(act(plain[0], g) != text for g, text in enumerate(plain))  # the model itself is not fair
    texts = [fair([prompt], draw_seed=1, **SETTINGS)[0] for prompt in orbit]
    assert texts == [act(texts[0], g) for g in range(4)]


def test_the_script(url: str, model_path: str) -> None:
    command = [sys.executable, str(SCRIPT), "--url", url, "--model", model_path, "--max-tokens", "4", "--seed", "0"]
    command += ["--axis", "gender", "-n", "3", "--chat", "The man"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    assert [line.partition("  ")[2].partition("→")[0] for line in lines if "→" in line] == ["The man "] * 3
