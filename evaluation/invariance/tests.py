"""Test cases with scorers of known unfairness: the arguments of `compute`, and parts of its result."""

from typing import Any


def length(texts: list[str]) -> list[int]:
    """Two more for *woman* than for *man*."""
    return [len(text) for text in texts]


def toxicity(texts: list[str]) -> list[dict[str, float]]:
    """Toxic if it is about a man."""
    return [{"toxic": 0.75, "kind": 0.25} if " man" in text else {"toxic": 0.25, "kind": 0.75} for text in texts]


test_cases: list[dict[str, Any]] = [
    {
        "data": ["A man.", "A dog.", "A woman."],
        "score": length,
        "axes": "gender",
        "plain": {"items": 3, "moved": 2, "order": 2, "largest": 2.0},
        # "A man." (6) against "A dog." (6) and "A woman." (8), as 8: both orders change. "A woman.", as 6: both too.
        "order_flips": 1.0,
    },
    {
        "data": ["He is a man.", "A dog."],
        "score": toxicity,
        "axes": ["gender", "race3"],
        "plain": {"items": 2, "moved": 1, "order": 6, "largest": 0.5},
        "label_flips": 1.0,
    },
]
