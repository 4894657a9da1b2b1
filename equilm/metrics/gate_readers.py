"""The gate for models that read: by how much the scores of a text and of its swaps differ.

A masked model has to satisfy P(gv at i | gX) = P(v at i | X) for every word v and place i, a classifier f(gX) = f(X).
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..words.vocabulary import VocabularyAction
from .fairness_levels import Array, absolute_difference, refuse_nan

# The gap and the parity for one prompt, as in `PromptCheck`.
ReaderMeter = Callable[[str], tuple[float, float | None]]


def masked_meter(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, action: VocabularyAction) -> "ReaderMeter":
    """Measures a masked model, fair or plain: at the masks of a prompt, or at all its places if it has none.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        action: the action on its token ids.
    """

    def measure(prompt: str) -> tuple[float, float | None]:
        texts = _orbit(tokenizer, action, prompt)
        ids = texts["input_ids"][0]  # (T,)
        masks = ids == tokenizer.mask_token_id
        places = masks if masks.any() else torch.ones_like(masks)
        permutation = action.permutation.cpu().numpy()

        def log_probs(g: int) -> Array:
            logits = _logits(model, texts, g)[places.to(model.device)]  # (places, V)
            return np.asarray(logits.double().log_softmax(-1).cpu().numpy())

        reference = log_probs(0)
        refuse_nan(reference)
        gap = 0.0
        for g in action.group.elements[1:]:
            image = log_probs(g)[:, permutation[g]]
            refuse_nan(image)
            gap = max(gap, float(absolute_difference(image, reference).max()))
        parity = None
        if masks.any() and (texts["input_ids"] == ids).all():
            words = [reference[:, np.array(lists)] for lists in action.cycles]  # (places, lists, d) each
            parity = max(float(np.ptp(one, axis=-1).max()) for one in words)
        return gap, parity

    return measure


def classifier_meter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, action: VocabularyAction
) -> "ReaderMeter":
    """Measures a classifier or a reward model, fair or plain, by the log-probabilities of its labels, or by its score.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        action: the action on its token ids.
    """

    def measure(prompt: str) -> tuple[float, float | None]:
        texts = _orbit(tokenizer, action, prompt)

        def scores(g: int) -> Array:
            logits = _logits(model, texts, g).double()  # (L,)
            if model.config.problem_type == "multi_label_classification":
                logits = torch.cat([logits, -logits]).sigmoid().log()
            elif len(logits) > 1 and model.config.problem_type != "regression":
                logits = logits.log_softmax(-1)
            return np.asarray(logits.cpu().numpy())

        reference = scores(0)
        images = np.stack([scores(g) for g in action.group.elements])  # (|G|, L)
        refuse_nan(images)
        return float(absolute_difference(images, reference).max()), None

    return measure


def _orbit(tokenizer: PreTrainedTokenizerBase, action: VocabularyAction, prompt: str) -> dict[str, Any]:
    """What the model reads of all swaps of a prompt: its inputs, each of shape ``(|G|, T)``."""
    encoded = tokenizer(prompt, return_tensors="pt")
    images = action.to(torch.device("cpu")).orbit(encoded["input_ids"])[:, 0]
    return {name: images if name == "input_ids" else value.expand(images.shape) for name, value in encoded.items()}


@torch.no_grad()
def _logits(model: PreTrainedModel, texts: dict[str, Any], g: int) -> Any:
    """The logits for one swap by itself, since a model may have no padding token: ``(T, V)`` or ``(L,)``."""
    inputs = {name: value[g, None].to(model.device) for name, value in texts.items()}
    return cast(Any, model)(**inputs).logits[0]
