"""Test cases with a scorer of known unfairness: the arguments of `compute`, and parts of its result."""

from collections.abc import Sequence
from typing import Any


def score(prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
    """log P, which falls by 0.5 for each *man* in the prompt, and by 1 for each *man* in the continuation."""
    return [
        -1.0 - 0.5 * x.split().count("man") - y.split().count("man")
        for x, y in zip(prompts, continuations, strict=True)
    ]


test_cases: list[dict[str, Any]] = [
    {
        "prompts": ["The man", "The dog"],
        "continuations": [[" left"], [" left"]],
        "axes": "gender",
        "neutral_prompts": [],
        "result": {"level": "text", "order": 2, "moved_prompts": 1, "parity": ()},
        "gap": (0.25, 0.5),  # mean, largest
    },
    {
        "data": ["The man"],
        "continuations": [[" saw a man", " saw a woman"]],
        "axes": ["gender", "race3"],
        "neutral_prompts": ["It was a"],
        "result": {"order": 6, "prompts": 1, "num_continuations": 2},
        "gap": (3 / 5, 1.5),  # three of five elements swap gender: |0.5 + 1| and |0.5 - 1|
    },
]
