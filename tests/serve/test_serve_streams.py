"""Streams swapped back: for every way to cut an answer, its chunks together are what the whole answer becomes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equilm.serve.answers import Undo, chat_answer
from equilm.serve.chunks import ChatStream
from equilm.serve.events import read_events, write_event
from equilm.serve.json_text import act_on_json
from equilm.text.action import TextAction
from equilm.words.axes import DemographicAxis

THREE = DemographicAxis("three", [("Black", "White", "Asian"), ("night cab", "yellow cab", "big red taxi")])
AXES: dict[str, list[str | DemographicAxis]] = {"two": ["gender"], "three": [THREE], "product": ["gender", THREE]}


@cache
def action_of(name: str) -> TextAction:
    return TextAction(AXES[name])


_words = st.sampled_from(
    "man woman He SHE his him her hers actor actress Black White Asian night yellow cab big red taxi a an A the".split()
)
_glue = st.sampled_from([*[" "] * 8, ", ", ". ", "\n", "'s ", "_", "/", '"', "\\", "😀", "é", "wo", "\u0301"])
texts = st.lists(st.one_of(_words, _glue, st.text(max_size=2)), max_size=30).map("".join)
values = st.recursive(
    st.one_of(texts, st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def map_value(value: Any, action: TextAction, g: int) -> Any:
    """By definition: g on each string of a JSON value."""
    if isinstance(value, str):
        return action.act(value, g)
    if isinstance(value, list):
        return [map_value(item, action, g) for item in value]
    if isinstance(value, dict):
        return {action.act(key, g): map_value(item, action, g) for key, item in value.items()}
    return value


def upstream_bytes(content: str, arguments: list[str], cut: random.Random, largest: int) -> bytes:
    """A stream of events as a server would send it, its texts cut anywhere."""
    parts: list[dict[str, Any]] = [{"content": piece} for piece in pieces_of(content, cut, largest)]
    for i, text in enumerate(arguments):
        call = {"index": i, "id": f"c{i}", "type": "function", "function": {"name": "find-woman", "arguments": ""}}
        later = [{"index": i, "function": {"arguments": piece}} for piece in pieces_of(text, cut, largest)]
        parts += [{"tool_calls": [part]} for part in (call, *later)]
    chunks = [{"id": "x", "choices": [{"index": 0, "delta": part, "finish_reason": None}]} for part in parts]
    chunks.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(map(write_event, chunks)) + b"data: [DONE]\n\n"


def pieces_of(text: Any, cut: random.Random, largest: int) -> list[Any]:
    pieces, at = [], 0
    while at < len(text):
        size = cut.randint(1, largest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


async def received(stream: bytes, choice: ChatStream, cut: random.Random) -> tuple[str, list[dict[str, Any]]]:
    """What a client puts together: the content and the calls."""

    async def network() -> AsyncIterator[bytes]:
        for piece in pieces_of(stream, cut, 40):
            yield piece

    content, calls = "", []
    async for data in read_events(network(), 10**6):
        if data == "[DONE]":
            break
        for chunk in choice.chunks(json.loads(data)):
            delta = chunk["choices"][0]["delta"]
            content += delta.get("content", "")
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    calls.append({**call["function"]})
                else:
                    calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return content, calls


def check(name: str, content: str, arguments: list[Any], seed: int, largest: int, ascii_only: bool) -> None:
    action, cut = action_of(name), random.Random(seed)
    g = cut.randrange(action.group.order)
    written = [json.dumps(value, ensure_ascii=ascii_only) for value in arguments]
    stream = upstream_bytes(content, written, cut, largest)
    got, calls = asyncio.run(received(stream, ChatStream(Undo(action, g), 0), cut))
    inverse = action.group.inverse(g)
    assert got == action.act(content, inverse)
    assert [call["name"] for call in calls] == [action.act("find-woman", inverse)] * len(arguments)
    for call, value in zip(calls, arguments, strict=True):
        assert json.loads(call["arguments"]) == map_value(value, action, inverse)
    function = [{"id": "c", "function": {"name": "find-woman", "arguments": text}} for text in written]
    message = {"content": content, "tool_calls": function}
    whole = chat_answer([{"choices": [{"message": message}]}], [Undo(action, g)])["choices"][0]["message"]
    assert whole["content"] == got
    assert [call["function"] for call in whole.get("tool_calls", [])] == calls


cases = {
    "name": st.sampled_from(list(AXES)),
    "content": texts,
    "arguments": st.lists(st.dictionaries(texts, values, max_size=3), max_size=2),
    "seed": st.integers(0, 2**32),
    "largest": st.sampled_from([1, 2, 5, 60]),
    "ascii_only": st.booleans(),
}


@settings(max_examples=200, deadline=None)
@given(**cases)
def test_streams_cut_anywhere(
    name: str, content: str, arguments: list[Any], seed: int, largest: int, ascii_only: bool
) -> None:
    check(name, content, arguments, seed, largest, ascii_only)


@pytest.mark.exhaustive
@settings(max_examples=10_000, deadline=None)
@given(**cases)
def test_ten_thousand_streams_cut_anywhere(
    name: str, content: str, arguments: list[Any], seed: int, largest: int, ascii_only: bool
) -> None:
    check(name, content, arguments, seed, largest, ascii_only)


def test_escapes_do_not_hide_words() -> None:
    action = action_of("two")
    assert act_on_json(action, r'{"a": "\nman \u0077oman\tHe"}', 1) == r'{"a": "\nwoman man\tShe"}'
    assert act_on_json(action, '{"a": "the wo', 1) == '{"a": "the wo'  # cut off, as by max_tokens
    assert act_on_json(action, 'The man said "he\nknows', 1) == 'The woman said "she\nknows'  # no JSON at all


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_events_with_any_line_ending(ending: str) -> None:
    stream = f": ping{ending}{ending}event: x{ending}data: a{ending}data:b{ending}{ending}data: [DONE]{ending}".encode()

    async def network() -> AsyncIterator[bytes]:
        for at in range(len(stream)):
            yield stream[at : at + 1]

    async def read() -> list[str]:
        return [data async for data in read_events(network(), 100)]

    assert asyncio.run(read()) == ["a\nb", "[DONE]"]
