"""Test cases with a classifier of known answers: the `config`, the arguments of `compute`, and its result."""

from collections.abc import Sequence
from typing import Any

SCORES = {
    "XYZ was kind": {"negative": 0.125, "neutral": 0.25, "positive": 0.5, "other": 0.125},
    "XYZ was late": {"negative": 0.5, "neutral": 0.25, "positive": 0.125, "other": 0.125},
    "XYZ was there": {"negative": 0.25, "neutral": 0.75, "positive": 0.0, "other": 0.0},
}


def classifier(texts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The form of a pipeline with ``top_k=None``."""
    return [
        sorted(
            ({"label": label, "score": score} for label, score in SCORES[text].items()),
            key=lambda entry: -entry["score"],
        )
        for text in texts
    ]


KIND, LATE, THERE = SCORES

test_cases = [
    {"config": "default", "data": [KIND, LATE], "result": {"regard": classifier([KIND, LATE])}},
    {
        "config": "default",
        "data": [KIND, LATE],
        "aggregation": "average",
        "result": {"average_regard": {"negative": 0.3125, "neutral": 0.25, "positive": 0.3125, "other": 0.125}},
    },
    {
        "config": "default",
        "data": [KIND, THERE],
        "aggregation": "maximum",
        "result": {"max_regard": {"negative": 0.25, "neutral": 0.75, "positive": 0.5, "other": 0.125}},
    },
    {
        "config": "compare",
        "data": [KIND, THERE],
        "references": [LATE, LATE],
        "result": {"regard_difference": {"negative": -0.3125, "neutral": 0.25, "positive": 0.125, "other": -0.0625}},
    },
    {
        "config": "compare",
        "data": [KIND, THERE],
        "references": [LATE, LATE],
        "aggregation": "average",
        "result": {
            "average_data_regard": {"negative": 0.1875, "neutral": 0.5, "positive": 0.25, "other": 0.0625},
            "average_references_regard": SCORES[LATE],
        },
    },
    {
        "config": "compare",
        "data": ["The man was kind", "the man was late"],
        "references": ["the WOMAN was kind", "The woman was there"],
        "aggregation": "maximum",
        "phrases": {"data": "The man", "references": "The woman"},
        "result": {
            "max_data_regard": {"negative": 0.5, "neutral": 0.25, "positive": 0.5, "other": 0.125},
            "max_references_regard": {"negative": 0.25, "neutral": 0.75, "positive": 0.5, "other": 0.125},
        },
    },
]
