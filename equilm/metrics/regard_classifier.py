"""Regard classifiers, which give a text the probabilities of four labels: a model, or the user's own function."""

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
"""How a text makes readers think of the person it is about (Sheng et al., 2019, section 3); "other" is a mixture."""

MAX_TOKENS = 512  # for BERT-like encoders, since not every tokenizer knows its model's maximum

Pipelined = Callable[[list[str]], list[list[dict[str, Any]]]]
"""A function from texts to ``[{"label": ..., "score": ...}, ...]`` for each, like a pipeline with ``top_k=None``."""


class RegardClassifier(ABC):
    """Gives texts the probabilities of the four labels.

    Args:
        name: its name in results.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def scores(self, texts: Sequence[str], batch_size: int = 32, progress: bool = False) -> NDArray[np.float64]:
        """The probabilities of `LABELS`.

        Each distinct text is scored once, so equal texts get equal scores to the last digit, whichever texts share
        their batch.

        Args:
            texts: N texts, none of them empty; a model cuts long texts (see `truncated`).
            batch_size: the number of distinct texts to score at once.
            progress: whether to show a progress bar.

        Returns:
            float64, shape ``(N, 4)``. The columns are in the order of `LABELS`; each row adds up to 1.

        Raises:
            EquiLMError: for a text in place of a list, an empty text, or a batch size below 1.
        """
        _check_texts(texts)
        if batch_size < 1:
            raise EquiLMError(
                f"batch_size is the number of texts scored at once, got {batch_size}: expected at least 1."
            )
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # similar lengths need little padding
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
        """How many of the texts are cut, at `MAX_TOKENS` or the tokenizer's lower maximum; None if unknown."""

    @abstractmethod
    def _score(self, batch: list[str]) -> NDArray[np.float64]:
        """The probabilities of one batch, shape ``(len(batch), 4)``."""


class ModelClassifier(RegardClassifier):
    """A model whose output has ``logits`` of shape ``(B, labels)``, and its tokenizer.

    Args:
        name: its name in results.
        model: the model; it is put into evaluation mode.
        tokenizer: its tokenizer.
        labels: the names of the columns of the logits, in upper or lower case: `LABELS`, or all except "other", which
            then gets probability 0.

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
    """A function of the form of `Pipelined`. It gets whole texts, and must cut long ones itself if necessary.

    Args:
        name: its name in results.
        function: the function; its labels are checked like those of a model.
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
    """The column in `LABELS` of each given label."""
    lower = [label.lower() for label in labels]
    if any(label.startswith("label_") for label in lower):
        raise EquiLMError(
            f"The labels {list(labels)} of the classifier {name} have no meaning. Set its config's id2label to "
            f"{', '.join(LABELS)}, in the order it was trained with."
        )
    if sorted(lower) not in (sorted(LABELS), sorted(LABELS[:3])):
        raise EquiLMError(
            f"The classifier {name} has the labels {list(labels)}: expected {', '.join(LABELS)}, or all except the "
            "last. A pipeline or function must return all of them: call a pipeline with top_k=None."
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
