"""LangChain's ChatOpenAI against a gateway: plain, streamed, in a batch, async and with a tool.

pip install langchain-openai
OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python examples/serve/clients/langchain_client.py MODEL
"""

import asyncio
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUESTION = "Write one sentence about a woman at work."


@tool
def look_up(who: str) -> str:
    """Look up a person."""
    return f"{who} is a nurse."


def main() -> None:
    """Run all of them."""
    chat = ChatOpenAI(model=sys.argv[1], max_tokens=24, stream_usage=True)
    print("plain:   ", chat.invoke(QUESTION).content)
    print("streamed:", "".join(str(chunk.content) for chunk in chat.stream(QUESTION)))
    print("batch:   ", [answer.content for answer in chat.batch([QUESTION, QUESTION])])
    print("async:   ", asyncio.run(chat.ainvoke(QUESTION)).content)
    called = chat.bind_tools([look_up]).invoke("Look up the woman.")
    print("tools:   ", called.tool_calls or called.content)


if __name__ == "__main__":
    main()
