"""Projecting once: where the head is plainly linear, the mean of the logits is the head of the mean hidden state."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions


@torch.no_grad()
def has_linear_head(model: PreTrainedModel) -> bool:
    """Whether a causal language model's logits are ``head(decoder(...).last_hidden_state)`` and nothing else.

    Soft caps, multipliers and biases hide in many places, so this compares the model's own forward pass, its decoder
    replaced by one that returns random hidden states, with the head applied to these.
    """
    head, decoder = model.get_output_embeddings(), model.get_decoder()
    if not is_plain_linear(head) or decoder is model or head.weight.is_meta:
        return False
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    # Large, so that a soft cap shows.
    hidden = 100 * torch.randn(1, 3, head.in_features, generator=own).to(head.weight)
    outputs = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)
    ids = torch.zeros(1, 3, dtype=torch.int64, device=model.device)
    try:
        with patch.object(decoder, "forward", lambda *args, **kwargs: outputs):
            logits = model(input_ids=ids, use_cache=False).logits
    except Exception:  # noqa: BLE001 - whatever it does with its decoder's outputs, the ordinary path is right
        return False
    return logits.shape[:2] == hidden.shape[:2] and torch.allclose(logits, head(hidden), rtol=1e-5, atol=1e-3)


def is_plain_linear(head: Any) -> bool:
    """Whether a head is a linear layer with its weight at hand: no adapter, no quantised or offloaded weight."""
    # A library may also put a quantized or sharded weight, a subclass of Tensor, into an ordinary layer.
    return type(head) is nn.Linear and type(head.weight) is nn.Parameter and not head.weight.is_meta


def project_columns(head: nn.Linear, hidden: Tensor, columns: Tensor) -> Tensor:
    """The logits of some tokens: hidden states ``(..., H)`` and token ids ``(C,)`` to ``(..., C)``."""
    bias = None if head.bias is None else head.bias[columns]
    return nn.functional.linear(hidden, head.weight[columns], bias)
