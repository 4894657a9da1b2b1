"""`EquiLogitsProcessor`: fair logits for users who keep their own model object and call its `generate`."""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel
from transformers.cache_utils import DynamicCache

from ._compat import cache_argument
from ._coverage import check_table
from ._self_check import check_text, definition, quiet, relative_error, skip_reason, tolerance
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
    the model's and are refused: `EquiLMForCausalLM` applies such settings to the fair logits. Only its `generate` gives
    one text for one seed and breaks ties by a fair draw.

    Args:
        model: the base model that ``generate`` is called on, or the ``PeftModel`` with its adapters.
        action: the action on the model's token ids, such as a `VocabularyAction`.
        relaxed: R-EquiLM: general words keep the base model's scores.
        attention_mask: shape ``(B, T)``, the mask given to ``generate``; needed for padded prompts.
        self_check: whether to compare two steps on a short random text with the definition; if only the cache makes a
            difference, the processor runs without it.

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
        self_check: bool = True,
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
        self._cache_argument = cache_argument(model)  # None where there is no cache to keep
        self._cache: Any = None  # a transformers Cache, once there is a text
        self._cached_ids = torch.empty(0, 0, dtype=torch.int64)  # (R, T), -1 where masked
        if self_check and not skip_reason(model):
            self._check_itself()

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
        fair = self._fair(branches)  # (R, V)
        masked = scores.isneginf()
        self._check_mask(input_ids, masked)
        allowed = _RELATIVE_TOLERANCE[self.model.dtype] * branches[0].abs().max()
        candidates = []  # what the scores may have been before something changed them
        for normalise in (torch.clone, lambda logits: logits.log_softmax(-1)):  # sampling and greedy, beam search
            own = normalise(branches[0])
            changed = ((scores - own).abs() > allowed) & ~masked
            if not changed.any():
                return normalise(fair).masked_fill(masked, float("-inf"))
            candidates.append((int(changed.sum()), own))
        count, own = min(candidates, key=lambda candidate: candidate[0])
        difference = (scores - own).abs().masked_fill(masked, -1)
        row, token = divmod(int(difference.argmax()), scores.shape[1])
        raise EquiLMError(
            f"The scores handed to EquiLogitsProcessor are not its model's own: {count} of the {int((~masked).sum())} "
            f"that are not masked differ, the most for token {token} in row {row}, which has "
            f"{float(scores[row, token]):.4g} instead of {float(own[row, token]):.4g}. The mean of changed scores is "
            "neither fair nor the model's. Leave out the settings and processors that change scores before this one, "
            "or use EquiLMForCausalLM, whose generate applies them to the fair logits. If there are none, give the "
            "processor the model that generate is called on."
        )

    def _fair(self, branches: Tensor) -> Tensor:
        """The mean over the group of the branches' logits ``(|G|, R, V)``, or R-EquiLM's: shape ``(R, V)``."""
        fair = reynolds(branches, self.action.on_logits)
        if self.relaxed:
            general = list(self.action.general_ids)
            fair[:, general] = branches[0][:, general]
        return fair

    @torch.no_grad()
    def _check_itself(self) -> None:
        """Compare two steps, the second of them cached, with the definition (`equilm._self_check`)."""
        general = self.action.general_ids if self.relaxed else ()
        text = check_text(self.action, self.model.device)
        with quiet(self.model):
            expected, rounding = definition(self.model, self.action, {"input_ids": text}, general)
            allowed = max(tolerance(self.model.dtype), 4 * rounding)
            for _ in range(2):
                self._cached_ids = self._cached_ids[:0, :0]
                try:
                    steps = [self._fair(self._branch_logits(text[:, : end + 1], None)) for end in (4, 5)]
                except Exception:
                    if self._cache_argument is None:
                        raise
                    error = float("inf")  # it takes a cache of another kind
                else:
                    error = relative_error(torch.stack(steps, 1), expected[:, 4:])
                if error <= allowed:
                    return
                if self._cache_argument is None:
                    break
                self._cache_argument = None  # is it the cache?
        raise EquiLMError(
            f"The self-check failed: {type(self.model).__name__} with EquiLogitsProcessor: the logits differ from the "
            f"mean over the group by {error:.1e} of their spread, where rounding gives {allowed:.1e}."
        )

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
        cached: dict[str, Any] = {"use_cache": False}
        new_ids = input_ids
        if self._cache_argument is not None:
            if self._resume(seen):
                new_ids = input_ids[:, -1:]
            else:
                self._cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
            cached = {"use_cache": True, self._cache_argument: self._cache}
        self._cached_ids = seen
        arguments = {}
        if mask is not None:
            arguments["attention_mask"] = mask.repeat(order, 1)
            if self._takes_positions:
                positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
                arguments["position_ids"] = positions[:, -new_ids.shape[1] :].repeat(order, 1)
        outputs = self.model(
            input_ids=self.action.orbit(new_ids.to(self.model.device)).flatten(0, 1),  # (|G|·R, T')
            **cached,
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
        table = self.action.permutation[:, : masked.shape[1]].to(masked.device)  # some heads leave padding out
        uneven = torch.stack([masked != masked[:, table[g]] for g in self.action.group.elements]).any(0)  # (R, V)
        in_text = torch.zeros_like(masked).scatter_(1, input_ids, True)
        named = (masked & uneven & ~in_text).any(0).nonzero().flatten().tolist()
        if named:
            raise EquiLMError(
                f"Tokens {named[:5]} are masked but not their images under the group (bad_words_ids, suppress_tokens, "
                "sequence_bias or prefix_allowed_tokens_fn), so P(gY|gX) = P(Y|X) would not hold. Mask the images too."
            )
