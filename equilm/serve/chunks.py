"""The chunks of one streamed choice, swapped back as they come."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ..text.streaming import StreamingTextAction
from .answers import TEXTS, Undo, finish_reason, head, malformed, only_choice
from .json_text import StreamingJsonAction

Chunk = dict[str, Any]


class ChoiceStream(Protocol):
    """One choice of a stream."""

    finished: bool
    usage: dict[str, Any] | None

    def chunks(self, chunk: Any) -> Iterator[Chunk]:
        """What to pass on for a chunk of the upstream's."""

    def flush(self) -> Iterator[Chunk]:
        """What was held back."""


class _Choice:
    """What the streams of chats and of texts share.

    Args:
        undo: how to swap back.
        index: of the choice in the gateway's answer.
    """

    _object = "chat.completion.chunk"

    def __init__(self, undo: Undo, index: int):
        self.finished = False
        self.usage: dict[str, Any] | None = None
        self._undo, self._index = undo, index
        self._head: dict[str, Any] = {}

    def chunks(self, chunk: Any) -> Iterator[Chunk]:
        if not isinstance(chunk, dict):
            raise malformed("an event that is no object")
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        if chunk.get("choices") == [] or ("choices" not in chunk and "usage" in chunk):
            return
        choice = only_choice(chunk)
        self._head = head(chunk)
        if self.finished:
            if self._says_something(choice):
                raise malformed("more of a choice after its end")
            return
        yield from self._pieces(choice)
        if (reason := finish_reason(choice)) is not None:
            self.finished = True
            yield from self.flush()
            yield self._chunk(self._end(), reason)

    def flush(self) -> Iterator[Chunk]:
        raise NotImplementedError

    def _pieces(self, choice: Mapping[str, Any]) -> Iterator[Chunk]:
        raise NotImplementedError

    def _end(self) -> dict[str, Any]:
        raise NotImplementedError

    def _says_something(self, choice: Mapping[str, Any]) -> bool:
        raise NotImplementedError

    def _chunk(self, part: Mapping[str, Any], reason: str | None = None) -> Chunk:
        choice = {"index": self._index, **part, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": self._object, "choices": [choice]}


class CompletionStream(_Choice):
    """A streamed text that continues a prompt.

    Args:
        undo: how to swap back.
        index: of the choice in the gateway's answer.
        echo: what to put before the text.
    """

    _object = "text_completion"

    def __init__(self, undo: Undo, index: int, echo: str = ""):
        super().__init__(undo, index)
        self._echo = echo
        self._text = undo.stream("text")

    def flush(self) -> Iterator[Chunk]:
        if text := self._echo + self._text.flush():
            self._echo = ""
            yield self._chunk({"text": text})

    def _pieces(self, choice: Mapping[str, Any]) -> Iterator[Chunk]:
        text = choice.get("text") or ""
        if not isinstance(text, str):
            raise malformed("a text that is none")
        if text := self._echo + self._text.feed(text):
            self._echo = ""
            yield self._chunk({"text": text})

    def _end(self) -> dict[str, Any]:
        return {"text": ""}

    def _says_something(self, choice: Mapping[str, Any]) -> bool:
        return bool(choice.get("text"))


class ChatStream(_Choice):
    """A streamed chat message, with the tools that it calls."""

    def __init__(self, undo: Undo, index: int):
        super().__init__(undo, index)
        self._texts: dict[str, StreamingTextAction | StreamingJsonAction] = {}
        self._calls: dict[int, StreamingJsonAction] = {}
        self._begun = False

    def flush(self) -> Iterator[Chunk]:
        for field, stream in self._texts.items():
            if text := stream.flush():
                yield self._chunk({"delta": {field: text}})
        for number, arguments in self._calls.items():
            if text := arguments.flush():
                yield self._call({"index": number, "function": {"arguments": text}})

    def _pieces(self, choice: Mapping[str, Any]) -> Iterator[Chunk]:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise malformed("a delta that is no object")
        if delta.get("audio") or delta.get("function_call"):
            raise malformed("speech or a call of the older form, which was not asked for")
        if not self._begun:
            self._begun = True
            yield self._chunk({"delta": {"role": "assistant", "content": ""}})
        for field in TEXTS:
            piece = delta.get(field) or ""
            if not isinstance(piece, str):
                raise malformed(f"a delta whose {field} is no text")
            if piece:
                stream = self._texts.setdefault(field, self._undo.stream(field))
                if text := stream.feed(piece):
                    yield self._chunk({"delta": {field: text}})
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise malformed("tool_calls that are no list")
        for call in calls:
            yield from self._tool_call(call)

    def _tool_call(self, call: Any) -> Iterator[Chunk]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(call.get("index"), int):
            raise malformed("a tool call that is no call of a function")
        number, name, piece = call["index"], function.get("name"), function.get("arguments") or ""
        if not isinstance(piece, str) or not isinstance(name, str | None):
            raise malformed("a tool call whose name or arguments are no text")
        if number in self._calls:
            if name:
                raise malformed("the name of a tool in pieces")
            if text := self._calls[number].feed(piece):
                yield self._call({"index": number, "function": {"arguments": text}})
            return
        if not name:
            raise malformed("a tool call that does not begin with a name")
        self._calls[number] = self._undo.arguments()
        begun = {"name": self._undo.name(name), "arguments": self._calls[number].feed(piece)}
        yield self._call({"index": number, "id": str(call.get("id")), "type": "function", "function": begun})

    def _call(self, call: Mapping[str, Any]) -> Chunk:
        return self._chunk({"delta": {"tool_calls": [call]}})

    def _end(self) -> dict[str, Any]:
        return {"delta": {}}

    def _says_something(self, choice: Mapping[str, Any]) -> bool:
        delta = choice.get("delta") or {}
        return any(delta.get(field) for field in (*TEXTS, "tool_calls"))
