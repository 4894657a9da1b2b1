"""Projecting once: where the head is plainly linear, the mean of the logits is the head of the mean hidden state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions


@torch.no_grad()
def has_linear_head(model: PreTrainedModel) -> bool:
    """Whether a language model's logits are ``head(decoder(...).last_hidden_state)`` and nothing else.

    Soft caps, multipliers and biases hide in many places, so this compares the model's own forward pass, its decoder
    replaced by one that returns random hidden states, with the head applied to these. It runs no layer but the head;
    what it cannot see, `equilm._self_check` does.
    """
    head, decoder = model.get_output_embeddings(), model.get_decoder()
    if not is_plain_linear(head) or decoder is model or not isinstance(decoder, PreTrainedModel):
        return False
    if model.config.get_text_config() is not model.config and decoder is not model.base_model:
        return False  # a part of a model for more than text: what stands between the parts is not probed
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    # Large, so that a soft cap shows.
    hidden = 100 * torch.randn(1, 3, head.in_features, generator=own).to(head.weight)
    ids = torch.zeros(1, 3, dtype=torch.int64, device=model.device)
    try:
        with _returning(decoder, BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)):
            logits = model(input_ids=ids, use_cache=False).logits
        expected = head(hidden)
    except Exception:  # noqa: BLE001 - whatever it does with its decoder's outputs, the ordinary path is right
        return False
    same_shape = logits.shape == expected.shape
    return same_shape and torch.allclose(logits.float(), expected.float(), rtol=1e-5, atol=1e-3)


@contextmanager
def _returning(module: Any, outputs: Any) -> Iterator[None]:
    """Inside, a module returns these outputs and computes nothing."""
    hooked = vars(module).get("forward")  # libraries that move weights put a forward of their own there
    module.forward = lambda *args, **kwargs: outputs
    try:
        yield
    finally:
        del module.forward
        if hooked is not None:
            module.forward = hooked


def is_plain_linear(head: Any) -> bool:
    """Whether a head is a linear layer with its weight at hand: no adapter, no quantised or offloaded weight."""
    # A library may also put a quantized or sharded weight, a subclass of Tensor, into an ordinary layer.
    return type(head) is nn.Linear and type(head.weight) is nn.Parameter and not head.weight.is_meta


def project_columns(head: nn.Linear, hidden: Tensor, columns: Tensor) -> Tensor:
    """The logits of some tokens: hidden states ``(..., H)`` and token ids ``(C,)`` to ``(..., C)``."""
    bias = None if head.bias is None else head.bias[columns]
    return nn.functional.linear(hidden, head.weight[columns], bias)
