"""The mean of scores of every form, and refusals of what has none."""

from typing import Any

import numpy as np
import pytest
import torch

from equilm import EquiLMError
from equilm.text.scores import mean_score


def test_every_form_has_its_mean() -> None:
    assert mean_score([1, 2.0, np.float32(6)]) == 3.0
    assert mean_score([True, False]) == 0.5
    assert mean_score([None, None]) is None
    assert mean_score([[1, 2], [3, 6]]) == [2.0, 4.0]
    assert mean_score([{"a": 1, "b": {"c": [2]}}, {"a": 3, "b": {"c": [4]}}]) == {"a": 2.0, "b": {"c": [3.0]}}
    array = mean_score([np.array([1, 2], np.float16), np.array([3, 5], np.float16)])
    assert array.dtype == np.float32 and array.tolist() == [2, 3.5]
    tensor = mean_score(
        [torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor([3.0, 5.0], dtype=torch.bfloat16)]
    )
    assert tensor.dtype == torch.float32 and tensor.tolist() == [2, 3.5]


def test_labels_are_averaged_by_name_the_likeliest_first() -> None:
    one = [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}]
    other = [{"label": "bad", "score": 1.0}, {"label": "good", "score": 0.0}]
    assert mean_score([one, other]) == [{"label": "bad", "score": 0.625}, {"label": "good", "score": 0.375}]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([{"label": "good", "score": 0.9}] * 2, "top_k=None"),
        (["good", "good"], "has no mean"),
        ([[1, 2], [1]], "different forms, 2 and 1"),
        ([np.zeros(2), np.zeros(3)], "different forms"),
        ([{"a": 1}, {"b": 1}], "different forms"),
    ],
)
def test_scores_without_a_mean_are_refused(scores: list[Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        mean_score(scores)
