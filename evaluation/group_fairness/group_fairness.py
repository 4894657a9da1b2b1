"""The `evaluate` metric of group-theoretic fairness: a wrapper of `equilm.metrics.group_fairness`."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from equilm import EquiLMError
from equilm.loading import resolve_model
from equilm.metrics import CITATION, check_text_lists, group_fairness

_DESCRIPTION = """\
Group-theoretic fairness: how far a generator of texts is from P(gY|gX) = P(Y|X), where g swaps the words of demographic
groups in the prompt X and in its continuation Y. 0 is fair.
"""

_KWARGS_DESCRIPTION = """
Args:
    prompts (list of str): the prompts X. May also be called data.
    model_id (str): a Hub id or folder of a causal language model.
    model: instead of model_id, a loaded model; an equilm.metrics.SequenceLevel; or a function that takes a list of
        prompts and a list of continuations and returns the log-probability of each continuation.
    tokenizer: the model's tokenizer; optional for a function.
    axes: "gender", "race", "race3", "orientation", a path or a DemographicAxis, or a list of them. For an EquiLM, the
        default is its own axes.
    continuations (list of list of str): only for a function: the same number of texts for each prompt.
    num_continuations, max_new_tokens (int, optional): the number of continuations to sample, 8, and their maximum
        length in tokens, 15.
    neutral_prompts (list of str, optional): prompts without words of the axes, for parity of the next word.
    batch_size (int, optional): the number of rows in a forward pass, 32.
    confidence, bootstrap, seed (optional): the confidence level (0.95) and the number of resamples (1000) of the
        intervals, and the seed (0) of all sampling.
    progress (bool, optional): whether to show a progress bar.
Returns:
    "token_gap" or "continuation_gap" and "continuation_gap_per_token"; "parity"; and the settings they were measured
    with.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GroupFairness(evaluate.Metric):  # type: ignore[misc]
    """How far a generator of texts is from eq. 4 of Basu et al. (2023)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            module_type="metric",
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"prompts": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/2210.06475"],
        )

    def compute(
        self, *, prompts: Sequence[str] | None = None, data: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Measure prompts or data, or prompts added before; the module documents the arguments."""
        if prompts is not None and data is not None:
            raise EquiLMError("prompts and data are names of the same input: pass only one of them.")
        check_text_lists(prompts=prompts, data=data)
        return super().compute(prompts=data if prompts is None else prompts, **kwargs)

    def add_batch(self, **inputs: Any) -> None:
        """Add a list of prompts to be measured later."""
        check_text_lists(**inputs)
        super().add_batch(**inputs)

    def _compute(
        self,
        prompts: Sequence[str],
        model: Any = None,
        model_id: str | None = None,
        tokenizer: Any = None,
        axes: Any = None,
        progress: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        model, tokenizer = resolve_model(model, model_id, tokenizer)
        return group_fairness(model, tokenizer, list(prompts), axes, progress=progress, **settings).to_dict()
