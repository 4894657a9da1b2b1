"""A stand-in on the CPU for FlashAttention's kernels, so that transformers' own code around them runs.

That code finds out what is packed and what is padded, and what the kernels are told.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, modeling_flash_attention_utils


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> Tensor:
    """One text: query (T, H, D), key and value (S, K, D) to (T, H, D); the last query goes with the last key."""
    times = query.shape[1] // key.shape[1]
    query, key, value = (x.transpose(0, 1) for x in (query, key, value))  # (H, T, D)
    scores = query @ key.repeat_interleave(times, 0).transpose(1, 2)  # (H, T, S)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(scores.shape[2] - scores.shape[1] + 1)
        scores = scores.masked_fill(later, -torch.inf)
    return (scores.softmax(-1) @ value.repeat_interleave(times, 0)).transpose(0, 1)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """Texts end to end: q (Σ T, H, D), k and v (Σ S, K, D), and where each begins and the last ends."""
    bounds_q, bounds_k = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    assert bounds_q[-1] == len(q) and bounds_k[-1] == len(k), "the offsets must cover all rows"
    assert max_seqlen_q >= max(b - a for a, b in pairwise(bounds_q))
    assert max_seqlen_k >= max(b - a for a, b in pairwise(bounds_k))
    texts = zip(pairwise(bounds_q), pairwise(bounds_k), strict=True)
    parts = [_attend(q[a:b], k[c:d], v[c:d], causal, softmax_scale) for (a, b), (c, d) in texts]
    return torch.cat(parts)


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, softmax_scale: float | None = None, causal: bool = False
) -> Tensor:
    """Texts of one length: q (B, T, H, D), k and v (B, S, K, D)."""
    rows = zip(q, k, v, strict=True)
    return torch.stack([_attend(*row, causal, softmax_scale) for row in rows])


def use_stand_in(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model attend as transformers' FlashAttention does, with these kernels.

    Args:
        model: attends within each text, and without a window.
        monkeypatch: undoes it.
    """
    utils: Any = modeling_flash_attention_utils
    kernels = (flash_attn_func, flash_attn_varlen_func, None, utils._pad_input, utils._unpad_input)
    monkeypatch.setattr(utils, "_lazy_imports", lambda *args, **kwargs: kernels)
    monkeypatch.setattr(utils, "_loaded_implementation", None)
    model.config._attn_implementation = "flash_attention_2"
