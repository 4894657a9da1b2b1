"""How a base model's cache may be continued: some take one token at a time, some contradict the whole text."""

import copy
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ._compat import cache_of

CacheUse: TypeAlias = Literal["chunks", "steps", "none"]

_PREFIX, _LENGTH = 5, 8
# Rounding differs with the shape of the rows; a cache that is wrong is off by a good part of the logits' spread.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 8e-2}


def relative_error(logits: Tensor, expected: Tensor, whole: Tensor | None = None) -> float:
    """The error of logits, relative to how far the expected ones spread over the vocabulary, both root mean squares.

    Args:
        logits: shape ``(..., C)``.
        expected: shape ``(..., C)``.
        whole: shape ``(..., V)``: those whose spread counts, where C are only some; None: ``expected``.
    """
    whole = (expected if whole is None else whole).float()
    spread = (whole - whole.mean(-1, keepdim=True)).square().mean().sqrt()
    error = (logits.double() - expected.double()).square().mean().sqrt()
    return float(error / spread.clamp(min=1e-6))


def tolerance(dtype: torch.dtype) -> float:
    """How large `relative_error` may be by rounding."""
    return _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])


@torch.no_grad()
def cache_use(model: PreTrainedModel, name: str) -> CacheUse:
    """Whether a causal model continues its cache right by several tokens at once ("chunks"), by single ones ("steps").

    It runs a few random tokens through the model, whole and in parts. "none" says that even single steps do not give
    the logits of the whole text, so that its texts must be run anew at every step.

    Args:
        model: the base model.
        name: what it calls its cache.
    """
    training = [(module, module.training) for module in model.modules()]
    vocab_size = model.config.get_text_config().vocab_size
    ids = torch.randint(vocab_size // 2, (1, _LENGTH), generator=torch.Generator().manual_seed(0)).to(model.device)
    model.eval()
    try:
        with torch.random.fork_rng():  # some models draw in their forward pass
            whole = _logits(model, ids, 0, use_cache=False)[0]
            _, prefilled = _logits(model, ids[:, :_PREFIX], 0, use_cache=True)
            if prefilled is None:
                return "none"
            for use, size in (("chunks", _LENGTH - _PREFIX), ("steps", 1)):
                if _continued_error(model, ids, whole, copy.deepcopy(prefilled), name, size) <= tolerance(model.dtype):
                    return use  # type: ignore[return-value]
            return "none"
    finally:
        for module, was in training:
            module.training = was


def _continued_error(model: Any, ids: Tensor, whole: Tensor, cache: Any, name: str, size: int) -> float:
    """The error of a text continued ``size`` tokens at a time; infinite where the model cannot."""
    parts = []
    try:
        for start in range(_PREFIX, _LENGTH, size):
            logits, cache = _logits(model, ids[:, : start + size], start, use_cache=True, **{name: cache})
            parts.append(logits)
    except Exception:  # noqa: BLE001 - each model has its own way to refuse several tokens at once
        return float("inf")
    return relative_error(torch.cat(parts, 1), whole[:, _PREFIX:])


def _logits(model: Any, ids: Tensor, start: int, **arguments: Any) -> tuple[Tensor, Any]:
    """The logits of the tokens from ``start`` on, as generate() runs them, and the cache."""
    inputs = model.prepare_inputs_for_generation(
        ids,
        next_sequence_length=ids.shape[1] - start,
        attention_mask=torch.ones_like(ids),
        is_first_iteration=start == 0,
        **arguments,
    )
    outputs = model(**inputs, return_dict=True)
    return outputs.logits, cache_of(outputs)
