"""`generate` for EquiLM: transformers' own loop, run on canonical prompts, so that all groups get the same text."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils.generic import ModelOutput

from ._base_arguments import refuse_inputs
from ._canonical import (
    Canonicalization,
    UserWordsCriteria,
    UserWordsProcessor,
    UserWordsStreamer,
    canonical_elements,
    draw_canonicalization,
    in_user_words,
)
from ._compat import CACHE, cache_of, pop_cache
from ._coverage import check_tokenizer, unmapped_sequences
from ._generation_checks import (
    EQUIVARIANT_CRITERIA,
    EQUIVARIANT_PROCESSORS,
    check_settings,
    settings_of_call,
    warn_nothing_swapped,
    warn_unchecked,
)
from ._orbit_rows import OrbitCache, is_filled
from .actions import TokenAction
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError


class FairGenerationMixin(GenerationMixin):
    """Generation that satisfies eq. 4 with every decoder, or refuses.

    EquiLM moves each prompt to the canonical prompt of its orbit, transformers generates from it, and the text, scores
    and cache are moved back (see `equilm._canonical`). R-EquiLM promises nothing about sentences, so it generates from
    the prompts directly.
    """

    action: TokenAction
    config: EquiLMConfig
    device: torch.device
    is_plain: bool
    language_model: PreTrainedModel

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Tensor], list[int]] | None = None,
        *,
        streamer: BaseStreamer | None = None,
        fair_ties: bool = True,
        **kwargs: Any,
    ) -> ModelOutput | Tensor:
        """Generate fair text; takes every argument of transformers' ``generate``.

        Args:
            inputs: prompts, int64, shape ``(B, T)``, left-padded; also as ``input_ids``.
            generation_config: as in transformers.
            logits_processor: processors, which see the user's words; one that cannot be checked causes a warning.
            stopping_criteria: criteria, as for ``logits_processor``.
            prefix_allowed_tokens_fn: a function, as for ``logits_processor``.
            streamer: gets the user's words.
            fair_ties: where some group element s ≠ e fixes the prompt, "he" and "she" are equally likely up to
                rounding. True applies such an s, drawn uniformly from torch's seeded generator, to the text; False lets
                rounding choose, the same way each time.
            kwargs: generation settings, ``attention_mask``, a ``cache`` and whatever else transformers takes.

        Returns:
            As in transformers; ids of shape ``(B·num_return_sequences, length)``, or a `ModelOutput`.

        Raises:
            EquiLMError: for settings that cannot be fair, by name.
        """
        if self.is_plain:
            return cast(Any, self.language_model).generate(
                inputs,
                generation_config,
                logits_processor,
                stopping_criteria,
                prefix_allowed_tokens_fn,
                streamer=streamer,
                **kwargs,
            )
        if kwargs.get("inputs_embeds") is not None:
            raise EquiLMError("EquiLM needs input_ids: inputs_embeds cannot be permuted. Pass the prompt's token ids.")
        kwargs |= {} if (given := pop_cache(kwargs)) is None else {CACHE: given}
        transformers_loop = cast(Any, super())
        settings, others = settings_of_call(cast(Any, self), generation_config, kwargs)
        self._check_inputs(others, kwargs)
        if settings.cache_implementation == "paged":
            self._refuse_continuous_batching()
        tokenizer = kwargs.get("tokenizer")
        if tokenizer is not None:
            encode = partial(tokenizer.encode, add_special_tokens=False)
            check_tokenizer(tokenizer.name_or_path, tokenizer.decode, encode, self.config.coverage or ())
        check_settings(settings, self.action, tokenizer)
        warn_unchecked("The logits processor", logits_processor or (), EQUIVARIANT_PROCESSORS)
        warn_unchecked("The stopping criterion", stopping_criteria or (), EQUIVARIANT_CRITERIA)
        if prefix_allowed_tokens_fn is not None:
            warn_unchecked("prefix_allowed_tokens_fn", (prefix_allowed_tokens_fn,), ())
        if kwargs.get("custom_generate") is not None:
            warn_unchecked("custom_generate of type", (kwargs["custom_generate"],), ())

        ids = self._prompt(inputs, kwargs, settings)
        attention_mask = kwargs.get("attention_mask")
        read, read_mask = _with_start(ids, attention_mask, kwargs)
        warn_nothing_swapped(read, read_mask, self.action, unmapped_sequences(self.config.coverage or ()))
        if self.config.relaxed:
            return transformers_loop.generate(
                ids,
                generation_config,
                logits_processor,
                stopping_criteria,
                prefix_allowed_tokens_fn,
                streamer=streamer,
                **kwargs,
            )

        negative = kwargs.get("negative_prompt_ids")
        if negative is not None and self.action.moved.to(negative.device)[negative].any():
            raise EquiLMError("negative_prompt_ids holds equality words, which cannot be fair. Leave them out of it.")
        candidates = canonical_elements(self.action, read, read_mask)
        # Any candidate leads to the same text.
        canonical = draw_canonicalization(self.action, candidates, 1, fair_ties=False)
        beams, returned = settings.num_beams or 1, settings.num_return_sequences or 1
        # The beams of a prompt are compared with one another, so they share a way back; samples draw one each.
        shared = draw_canonicalization(self.action, candidates, 1 if beams > 1 else returned, fair_ties)
        rows = shared.repeat(beams)
        cache, start = kwargs.get(CACHE), kwargs.get("decoder_input_ids")
        if start is not None:
            kwargs["decoder_input_ids"] = canonical.act(start)
        with _canonical_cache(cache, canonical, rows):
            result = transformers_loop.generate(
                canonical.act(ids),
                generation_config,
                LogitsProcessorList(UserWordsProcessor(p, rows) for p in logits_processor or ()),
                StoppingCriteriaList(UserWordsCriteria(c, rows) for c in stopping_criteria or ()),
                prefix_allowed_tokens_fn and _user_words_prefix(prefix_allowed_tokens_fn, rows, beams),
                streamer=streamer and UserWordsStreamer(streamer, rows),
                **kwargs,
            )
        output = in_user_words(result, shared.repeat(returned) if beams > 1 else rows, rows)
        returned_cache = None if isinstance(output, Tensor) else cache_of(output)
        if returned_cache is not None and returned_cache is not cache:
            rows.inverse.act_on_cache(returned_cache)
        return output

    def _check_inputs(self, others: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """Refuse what is given beside text, and take out what says that there is text alone.

        Args:
            others: what is no setting of the generation.
            kwargs: all keyword arguments.
        """
        refuse_inputs(others, inspect.signature(cast(Any, self).forward).parameters)
        if kwargs.get("mm_token_type_ids") is not None:
            del kwargs["mm_token_type_ids"]  # of text alone, as where they are left out

    def _prompt(self, inputs: Tensor | None, kwargs: dict[str, Any], settings: GenerationConfig) -> Tensor:
        ids = kwargs.pop("input_ids", None) if inputs is None else inputs
        if ids is None:
            if settings.bos_token_id is None:
                raise EquiLMError("There is no prompt, and no bos_token_id to start a text with. Pass input_ids.")
            return torch.full((1, 1), int(settings.bos_token_id), device=self.device)
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.shape != ids.shape:
            raise EquiLMError(
                f"attention_mask has shape {tuple(mask.shape)} and input_ids {tuple(ids.shape)}: fair generation needs "
                "the whole text, also where the cache holds a part of it. Pass all of its ids."
            )
        return ids

    def generate_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: continuous batching would silently drop fairness."""
        self._refuse_continuous_batching()

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: continuous batching would silently drop fairness."""
        self._refuse_continuous_batching()

    def continuous_batching_context_manager(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: continuous batching would silently drop fairness."""
        self._refuse_continuous_batching()

    def _refuse_continuous_batching(self) -> NoReturn:
        raise EquiLMError(
            "Continuous batching and the paged cache run each request on its own, so its permuted contexts cannot be "
            "averaged. Use generate() without cache_implementation='paged', or sequence-level fairness."
        )


