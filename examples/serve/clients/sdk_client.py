"""The openai Python SDK against a gateway: plain, streamed, async and with a tool.

OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python examples/serve/clients/sdk_client.py MODEL
"""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI, OpenAI

MODEL = sys.argv[1]
CHAT: Any = [{"role": "user", "content": "Write one sentence about a woman at work."}]
PARAMETERS = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": PARAMETERS}}


def main() -> None:
    """Run all of them."""
    client = OpenAI()
    answer = client.chat.completions.create(model=MODEL, messages=CHAT, n=2, max_tokens=24)
    print("plain:   ", [choice.message.content for choice in answer.choices])
    stream = client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=24, stream=True)
    print("streamed:", "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
    print("async:   ", asyncio.run(one_async()))
    called = client.chat.completions.create(model=MODEL, messages=CHAT, tools=[TOOL], max_tokens=24).choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in called.tool_calls or []]
    print("tools:   ", calls or called.content)


async def one_async() -> str | None:
    """An answer of the async client."""
    answer = await AsyncOpenAI().chat.completions.create(model=MODEL, messages=CHAT, max_tokens=24)
    return answer.choices[0].message.content


if __name__ == "__main__":
    main()
