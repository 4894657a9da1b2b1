"""`EquiLogitsProcessor`: fair logits for users who keep their own model object and call its `generate`."""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel
from transformers.cache_utils import DynamicCache

from ._compat import cache_argument
from ._table_checks import check_table
from .actions import TokenAction
from .errors import EquiLMError
from .loading import refuse_learned_prompt, transformers_model
from .modeling_equilm import EquiLMForCausalLM
from .symmetrize import reynolds

__all__ = ["EquiLogitsProcessor"]

# How far the scores handed in may be from the processor's own identity row, relative to the largest logit.
_RELATIVE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class EquiLogitsProcessor(LogitsProcessor):
    """Replaces the base model's next-token scores by EquiLM's (paper, eq. 3) or R-EquiLM's.

    Every call derives its permuted contexts from the ``input_ids`` handed in; the cache kept between calls is used
    only for rows whose ids it has seen, so beams may be reordered and the object used again for other prompts.

    generate() runs its own processors before this one. Tokens they mask with -inf stay masked; scores they change in
    any other way (``repetition_penalty``, ``sequence_bias``, ``guidance_scale`` …) could be neither fair nor equal to
    the model's and are refused: `EquiLMForCausalLM` applies such settings to the fair logits. What only the model's
    own `generate` does: one text for one seed, and ties broken by a fair draw.

    Args:
        model: the base model that ``generate`` is called on, or the ``PeftModel`` with its adapters.
        action: the words mapped to its tokens, a `VocabularyAction`.
        relaxed: R-EquiLM: general words keep the base model's scores.
        attention_mask: shape ``(B, T)``, the mask given to ``generate``; needed for padded prompts.

    Raises:
        EquiLMError: if the table does not fit the model; when called, for padding without a mask, and for scores that
            something else has changed.

    Example:
        >>> processor = EquiLogitsProcessor(base, action)  # doctest: +SKIP
        >>> base.generate(**inputs, logits_processor=[processor])  # doctest: +SKIP
    """

    supports_continuous_batching = False  # other requests' rows, and no permuted ones

    def __init__(
        self,
        model: PreTrainedModel,
        action: TokenAction,
        relaxed: bool = False,
        attention_mask: Tensor | None = None,
    ):
        refuse_learned_prompt(model)
        model = transformers_model(model)
        if isinstance(model, EquiLMForCausalLM):
            raise EquiLMError("An EquiLMForCausalLM is fair by itself: call its generate without EquiLogitsProcessor.")
        if model.config.is_encoder_decoder:
            raise EquiLMError(
                f"{type(model).__name__} is an encoder-decoder; EquiLogitsProcessor is for causal models."
            )
        check_table(model, action)
        action.check()
        self.model = model
        self.relaxed = relaxed
        self.action = (action.relaxed() if relaxed else action).to(model.device)
        self.attention_mask = attention_mask
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._cache: Any = None  # a transformers Cache, once there is a text
        self._cached_ids = torch.empty(0, 0, dtype=torch.int64)  # (R, T), -1 where masked

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Fair scores.

        Args:
            input_ids: int64, shape ``(R, T)``: the text so far.
            scores: float, shape ``(R, V)``: logits, or under beam search log-probabilities.

        Returns:
            Shape ``(R, V)``, of the same kind as ``scores``.
        """
        branches = self._branch_logits(input_ids, self._mask(input_ids))  # (|G|, R, V)
        fair = reynolds(branches, self.action.on_logits)  # (R, V)
        if self.relaxed:
            general = list(self.action.general_ids)
            fair[:, general] = branches[0][:, general]

        masked = scores.isneginf()
        self._check_mask(input_ids, masked)
        tolerance = _RELATIVE_TOLERANCE[self.model.dtype] * branches[0].abs().max()
        for normalise in (torch.clone, lambda logits: logits.log_softmax(-1)):  # sampling and greedy, beam search
            own = normalise(branches[0])
            changed = ((scores - own).abs() > tolerance) & ~masked
            if not changed.any():
                return normalise(fair).masked_fill(masked, float("-inf"))
        # Either kind of scores may have been changed: report the one that is nearer.
        raw = ((scores - branches[0]).abs() > tolerance) & ~masked
        raise EquiLMError(self._explain(input_ids, changed if changed.sum() < raw.sum() else raw, masked))

    def _mask(self, input_ids: Tensor) -> Tensor | None:
        if self.attention_mask is None:
            pad = self.model.generation_config.pad_token_id
            if pad is not None and (input_ids[:, 0] == pad).any():
                raise EquiLMError(
                    f"A prompt begins with the pad token {pad}: a logits processor is not told whether that is "
                    "padding. Pass the prompts' attention_mask to EquiLogitsProcessor."
                )
            return None
        prompts, length = self.attention_mask.shape
        rows, text_length = input_ids.shape
        if rows % prompts or text_length < length:
            raise EquiLMError(
                f"The attention_mask given to EquiLogitsProcessor has shape {(prompts, length)}, which does not fit "
                f"texts of shape {(rows, text_length)}. Make a processor with the mask of these prompts."
            )
        mask = self.attention_mask.to(input_ids.device).repeat_interleave(rows // prompts, dim=0)
        return torch.nn.functional.pad(mask, (0, text_length - length), value=1)  # (R, T)

    def _branch_logits(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Next-token logits of every g·x, float32, shape ``(|G|, R, V)``."""
        seen = input_ids if mask is None else input_ids.masked_fill(mask == 0, -1)
        order, rows = self.action.group.order, len(input_ids)
        if self._resume(seen):
            new_ids = input_ids[:, -1:]
        else:
            self._cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
            new_ids = input_ids
        self._cached_ids = seen
        arguments = {}
        if mask is not None:
            arguments["attention_mask"] = mask.repeat(order, 1)
            if self._takes_positions:
                positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
                arguments["position_ids"] = positions[:, -new_ids.shape[1] :].repeat(order, 1)
        outputs = self.model(
            input_ids=self.action.orbit(new_ids.to(self.model.device)).flatten(0, 1),  # (|G|·R, T')
            use_cache=True,
            **{cache_argument(self.model): self._cache},
            **arguments,
        )
        logits = outputs.logits[:, -1].float().to(input_ids.device)  # (|G|·R, V)
        return logits.unflatten(0, (order, rows))

    def _resume(self, seen: Tensor) -> bool:
        """Reorder the cache to hold all but the last token of these rows, if it has seen them."""
        if self._cache is None or seen.shape[1] != self._cached_ids.shape[1] + 1:
            return False
        same = (seen[:, None, :-1] == self._cached_ids).all(-1)  # (R, rows cached)
        if not same.any(1).all():
            return False
        sources, cached_rows = same.int().argmax(1), len(self._cached_ids)
        blocks = torch.arange(self.action.group.order, device=sources.device)[:, None] * cached_rows
        self._cache.reorder_cache((blocks + sources).flatten())
        return True

    def _check_mask(self, input_ids: Tensor, masked: Tensor) -> None:
        """Refuse masks that name some members of a list and not others; n-gram bans hold words of the text itself."""
        table = self.action.permutation.to(masked.device)
        uneven = torch.stack([masked != masked[:, table[g]] for g in self.action.group.elements]).any(0)  # (R, V)
        in_text = torch.zeros_like(masked).scatter_(1, input_ids, True)
        named = (masked & uneven & ~in_text).any(0).nonzero().flatten().tolist()
        if named:
            raise EquiLMError(
                f"Tokens {named[:5]} are masked but not their images under the group (bad_words_ids, suppress_tokens, "
                "sequence_bias or prefix_allowed_tokens_fn), so P(gY|gX) = P(Y|X) would not hold. Mask the images too."
            )

    def _explain(self, input_ids: Tensor, changed: Tensor, masked: Tensor) -> str:
        in_text = torch.zeros_like(changed).scatter_(1, input_ids, True)
        eos = torch.as_tensor(self.model.generation_config.eos_token_id or [], device=changed.device).flatten()
        if ((~masked).sum(1) == 1).all():
            culprit = "forced_bos_token_id or forced_eos_token_id"
        elif not (changed & ~in_text).any() and 2 * changed.sum() > in_text.sum():
            culprit = "repetition_penalty"
        elif not changed.any(0).index_fill(0, eos.long(), False).any():
            culprit = "exponential_decay_length_penalty"
        elif changed.float().mean() < 0.1:
            culprit = "sequence_bias"
        else:
            culprit = "guidance_scale or a logits processor before this one, or another model"
        return (
            f"The scores handed to EquiLogitsProcessor are not the model's own: {culprit} has changed "
            f"{int(changed.sum())} of them. Average after such a change is neither fair nor equal to the model. Leave "
            "the setting out, or use EquiLMForCausalLM, whose generate applies it to the fair logits."
        )
