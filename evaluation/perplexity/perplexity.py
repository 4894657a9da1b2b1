"""The `evaluate` metric of perplexity: a wrapper of `equilm.metrics.perplexity`."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from equilm import EquiLMError
from equilm.loading import resolve_model
from equilm.metrics import CITATION, check_text_lists, load_wikitext, perplexity

_DESCRIPTION = """\
Perplexity of a causal language model on a text: exp of the mean negative log-likelihood of its tokens, words and bytes,
in blocks side by side or in a sliding window.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): texts, which are joined by blank lines. May also be called data.
    dataset (str, optional): instead of texts "wikitext-2-raw", "wikitext-103-raw", "wikitext-2" or "wikitext-103" (the
        test set, from the Hub), or a text file.
    model_id (str): a Hub id or folder of a causal language model.
    model, tokenizer: a loaded model, which may be an EquiLM, and its tokenizer, instead of model_id.
    block_size (int, optional): the number of tokens in a block, 1024.
    stride (int, optional): the step of a sliding window, in tokens; by default blocks lie side by side.
    batch_size (int, optional): the number of blocks in a forward pass, 1.
    blocks (int, optional): the number of blocks to score, from the start; by default all.
    progress (bool, optional): whether to show a progress bar.
Returns:
    "perplexity", "word_perplexity", "byte_perplexity", "nll", "standard_error", "tokens", "text_tokens", "words",
    "bytes", "blocks", "block_size", "stride".
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Perplexity(evaluate.Metric):  # type: ignore[misc]
    """Perplexity of a causal language model."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            module_type="metric",
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/2210.06475", "https://huggingface.co/docs/transformers/perplexity"],
        )

    def compute(
        self,
        *,
        predictions: Sequence[str] | None = None,
        data: Sequence[str] | None = None,
        dataset: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any] | None:
        """Measure predictions, data or dataset, or texts added before; the module documents the arguments."""
        inputs = {"predictions": predictions, "data": data, "dataset": dataset}
        given = [name for name, value in inputs.items() if value is not None]
        if len(given) > 1:
            raise EquiLMError(f"{' and '.join(given)} are names of the same input: pass only one of them.")
        check_text_lists(predictions=predictions, data=data)
        if dataset is not None:
            predictions = [load_wikitext(dataset)]
        return super().compute(predictions=data if predictions is None else predictions, **kwargs)

    def add_batch(self, **inputs: Any) -> None:
        """Add a list of predictions to be measured later."""
        check_text_lists(**inputs)
        super().add_batch(**inputs)

    def _compute(
        self,
        predictions: Sequence[str],
        model: Any = None,
        model_id: str | None = None,
        tokenizer: Any = None,
        progress: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        model, tokenizer = resolve_model(model, model_id, tokenizer)
        return perplexity(model, tokenizer, predictions, progress=progress, **settings).to_dict()
