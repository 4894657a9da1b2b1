"""Classifiers of regard: texts to probabilities of four labels, by a model or by the user's own function."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ..errors import EquiLMError

LABELS = ("negative", "neutral", "positive", "other")
"""What a text makes readers think of the one it is about (Sheng et al., 2019, section 3); "other" is a mixture."""

MAX_TOKENS = 512  # of BERT-like encoders; not every tokenizer names its model's maximum

Pipelined = Callable[[list[str]], list[list[dict[str, Any]]]]
"""Texts to ``[{"label": ..., "score": ...}, ...]`` for each, as transformers' pipelines return with ``top_k=None``."""


class RegardClassifier(ABC):
    """Texts to probabilities of the four labels.

    Args:
        name: what results call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def scores(self, texts: Sequence[str], batch_size: int = 32, progress: bool = False) -> NDArray[np.float64]:
        """The probabilities of `LABELS`.

        Each distinct text is scored once, so equal texts get equal scores to the last digit, whatever they are batched
        with.

        Args:
            texts: N texts, none of them empty; a model's long texts are cut (`truncated`).
            batch_size: distinct texts scored at once.
            progress: show a progress bar.

        Returns:
            float64, shape ``(N, 4)``; columns in the order of `LABELS`, each row adds up to 1.

        Raises:
            EquiLMError: for a text in place of a list, an empty text, or a batch size below 1.
        """
        _check_texts(texts)
        if batch_size < 1:
            raise EquiLMError(
                f"batch_size is the number of texts scored at once, got {batch_size}: expected at least 1."
            )
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # alike in length, so little padding
        if not distinct:
            return np.empty((0, len(LABELS)))
        batches = range(0, len(distinct), batch_size)
        rows = [
            self._score(distinct[start : start + batch_size])
            for start in tqdm(batches, desc="Regard", unit="batch", disable=not progress)
        ]
        score_of = dict(zip(distinct, np.concatenate(rows), strict=True))
        return np.stack([score_of[text] for text in texts])

    @abstractmethod
    def truncated(self, texts: Sequence[str]) -> int | None:
        """How many of the texts are cut, at `MAX_TOKENS` or a lower maximum of the tokenizer; None if not known."""

    @abstractmethod
    def _score(self, batch: list[str]) -> NDArray[np.float64]:
        """The probabilities of one batch, shape ``(len(batch), 4)``."""


class ModelClassifier(RegardClassifier):
    """A model whose output has ``logits`` of shape ``(B, labels)``, and its tokenizer.

    Args:
        name: what results call it.
        model: the model; it is put into evaluation mode.
        tokenizer: its tokenizer.
        labels: the names of the columns of the logits, in any case: `LABELS`, or all but "other", which then gets
            probability 0.

    Raises:
        EquiLMError: for other labels.
    """

    def __init__(
        self, name: str, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]
    ) -> None:
        super().__init__(name)
        self._columns = _columns(labels, name)
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._limit = min(tokenizer.model_max_length, MAX_TOKENS)
        self._device = next(model.parameters()).device

    def truncated(self, texts: Sequence[str]) -> int:
        return sum(len(ids) > self._limit for ids in self._tokenizer(list(texts), verbose=False).input_ids)

    @torch.no_grad()
    def _score(self, batch: list[str]) -> NDArray[np.float64]:
        inputs = self._tokenizer(batch, padding=True, truncation=True, max_length=self._limit, return_tensors="pt").to(
            self._device
        )
        given = self._model(**inputs).logits.double().softmax(-1).cpu().numpy()  # (B, labels)
        return _in_order(given, self._columns)


class FunctionClassifier(RegardClassifier):
    """A function of the form of `Pipelined`. Texts are given as they are: cutting long ones is its business.

    Args:
        name: what results call it.
        function: the function; the labels it returns are checked as those of a model are.
    """

    def __init__(self, name: str, function: Pipelined) -> None:
        super().__init__(name)
        self._function = function

    def truncated(self, texts: Sequence[str]) -> None:
        return None

    def _score(self, batch: list[str]) -> NDArray[np.float64]:
        answers = self._function(batch)
        if len(answers) != len(batch):
            raise EquiLMError(f"The classifier {self.name} returned {len(answers)} results for {len(batch)} texts.")
        rows = []
        for text, answer in zip(batch, answers, strict=True):
            columns = _columns([entry["label"] for entry in answer], self.name)
            row = _in_order(np.array([[entry["score"] for entry in answer]], dtype=np.float64), columns)
            if row.min() < 0 or not np.isclose(row.sum(), 1, atol=1e-3):
                raise EquiLMError(
                    f"The classifier {self.name} gave {text!r} the scores {answer}: expected probabilities that add up "
                    "to 1."
                )
            rows.append(row / row.sum())
        return np.concatenate(rows)


def _columns(labels: Sequence[str], name: str) -> list[int]:
    """For each label given, its column in `LABELS`."""
    lower = [label.lower() for label in labels]
    if any(label.startswith("label_") for label in lower):
        raise EquiLMError(
            f"The labels {list(labels)} of the classifier {name} have no meaning. Set its config's id2label to "
            f"{', '.join(LABELS)}, in the order it was trained with."
        )
    if sorted(lower) not in (sorted(LABELS), sorted(LABELS[:3])):
        raise EquiLMError(
            f"The classifier {name} has the labels {list(labels)}: expected {', '.join(LABELS)}, or all but the last. "
            "A pipeline's or function's result must hold all of them: call it with top_k=None."
        )
    return [LABELS.index(label) for label in lower]


def _in_order(given: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    ordered = np.zeros((len(given), len(LABELS)))
    ordered[:, columns] = given
    return ordered


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise EquiLMError(f"Expected a list of texts, got the text {texts!r}. Put a single text into a list.")
    for position, text in enumerate(texts):
        if not text.strip():
            raise EquiLMError(f"Text {position} is empty ({text!r}): regard needs a text. Leave it out.")
