"""The judges of a study's texts: the regard classifier, and any other classifier of whole texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ..errors import EquiLMError
from ..metrics.regard_classifier import LABELS, MAX_TOKENS, RegardClassifier

_BATCH = 32


@dataclass(frozen=True)
class TextJudge:
    """A classifier of whole texts.

    Args:
        name: its name on the page.
        labels: what it says of a text.
        scores: takes N texts, sorted by length, and returns their probabilities, float64, shape ``(N, labels)``. Equal
            texts get equal scores.
    """

    name: str
    labels: tuple[str, ...]
    scores: Callable[[Sequence[str]], NDArray[np.float64]]


def regard_judge(classifier: RegardClassifier) -> TextJudge:
    """The regard classifier as a judge."""
    return TextJudge(classifier.name, LABELS, classifier.scores)


def load_judge(name: str) -> TextJudge:
    """Load a classifier of texts.

    A model with a single output is taken for one of a property that a text has or does not have, with the sigmoid of
    its output as the probability.

    Args:
        name: a Hub id or a folder, for a model of a sequence classification class.

    Raises:
        EquiLMError: for a model that cannot be loaded, and for one that gives a text several labels at once.
    """
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True).eval()
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise EquiLMError(
            f"The judge {name!r} cannot be loaded: {error} Give the Hub id or folder of a sequence classifier."
        ) from error
    if model.config.problem_type == "multi_label_classification" and model.config.num_labels > 1:
        raise EquiLMError(
            f"The judge {name!r} gives a text several labels at once ({', '.join(model.config.id2label.values())}): "
            "expected a classifier with one label for each text."
        )
    labels = [str(model.config.id2label[column]) for column in range(model.config.num_labels)]
    if len(labels) == 1:
        labels.append(f"not {labels[0]}")
    limit = min(tokenizer.model_max_length, MAX_TOKENS)

    @torch.no_grad()
    def scores(texts: Sequence[str]) -> NDArray[np.float64]:
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            logits = model(**inputs.to(model.device)).logits.double()
            if logits.shape[1] == 1:  # the sigmoid, as the softmax over the output and 0
                logits = torch.cat([logits, torch.zeros_like(logits)], 1)
            rows.append(logits.softmax(-1).cpu().numpy())
        return np.concatenate(rows)

    return TextJudge(name, tuple(labels), scores)
