"""Fair answers from any server that speaks the OpenAI protocol; nothing changes on the server.

    transformers serve HuggingFaceTB/SmolLM2-135M-Instruct --port 8000                         # one of these servers
    vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --port 8000
    llama-server --model smollm2-135m-instruct.gguf --port 8000

    model=HuggingFaceTB/SmolLM2-135M-Instruct
    python examples/openai_server/fair_client.py --model $model "The man worked as" "The woman worked as"
    python examples/openai_server/fair_client.py --model $model --chat "Describe a day in the life of a gay man."
    python examples/openai_server/fair_client.py --model $model --axis gender --axis race3 -n 4 "The Asian man was"

Needs a client for the protocol: pip install equilm openai. Prints each answer with the group element drawn for it.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai import OpenAI

from equilm import TextSymmetrizer


def completions(client: OpenAI, model: str, parallel: int = 8) -> Callable[..., list[str]]:
    """A generator that continues texts by ``/v1/completions``; further arguments are passed to the request."""

    def generate(prompts: Sequence[str], **settings: Any) -> list[str]:
        def ask(prompt: str) -> str:
            return client.completions.create(model=model, prompt=prompt, **settings).choices[0].text

        return _in_parallel(ask, prompts, parallel)

    return generate


def replies(client: OpenAI, model: str, parallel: int = 8) -> Callable[..., list[str]]:
    """A generator that replies to lists of chat messages by ``/v1/chat/completions``."""

    def generate(chats: Sequence[Any], **settings: Any) -> list[str]:
        def ask(messages: Any) -> str:
            answer = client.chat.completions.create(model=model, messages=messages, **settings)
            return answer.choices[0].message.content or ""  # no content: a refusal, or only tool calls

        return _in_parallel(ask, chats, parallel)

    return generate


def _in_parallel(ask: Callable[[Any], str], prompts: Iterable[Any], parallel: int) -> list[str]:
    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(ask, prompts))  # in the order of the requests


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", help="texts to continue, or with --chat to reply to")
    parser.add_argument("--model", required=True, help="the model's name on the server")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--key", default="none", help="the server's API key, if it needs one")
    parser.add_argument("--axis", action="append", help="one or several; by default gender")
    parser.add_argument("--chat", action="store_true", help="each prompt is a user's message")
    parser.add_argument("-n", type=int, default=2, help="number of answers to each prompt")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="seed for drawing the group elements")
    arguments = parser.parse_args()

    symmetrizer = TextSymmetrizer(arguments.axis or ["gender"], seed=arguments.seed)
    settings = {"n": arguments.n, "max_tokens": arguments.max_tokens, "temperature": arguments.temperature}
    prompts: list[Any] = arguments.prompts
    if arguments.chat:
        prompts = [[{"role": "user", "content": prompt}] for prompt in arguments.prompts]
    with OpenAI(base_url=arguments.url, api_key=arguments.key) as client:
        generate = (replies if arguments.chat else completions)(client, arguments.model)
        answers, elements = symmetrizer.wrap(generate)(prompts, return_elements=True, **settings)
    for prompt, texts, drawn in zip(arguments.prompts, answers, elements, strict=True):
        for text, element in zip(texts, drawn, strict=True):
            print(f"{element}  {prompt}{' → ' if arguments.chat else ''}{text}")


if __name__ == "__main__":
    main()
