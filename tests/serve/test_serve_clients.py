"""The openai SDK against the gateway, as its users write it: plain, async, streamed, with tools, and its exceptions."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from toy_upstream import ToyUpstream

from equilm.text.action import TextAction

GENDER = TextAction("gender")
REPLY = "The man took his coat, gave her the key, and left."
CHAT: Any = [{"role": "user", "content": "Write about a man."}]
PARAMETERS = {"type": "object", "properties": {"who": {"type": "string", "enum": ["man", "woman"]}}}
TOOL: Any = {"type": "function", "function": {"name": "find", "parameters": PARAMETERS}}
ELEMENTS = {"X-Equilm-Return-Elements": "true"}


@pytest.fixture
def client(url: str, toy: ToyUpstream) -> Iterator[OpenAI]:
    toy.reply = REPLY
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def element_of(raw: Any) -> int:
    return int(raw.headers["x-equilm-elements"])


def test_plain_and_streamed_give_the_same_text(client: OpenAI, toy: ToyUpstream) -> None:
    seen = set()
    for seed in range(8):
        asked: dict[str, Any] = {"model": "toy", "messages": CHAT, "seed": seed, "extra_headers": ELEMENTS}
        raw = client.chat.completions.with_raw_response.create(**asked)
        wanted = GENDER.act(REPLY, g := element_of(raw))
        assert raw.parse().choices[0].message.content == wanted
        assert toy.requests[-1]["messages"][0]["content"] == GENDER.act("Write about a man.", g)
        stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == wanted
        assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 7
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        seen.add(g)
    assert seen == {0, 1}


def test_the_sdks_own_accumulating_stream(client: OpenAI, toy: ToyUpstream) -> None:
    toy.calls = [("find", '{"who": "woman"}')]
    with client.chat.completions.stream(model="toy", messages=CHAT, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    element = 0 if toy.requests[-1]["messages"] == CHAT else 1
    (call,) = final.choices[0].message.tool_calls or []
    assert final.choices[0].message.content == GENDER.act(REPLY, element)
    assert json.loads(call.function.arguments) == {"who": GENDER.act("woman", element)}


def test_tools_take_part_in_a_conversation(client: OpenAI, toy: ToyUpstream) -> None:
    toy.calls = [("find", '{"who": "woman"}')]
    for seed in range(8):
        asked = client.chat.completions.with_raw_response.create
        raw = asked(model="toy", messages=CHAT, tools=[TOOL], seed=seed, extra_headers=ELEMENTS)
        message = raw.parse().choices[0].message
        (call,) = message.tool_calls or []
        g = element_of(raw)
        assert call.type == "function" and call.function.name == "find"
        assert json.loads(call.function.arguments) == {"who": GENDER.act("woman", g)}
        sent = toy.requests[-1]["tools"][0]["function"]["parameters"]["properties"]["who"]["enum"]
        assert sent == [GENDER.act("man", g), GENDER.act("woman", g)]
        # The SDK's own object goes back, as its documentation has it, with the tool's answer.
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": '{"found": "the woman"}'}
        answered: Any = [*CHAT, message, result]
        raw = asked(model="toy", messages=answered, tools=[TOOL], seed=seed, extra_headers=ELEMENTS)
        g, sent = element_of(raw), toy.requests[-1]["messages"]
        assert sent[1]["content"] == GENDER.act(message.content or "", g)
        assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"])["who"] == GENDER.act(
            json.loads(call.function.arguments)["who"], g
        )
        assert json.loads(sent[2]["content"]) == {"found": GENDER.act("the woman", g)}


async def joined(stream: Any) -> str:
    return "".join([chunk.choices[0].text async for chunk in stream])


def test_async_in_parallel(url: str, toy: ToyUpstream) -> None:
    toy.reply = REPLY

    async def ask() -> tuple[list[str], list[str]]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
            whole = [client.chat.completions.create(model="toy", messages=CHAT) for _ in range(10)]
            streams = [client.completions.create(model="toy", prompt="A man", stream=True) for _ in range(10)]
            answers = [answer.choices[0].message.content or "" for answer in await asyncio.gather(*whole)]
            opened = await asyncio.gather(*streams)
            return answers, list(await asyncio.gather(*map(joined, opened)))

    for texts in asyncio.run(ask()):
        assert len(texts) == 10 and set(texts) <= {GENDER.act(REPLY, g) for g in (0, 1)}


def test_embeddings_and_models(client: OpenAI) -> None:
    first, second = (
        client.embeddings.create(model="toy", input=text).data[0].embedding for text in ("a man", "a woman")
    )
    assert first == second and len(first) == 3  # the SDK asks for base64 unless told otherwise
    assert [model.id for model in client.models.list()] == ["toy", "org/other"]
    assert client.models.retrieve("toy").id == "toy"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("400", openai.BadRequestError),
        ("html", openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_the_sdks_exceptions(
    client: OpenAI, toy: ToyUpstream, fault: str, kind: type[Exception], stream: bool
) -> None:
    toy.fault = fault
    ask: Callable[..., Any] = client.chat.completions.create
    with pytest.raises(kind):
        ask(model="toy", messages=CHAT, stream=stream)


def test_what_is_refused_and_what_breaks(client: OpenAI, toy: ToyUpstream) -> None:
    with pytest.raises(openai.BadRequestError, match="logit_bias is refused"):
        client.chat.completions.create(model="toy", messages=CHAT, logit_bias={"5": 1})
    with pytest.raises(openai.NotFoundError, match="refused"):
        client.responses.create(model="toy", input="A man")
    toy.fault = "ends"
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="toy", messages=CHAT, stream=True))
