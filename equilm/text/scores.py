"""The mean of what a scorer says about several images of a text: numbers, arrays, dicts, or a pipeline's labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import EquiLMError


def mean_score(scores: Sequence[Any]) -> Any:
    """The mean of several scores of one form.

    Args:
        scores: at least one of: numbers; numpy arrays or tensors of one shape; dicts of scores with the same keys;
            lists of scores of one length; or the labels of a text-classification pipeline called with ``top_k=None``,
            lists of ``{"label": …, "score": …}``. None throughout, for "no score", stays None.

    Returns:
        A score of that form. Numbers become floats; labels are averaged by name, the likeliest first.

    Raises:
        EquiLMError: for scores that have no mean, naming the first.

    Example:
        >>> mean_score([{"toxic": 0.25}, {"toxic": 0.75}])
        {'toxic': 0.5}
        >>> mean_score([[{"label": "A", "score": 0.75}, {"label": "B", "score": 0.25}],
        ...             [{"label": "B", "score": 0.75}, {"label": "A", "score": 0.25}]])
        [{'label': 'A', 'score': 0.5}, {'label': 'B', 'score': 0.5}]
    """
    first = scores[0]
    if all(score is None for score in scores):
        return None
    if isinstance(first, torch.Tensor):
        _check_alike([tuple(score.shape) for score in scores])
        stacked = torch.stack(list(scores))
        return stacked.to(torch.promote_types(stacked.dtype, torch.float32)).mean(0)
    if isinstance(first, np.ndarray):
        _check_alike([score.shape for score in scores])
        array = np.stack(list(scores))
        return array.mean(0, dtype=np.result_type(array.dtype, np.float32))
    if isinstance(first, bool | int | float | np.number | np.bool_):
        return math.fsum(map(float, scores)) / len(scores)
    if isinstance(first, Mapping):
        if set(first) == {"label", "score"}:
            raise EquiLMError(
                f"A score is the likeliest label alone ({first!r}), and the mean needs all labels. Call the pipeline "
                "with top_k=None."
            )
        _check_alike([sorted(score) for score in scores])
        return {key: mean_score([score[key] for score in scores]) for key in first}
    if isinstance(first, Sequence) and not isinstance(first, str | bytes):
        if first and all(isinstance(entry, Mapping) and set(entry) == {"label", "score"} for entry in first):
            return _mean_labels(scores)
        _check_alike([len(score) for score in scores])
        return [mean_score(entries) for entries in zip(*scores, strict=True)]
    raise EquiLMError(
        f"A score is {first!r}, which has no mean: expected a number, an array, or dicts or lists of them. Return the "
        "scores behind it, such as the probability of each label."
    )


def _mean_labels(scores: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    by_label = [{entry["label"]: entry["score"] for entry in score} for score in scores]
    means = mean_score(by_label)
    ordered = sorted(means, key=lambda label: (-means[label], label))
    return [{"label": label, "score": means[label]} for label in ordered]


def _check_alike(forms: Sequence[Any]) -> None:
    for form in forms:
        if form != forms[0]:
            raise EquiLMError(
                f"Scores of one text's images have different forms, {forms[0]} and {form}, so they have no mean. A "
                "pipeline needs top_k=None, and token-wise outputs have to be pooled first."
            )
