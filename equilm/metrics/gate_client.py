"""Asking an OpenAI-compatible server for answers, several at a time."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import EquiLMError

_TRIES = 4
_LONGEST_WAIT_S = 30.0
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)  # what a server may answer now and not a moment later


@dataclass(frozen=True)
class Server:
    """A server and how to ask it.

    Args:
        url: its base URL, such as ``http://127.0.0.1:8000/v1``.
        model: the name of the model to ask for; None: the only one that the server has.
        api_key: its key; None sends none.
        chat: ask at ``/chat/completions``, each prompt being a message of the user, instead of ``/completions``.
        max_tokens: the maximum number of tokens in an answer.
        temperature: the temperature.
        timeout: seconds to wait for an answer.
        concurrency: how many requests may run at once.
        wait: seconds to wait before a failed request is tried again; doubled after each further failure.
    """

    url: str
    model: str | None = None
    api_key: str | None = None
    chat: bool = False
    max_tokens: int = 15
    temperature: float = 1.0
    timeout: float = 60.0
    concurrency: int = 8
    wait: float = 1.0

    @property
    def host(self) -> str:
        """What messages call it."""
        return urlsplit(self.url).netloc


def ask(server: Server, prompts: Sequence[str], on_answer: Callable[[], Any]) -> tuple[str, list[str]]:
    """The name of the model, and its answer to each prompt, in their order. Equal prompts are asked anew each time.

    Args:
        server: the server.
        prompts: the prompts.
        on_answer: called after each answer.

    Raises:
        EquiLMError: for a server that cannot be reached, that answers with an error again and again, or with something
            that is no answer.
    """
    return asyncio.run(_ask(server, prompts, on_answer))


async def _ask(server: Server, prompts: Sequence[str], on_answer: Callable[[], Any]) -> tuple[str, list[str]]:
    headers = {} if server.api_key is None else {"authorization": f"Bearer {server.api_key}"}
    limits = httpx.Limits(max_connections=server.concurrency)
    # The environment's settings are left out: a .netrc would replace the key.
    async with httpx.AsyncClient(headers=headers, timeout=server.timeout, limits=limits, trust_env=False) as client:
        model = server.model or await _only_model(client, server)
        places = asyncio.Semaphore(server.concurrency)

        async def one(prompt: str) -> str:
            async with places:
                answer = await _answer(client, server, model, prompt)
            on_answer()
            return answer

        tasks = [asyncio.create_task(one(prompt)) for prompt in prompts]
        try:
            return model, await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _only_model(client: httpx.AsyncClient, server: Server) -> str:
    data = await _json(client, server, "GET", "/models", None)
    try:
        names = [str(entry["id"]) for entry in data["data"]]
    except (KeyError, TypeError) as error:
        raise EquiLMError(
            f"The server {server.host} gave no list of models at /models. Name the model: --server-model NAME."
        ) from error
    if len(names) != 1:
        listed = ", ".join(names[:10]) or "none"
        raise EquiLMError(
            f"The server {server.host} has {len(names)} models ({listed}). Name one of them: --server-model NAME."
        )
    return names[0]


async def _answer(client: httpx.AsyncClient, server: Server, model: str, prompt: str) -> str:
    body: dict[str, Any] = {"model": model, "max_tokens": server.max_tokens, "temperature": server.temperature}
    asked = {"messages": [{"role": "user", "content": prompt}]} if server.chat else {"prompt": prompt}
    data = await _json(client, server, "POST", "/chat/completions" if server.chat else "/completions", body | asked)
    try:
        (choice,) = data["choices"]
        text = (choice["message"]["content"] or "") if server.chat else choice["text"]
    except (KeyError, TypeError, ValueError) as error:
        raise EquiLMError(f"The server {server.host} answered with something else than one text.") from error
    if not isinstance(text, str):
        raise EquiLMError(f"The server {server.host} answered with {type(text).__name__} in place of a text.")
    return text


async def _json(client: httpx.AsyncClient, server: Server, method: str, path: str, body: Any) -> Any:
    """The JSON that the server answers, after a few tries where a later one may succeed."""
    for tries_left in reversed(range(_TRIES)):
        wait = server.wait * 2 ** (_TRIES - 1 - tries_left)
        try:
            response = await client.request(method, server.url + path, json=body)
        except httpx.HTTPError as error:
            if tries_left:
                await asyncio.sleep(wait)
                continue
            message = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
            raise EquiLMError(f"The server {server.host} {message} ({type(error).__name__} at {path}).") from error
        if response.status_code in _PASSING and tries_left:
            after = response.headers.get("retry-after", "")
            await asyncio.sleep(min(_LONGEST_WAIT_S, float(after)) if after.isdigit() else wait * random.uniform(1, 2))
            continue
        if response.status_code != 200:
            raise EquiLMError(_refusal(server, path, response))
        try:
            return response.json()
        except ValueError as error:
            raise EquiLMError(f"The server {server.host} answered at {path} with what is not JSON.") from error
    raise AssertionError("the last try returns or raises")


def _refusal(server: Server, path: str, response: httpx.Response) -> str:
    try:
        error = response.json()
        error = error.get("error", error)
        message = str(error.get("message", error) if isinstance(error, dict) else error)
    except (AttributeError, ValueError):
        message = ""
    words = " ".join(message.split())
    remedy = ""
    if response.status_code in (401, 403):
        remedy = " Name the environment variable that holds its key: --api-key-env VAR."
    elif response.status_code in (404, 405):
        remedy = " Leave out --chat?" if server.chat else " If it serves only chats, pass --chat."
    said = f", saying {words[:200]!r}" if words else ""
    return f"The server {server.host} answered at {path} with the status {response.status_code}{said}.{remedy}"