@contextmanager
def _canonical_cache(cache: Any, canonical: Canonicalization, rows: Canonicalization) -> Iterator[None]:
    """Move the caller's cache to canonical words within the block, and back to the caller's words after it.

    Args:
        cache: the caller's cache, or None.
        canonical: the canonicalization of the prompts, whose rows a filled cache has on entry.
        rows: the canonicalization of the rows that the search runs on, which the cache has once it is expanded.
    """
    if cache is None:
        yield
        return
    if is_filled(cache):
        canonical.act_on_cache(cache)
    try:
        yield
    finally:
        if isinstance(cache, OrbitCache) and cache.branches is not None:
            expanded = cache.branches.shape[1] == len(rows.elements)
            (rows if expanded else canonical).inverse.act_on_cache(cache)


def _with_start(ids: Tensor, mask: Tensor | None, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """All ids read before the first new token, and their mask; for an encoder-decoder, also the start of its text."""
    start, start_mask = kwargs.get("decoder_input_ids"), kwargs.get("decoder_attention_mask")
    if start is None:
        return ids, mask
    masks = (torch.ones_like(ids) if m is None else m for m, ids in ((mask, ids), (start_mask, start)))
    return torch.cat([ids, start.to(ids.device)], 1), torch.cat([m.to(ids.device) for m in masks], 1)


def _user_words_prefix(
    allowed: Callable[[int, Tensor], list[int]], rows: Canonicalization, beams: int
) -> Callable[[int, Tensor], list[int]]:
    def allowed_canonical(batch_id: int, sent: Tensor) -> list[int]:
        canonicalization = Canonicalization(rows.action, rows.elements[batch_id * beams, None])
        user_ids = allowed(batch_id, canonicalization.inverse.act(sent[None])[0])
        return canonicalization.act(torch.as_tensor(user_ids, device=sent.device)[None])[0].tolist()

    return allowed_canonical
