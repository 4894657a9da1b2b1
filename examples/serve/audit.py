"""Checks a gateway from outside: with one seed, the answers to a prompt and to its swaps are each other's swaps.

    equilm serve --upstream http://127.0.0.1:8000 --axis gender --port 8080
    python examples/serve/audit.py --model my-model "The man worked as" "The nurse said that he"
    python examples/serve/audit.py --model my-model --url http://127.0.0.1:8000/v1 "The man worked as"   # no gateway

Equation 4 for one seed after another: if every answer to g·X is g applied to the answer to X, so are the distributions.
It needs a server that gives equal answers to equal requests with equal seeds; one that does not is told apart. The
elements drawn are tested for being uniform. Exit code 0: all are related; 1: some are not; 2: that could not be told.
"""

import argparse
import sys
from collections import Counter

from openai import OpenAI
from scipy.stats import chisquare

from equilm.text import TextAction


def main() -> int:
    """Ask, compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", help="texts that name the groups")
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1", help="the gateway, or a server without one")
    parser.add_argument("--model", required=True)
    parser.add_argument("--axis", action="append", help="as the gateway has them; else gender")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds for each prompt")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--chat", action="store_true", help="send the prompts as chat messages")
    arguments = parser.parse_args()

    action = TextAction(arguments.axis or ["gender"])
    client = OpenAI(base_url=arguments.url, api_key="none", timeout=600)

    def ask(prompt: str, seed: int) -> tuple[str, str | None]:
        headers = {"X-Equilm-Seed": str(seed), "X-Equilm-Return-Elements": "true"}
        settings = {"model": arguments.model, "max_tokens": arguments.max_tokens, "seed": seed}
        if arguments.chat:
            messages = [{"role": "user", "content": prompt}]
            raw = client.chat.completions.with_raw_response.create(**settings, messages=messages, extra_headers=headers)
            answer = raw.parse().choices[0].message.content or ""
        else:
            raw = client.completions.with_raw_response.create(**settings, prompt=prompt, extra_headers=headers)
            answer = raw.parse().choices[0].text
        return answer, raw.headers.get("x-equilm-elements")

    related, unequal, total = 0, 0, 0
    elements: Counter[str | None] = Counter()  # for each seed and prompt one: those of its swaps follow from it
    for prompt in arguments.prompts:
        before = "" if arguments.chat else prompt
        for seed in range(arguments.seeds):
            asked = [ask(image, seed) for image in action.orbit(prompt)]
            answers = [answer for answer, _ in asked]
            elements[asked[0][1]] += 1
            wanted = [action.act_on_continuation(before, answers[0], g) for g in action.group.elements]
            total += 1
            related += answers == wanted
            unequal += answers != wanted and ask(prompt, seed)[0] != answers[0]
            if answers != wanted:
                print(f"seed {seed}: not related: {answers}")
    print(f"{related} of {total} seeds: the answers to a prompt and to its swaps are each other's swaps")
    if None not in elements:
        counts = [elements[str(g)] for g in action.group.elements]
        print(f"elements drawn: {counts}, uniform with p = {chisquare(counts).pvalue:.3f}")
    if unequal:
        print(f"{unequal} times the server answered one request with one seed in two ways: set it up to repeat itself")
        return 2
    return 0 if related == total else 1


if __name__ == "__main__":
    sys.exit(main())
