"""EquiLM and R-EquiLM around any causal language model of transformers (paper, section 5.3)."""

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from ._compat import CACHE, cache_of, one_cache
from ._modeling_base import EquiLMPreTrainedModel
from ._orbit_rows import OrbitCache, Rows, adopt, all_rows, branches_of, choose, distinct_rows, is_static, per_row
from .errors import EquiLMError

# Prefilling the shared prefix by itself reads all weights once more, about the price of this many tokens.
_WORTH_A_PASS = 32


class EquiLMForCausalLM(EquiLMPreTrainedModel, GenerationMixin):
    """A causal language model that treats demographic groups alike: P(gX₂|gX₁) = P(X₂|X₁) (paper, eq. 4).

    Everything happens in `forward`: the base model runs on the permuted contexts g·x in one batch; the logits are
    φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v] (eq. 3). With ``config.relaxed``, R-EquiLM: the same for all words but the general
    ones, for which φ(x)[v] = M(x)[v]. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
    """

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        token_type_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: shape ``(B, T + past)``, or the 4D masks of a static cache.
            position_ids: shape ``(B, T)``.
            cache: a cache that this model has filled, or an empty one. It knows which of its rows holds
                which g·x_b and answers for B texts when cropped, reordered or repeated (`equilm._orbit_rows`).
            inputs_embeds: refused: an embedding cannot be permuted.
            labels: int64, shape ``(B, T)``, -100 where there is no loss.
            use_cache: whether to return a cache.
            logits_to_keep: the number of last positions to return logits for (0: all), or their indices.
            token_type_ids: shape ``(B, T)``.
            past_key_values: the older name of ``cache``; either is taken, whatever the version of transformers.
            kwargs: handed on to the base model.

        Returns:
            ``logits`` of shape ``(B, T', V)``; with ``labels`` the mean cross-entropy as ``loss``; hidden states and
            attentions, where asked for, of the unpermuted rows.

        Raises:
            EquiLMError: for ``inputs_embeds``.
        """
        if inputs_embeds is not None or input_ids is None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        num_items = kwargs.pop("num_items_in_batch", None)
        # Positions and token types are optional extras that not every architecture knows; it then makes its own.
        extras = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        per_text = {k: v for k, v in extras.items() if v is not None and k in self._base_arguments}
        kwargs |= {"use_cache": use_cache, "return_dict": True}
        cache = one_cache(cache=cache, past_key_values=past_key_values)
        if not torch.compiler.is_compiling() and self.is_plain:
            past = {self._cache_argument: cache}
            outputs = self.language_model(input_ids=input_ids, **per_text, **past, **kwargs)
            logits = outputs.logits[:, kept_positions(logits_to_keep)]
            unpermuted = torch.arange(len(logits), device=logits.device)
        else:
            logits, outputs, unpermuted = self._average(input_ids, per_text, cache, logits_to_keep, kwargs)

        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE: cache_of(outputs)},
            hidden_states=choose(outputs.get("hidden_states"), unpermuted),
            attentions=choose(outputs.get("attentions"), unpermuted),
        )

    def _average(
        self,
        input_ids: Tensor,
        per_text: dict[str, Any],
        cache: Any,
        logits_to_keep: int | Tensor,
        kwargs: dict[str, Any],
    ) -> tuple[Tensor, Any, Tensor]:
        """φ(x), shape ``(B, T', V)``; the base model's outputs on the permuted rows; the unpermuted ones among them."""
        copies = self.action.orbit(input_ids)  # (|G|, B, T)
        rows = self._rows(copies, per_text, cache)  # n distinct rows serve |G|·B contexts
        whole = kwargs.get("output_hidden_states") or kwargs.get("output_attentions")  # of all tokens, not of the rest
        split = 0 if whole else self._shared_prefix(copies, rows, per_text, cache, logits_to_keep)
        if split > 0:
            rest = input_ids.shape[1] - split
            start = {name: value[:, : value.shape[1] - rest] for name, value in per_text.items()}
            self._average(input_ids[:, :split], start, cache, 1, kwargs)
            tail = {name: value if name == "attention_mask" else value[:, split:] for name, value in per_text.items()}
            return self._average(input_ids[:, split:], tail, cache, logits_to_keep, kwargs)

        if isinstance(cache, OrbitCache) and cache.branches is not None and not cache.static:
            cache.fork(cache.branches.flatten()[rows.first])
        arguments = {name: per_row(value, rows, len(input_ids)) for name, value in per_text.items()}
        arguments |= {"input_ids": copies.flatten(0, 1)[rows.first], **kwargs}  # (n, T)
        kept = kept_positions(logits_to_keep)
        if self._may_project:
            arguments[self._decoder_cache_argument] = cache
            outputs = self.language_model.get_decoder()(**arguments)
            logits = self._project(outputs.last_hidden_state[:, kept], rows)
        else:
            if "logits_to_keep" in self._base_arguments:
                arguments["logits_to_keep"], kept = logits_to_keep, slice(None)
            arguments[self._cache_argument] = cache
            outputs = self.language_model(**arguments)
            logits = self._mean_logits(outputs.logits[:, kept], rows)
        rows = rows.to(logits.device)
        filled = cache_of(outputs)
        if filled is not None and not torch.compiler.is_compiling():
            adopt(filled, rows)
        return logits, outputs, rows.branches[0]

    def _rows(self, copies: Tensor, per_text: dict[str, Any], cache: Any) -> Rows:
        order, batch = copies.shape[:2]
        mask = per_text.get("attention_mask")
        fixed = torch.compiler.is_compiling() or is_static(cache) or not self._shares_rows
        if fixed or isinstance(mask, dict) or (mask is not None and mask.ndim != 2):
            return all_rows(order, batch, copies.device)
        parents = None
        if cache is not None and cache.get_seq_length() > 0:
            parents = branches_of(cache)
            if parents.shape[1] != batch:
                raise EquiLMError(f"The cache holds {parents.shape[1]} texts, but input_ids {batch}.")
        positions = per_text.get("position_ids")
        if positions is not None:
            positions = positions.expand(batch, -1)
        return distinct_rows(copies, mask, positions, parents)

    def _shared_prefix(
        self, copies: Tensor, rows: Rows, per_text: dict[str, Any], cache: Any, logits_to_keep: int | Tensor
    ) -> int:
        """The number of leading tokens worth running once for all g, before the first equality word."""
        if cache is None or is_static(cache) or torch.compiler.is_compiling():
            return 0
        if not self._shares_rows or not isinstance(logits_to_keep, int) or logits_to_keep != 1:
            return 0
        differs = (copies != copies[0]).flatten(0, 1).any(0)  # (T,)
        length = int(differs.int().argmax()) if bool(differs.any()) else 0
        if length == 0:
            return 0
        rest = copies.shape[2] - length
        start = {name: value[:, : value.shape[1] - rest] for name, value in per_text.items()}
        saved = len(rows.first) - len(self._rows(copies[..., :length], start, cache).first)
        return length if saved * length >= _WORTH_A_PASS else 0


def kept_positions(logits_to_keep: int | Tensor) -> slice | Tensor:
    """As an index: the last positions, all for 0, or those named."""
    return slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
