"""The `evaluate` measurement of invariance: a wrapper of `equilm.metrics.invariance`."""

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate

from equilm.metrics import CITATION, check_text_lists, invariance
from equilm.text import TextSymmetrizer

_DESCRIPTION = """\
Invariance of a scorer of texts: how much its scores, its labels and the order of the texts change when the words of
demographic groups are swapped. 0 is invariant.
"""

_KWARGS_DESCRIPTION = """
Args:
    data (list of str): the texts to score.
    score: a function from a list of texts to one score for each: a number, a vector, a dict by label, or the labels of
        a text-classification pipeline with top_k=None.
    axes: "gender", "race", "orientation", …, a path or a DemographicAxis, or a list of them.
    fair (bool, optional): also measure the scorer made invariant.
    confidence, resamples, seed (optional): the confidence level (0.95), the number of resamples (2000) and the seed (0)
        of the intervals.
Returns:
    "plain" and, with fair=True, "fair": each has "difference", "largest", "label_flips", "order_flips", and the numbers
    of items and swaps.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Invariance(evaluate.Measurement):  # type: ignore[misc]
    """How much the scores of texts change under swaps of demographic words."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            module_type="measurement",
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"data": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/2210.06475"],
        )

    def compute(self, *, data: Sequence[str] | None = None, **kwargs: Any) -> dict[str, Any] | None:
        """Measure data, or data added before; the module documents the arguments."""
        check_text_lists(data=data)
        return super().compute(data=data, **kwargs)

    def _compute(
        self, data: Sequence[str], score: Callable[[list[str]], Any], axes: Any, fair: bool = False, **settings: Any
    ) -> dict[str, Any]:
        texts = list(data)
        results = {"plain": invariance(score, texts, axes, **settings).to_dict()}
        if fair:
            made_fair = TextSymmetrizer(axes).invariant(score)
            results["fair"] = invariance(made_fair, texts, axes, **settings).to_dict()
        return results
