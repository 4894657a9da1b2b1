"""An OpenAI-compatible server for tests: its answers have a known law, and it can fail in every way a server can."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

HEAD = {"id": "chatcmpl-toy", "created": 1, "model": "toy"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
# The law of an answer: it depends on the prompt's words in no fair way.
ANSWERS = ["He is a king.", "She is an actress.", "The man took his coat.", "I gave her the key", "They left."]


def weights(prompt: str) -> list[float]:
    """P(answer | prompt), unnormalized."""
    weight = [1.0, 1.0, 1.0, 1.0, 1.0]
    if "woman" in prompt:
        weight[1], weight[2] = 6.0, 0.5
    elif "man" in prompt:
        weight[0], weight[3] = 4.0, 0.2
    return weight


def text_of(body: dict[str, Any]) -> str:
    """The prompt, or the last message's text."""
    if "prompt" in body:
        return str(body["prompt"])
    content = body["messages"][-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


class ToyUpstream:
    """The server.

    Attributes:
        requests: the bodies of all requests, as they came.
        headers: their headers.
        reply: the text of every answer; by default one is drawn from the toy's law.
        calls: tool calls of every answer: (name, arguments).
        pieces: the size of streamed pieces, in characters.
        fault: what goes wrong.
        open_streams: how many answers are being streamed.
        sent: how many events of streams were sent.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply: str | None = None
        self.calls: list[tuple[str, str]] = []
        self.pieces = 3
        self.fault = ""
        self.open_streams = 0
        self.sent = 0
        self.cancelled = 0
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
                Route("/v1/completions", self.answer, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
                Route("/v1/models", self.models),
            ]
        )

    def reset(self) -> None:
        """As new."""
        app = self.app
        self.__dict__.update({**ToyUpstream().__dict__, "app": app})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "toy", "object": "model"}, {"id": "org/other"}]})

    async def embed(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), float(text.count("e")), 1.0]}
            for i, text in enumerate(body["input"])
        ]
        return JSONResponse({"object": "list", "data": data, "model": "toy", "usage": {"prompt_tokens": 2}})

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.fault == "stall":
            await asyncio.sleep(60)
        if self.fault in ("429", "500", "400"):
            error = {"message": f"{self.fault} for {text_of(body)}", "type": "toy_error", "code": "toy"}
            headers = {"Retry-After": "7"} if self.fault == "429" else {}
            return JSONResponse({"error": error}, int(self.fault), headers)
        if self.fault == "html":
            return Response("<html>The woman</html>", 200, media_type="text/html")
        if self.fault == "redirect":
            return Response("", 307, {"location": "http://127.0.0.1:9/v1"})
        if self.fault == "two choices":
            return JSONResponse({**HEAD, "choices": [{}, {}]})
        chat = "messages" in body
        text = self.draw(body)
        if body.get("stream"):
            return StreamingResponse(self.stream(text, chat, body), media_type="text/event-stream")
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self.calls and chat:
            message["tool_calls"] = [
                {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for i, (name, arguments) in enumerate(self.calls)
            ]
        part = {"message": message} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "tool_calls" if self.calls else "stop", "logprobs": None, **part}
        return JSONResponse({**HEAD, "object": "x", "choices": [choice], "usage": USAGE})

    def draw(self, body: dict[str, Any]) -> str:
        """The text of an answer."""
        if self.reply is not None:
            return self.reply
        source = random.Random(body["seed"]) if "seed" in body else random
        return source.choices(ANSWERS, weights(text_of(body)))[0]

    async def stream(self, text: str, chat: bool, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.open_streams += 1
        try:
            for number, data in enumerate(self.events(text, chat, body)):
                if number == 3 and self.fault:
                    if self.fault == "killed":
                        raise ConnectionResetError("killed")
                    if self.fault == "ends":
                        return
                    if self.fault == "garbage":
                        yield b"data: The woman\n\n"
                    if self.fault == "half":
                        yield b'data: {"choices": [{"ind'
                        return
                    if self.fault == "error event":
                        yield b'data: {"error": {"message": "no more of The woman", "code": "toy"}}\n\n'
                        return
                    if self.fault == "stalls":
                        await asyncio.sleep(60)
                if self.fault == "slow":
                    await asyncio.sleep(0.05)
                yield data
                self.sent += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open_streams -= 1

    def events(self, text: str, chat: bool, body: dict[str, Any]) -> list[bytes]:
        """A stream's events, its text cut into pieces."""
        pieces = [text[i : i + self.pieces] for i in range(0, len(text), self.pieces)]
        parts: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}] if chat else []
        parts += [{"delta": {"content": piece}} if chat else {"text": piece} for piece in pieces]
        for i, (name, arguments) in enumerate(self.calls if chat else []):
            first = {"index": i, "id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": ""}}
            parts.append({"delta": {"tool_calls": [first]}})
            for at in range(0, len(arguments), self.pieces):
                piece = arguments[at : at + self.pieces]
                parts.append({"delta": {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}})
        chunks = [{**HEAD, "choices": [{"index": 0, "finish_reason": None, **part}]} for part in parts]
        end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        reason = "tool_calls" if self.calls else "stop"
        chunks.append({**HEAD, "choices": [{"index": 0, "finish_reason": reason, **end}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append({**HEAD, "choices": [], "usage": USAGE})
        return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]
