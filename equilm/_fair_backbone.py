"""The fair model without its head, for trainers that apply the head themselves, as TRL's do.

They read ``base_model(...).last_hidden_state`` and multiply it by the weight of ``get_output_embeddings()``. With the
base model's own hidden states that would train the plain model. The product is φ(x) with these: let h̄ be the mean over
g of the hidden states and W the head. For a token v that no g moves φ(x)[v] = h̄·W[v]. Each other token, of C, gets a
dimension more: the hidden states are [h̄, φ(x)[c] − h̄·W[c] for each such c], the head is [W, E] with E one-hot.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ._projection import project_columns
from .errors import EquiLMError

if TYPE_CHECKING:
    from .modeling_equilm import EquiLMForCausalLM


@dataclass(frozen=True)
class FairHead:
    """The head that belongs to a `FairBackbone`'s hidden states.

    Args:
        weight: [W, E], shape ``(V, H + C)``.
        bias: shape ``(V,)``, or None.
    """

    weight: Tensor
    bias: Tensor | None


class FairBackbone:
    """Stands for a wrapped model's ``base_model``: its attributes are the base model's, its call is fair.

    Args:
        model: the wrapped model.
    """

    def __init__(self, model: "EquiLMForCausalLM"):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model.language_model, name)

    def get_decoder(self) -> "FairBackbone":
        """Itself, so that no head is applied to the plain decoder by accident."""
        return self

    def __call__(self, input_ids: Tensor | None = None, **kwargs: Any) -> BaseModelOutput:
        """Hidden states of shape ``(B, T, H + C)``, for the head that ``get_output_embeddings`` gives next.

        Args:
            input_ids: int64, shape ``(B, T)``.
            kwargs: as in the wrapped model's ``forward``, without a cache.

        Raises:
            EquiLMError: for a model whose logits are not a linear head of its hidden states.
        """
        model = self._model
        head: Any = model.language_model.get_output_embeddings()
        if not model._may_project or kwargs.get("output_router_logits"):
            raise EquiLMError(
                f"The logits or the loss of {type(model.language_model).__name__} are not those of a linear head on "
                "its hidden states (a soft cap, a multiplier, an adapter on the head, a router's loss). This trainer "
                "applies the head itself, so it cannot be fair. Use one that calls the model, such as transformers' "
                "Trainer."
            )
        hidden, rows = model._hidden_states(input_ids, kwargs)  # (n, T, H)
        words = model.words.to(hidden.device)
        mean = rows.mean(hidden)  # (B, T, H)
        fair = model._word_logits(project_columns(head, hidden, words), rows)  # (B, T, C)
        more = (fair - project_columns(head, mean, words)).to(mean.dtype)
        one_hot = nn.functional.one_hot(words, head.out_features).T.to(head.weight)  # (V, C)
        model._next_head = FairHead(torch.cat([head.weight, one_hot], 1), head.bias)
        return BaseModelOutput(last_hidden_state=torch.cat([mean, more], -1))
