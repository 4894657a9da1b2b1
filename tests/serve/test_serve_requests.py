"""Requests are acted on by a group: the identity changes nothing, and one element after another is their product."""

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from equilm.serve.requests import Acted, canonical, chat_fields, completion_fields
from equilm.text.action import TextAction
from equilm.words.axes import DemographicAxis

THREE = DemographicAxis("three", [("Black", "White", "Asian"), ("night cab", "yellow cab", "big red taxi")])


@cache
def action_of(name: str) -> TextAction:
    axes: dict[str, list[DemographicAxis | str]] = {"two": ["gender"], "three": [THREE], "product": ["gender", THREE]}
    return TextAction(axes[name])


_words = st.sampled_from("man woman He SHE his her actress Black Asian night cab taxi a an the ask".split())
texts = st.lists(st.one_of(_words, st.sampled_from([" ", " ", " ", ", ", "_", '"', "\n", "😀"])), max_size=12).map(
    "".join
)
values = st.recursive(
    st.one_of(texts, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
schemas = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(texts, st.fixed_dictionaries({"enum": st.lists(values)})),
    },
    optional={"required": st.lists(texts), "description": texts, "default": values, "minLength": st.integers()},
)
functions = st.fixed_dictionaries({"name": texts, "description": texts, "parameters": schemas})
calls = texts.map(
    lambda text: {"id": "man", "type": "function", "function": {"name": text, "arguments": '{"a": "man"}'}}
)
parts = st.one_of(
    texts.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": "http://x/man.png"}}),
    st.just({"type": "video_url", "video_url": {"url": "http://x/man.mp4"}}),
)
messages = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.one_of(texts, st.lists(parts, max_size=3))}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none(), "tool_calls": st.lists(calls, max_size=2)}
    ),
)
chats = st.fixed_dictionaries(
    {"model": st.just("man"), "messages": st.lists(messages, min_size=1, max_size=3)},
    optional={
        "stop": st.lists(texts),
        "tools": st.lists(functions.map(lambda function: {"type": "function", "function": function}), max_size=2),
        "response_format": schemas.map(
            lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        ),
        "temperature": st.floats(0, 2),
        "user": st.just("man"),
    },
)


@settings(max_examples=60)
@given(name=st.sampled_from(["two", "three", "product"]), body=chats)
def test_the_group_acts_on_chats(name: str, body: dict[str, Any]) -> None:
    action = action_of(name)
    group = action.group
    images = [chat_fields(body, Acted(action, g)) for g in group.elements]
    assert canonical(images[0]) == canonical(body)
    for g in group.elements:
        for h in group.elements:
            assert chat_fields(images[h], Acted(action, g)) == images[group.compose(g, h)]


@settings(max_examples=60)
@given(name=st.sampled_from(["two", "three", "product"]), prompt=texts, suffix=texts)
def test_the_group_acts_on_texts_to_continue(name: str, prompt: str, suffix: str) -> None:
    action = action_of(name)
    body = {"model": "man", "prompt": prompt, "suffix": suffix, "max_tokens": 3}
    for g in action.group.elements:
        sent = completion_fields(body, Acted(action, g))
        assert sent == {**body, "prompt": action.act(prompt, g), "suffix": action.act(suffix, g)}
        assert completion_fields(sent, Acted(action, action.group.inverse(g))) == body
