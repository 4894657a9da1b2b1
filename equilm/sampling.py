"""Fairness of whole continuations: sampled at the cost of one plain generation for any |G|, and scored exactly.

Equation 4 holds for the symmetrized distribution Q(Y|X) = 1/|G| · Σ_g P(gY|gX) whatever the model P is: its sampler's
settings, temperature, top-k, penalties, banned words, are part of P. This is known as probabilistic symmetrization.
"""

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from ._canonical import Canonicalization, UserWordsStreamer, canonical_elements, in_user_words
from ._compat import SPELLINGS
from ._coverage import check_table
from ._generation import FairGenerationMixin
from ._generation_checks import settings_of_call
from .actions import TokenAction
from .errors import EquiLMError
from .loading import transformers_model

__all__ = ["symmetrized_generate", "symmetrized_log_prob"]

Generated: TypeAlias = Tensor | ModelOutput
Warp: TypeAlias = Callable[..., Tensor]  # of ids and logits; transformers' processors name them in their own types


def symmetrized_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    action: TokenAction,
    *,
    attention_mask: Tensor | None = None,
    return_elements: bool = False,
    generator: torch.Generator | None = None,
    **generate_kwargs: Any,
) -> Generated | tuple[Generated, Tensor]:
    """Sample from Q(Y|X) = 1/|G| · Σ_g P(gY|gX), for which Q(hY|hX) = Q(Y|X) for every h (paper, eq. 4).

    Draws g uniformly, lets the plain model continue gX, and takes the text back with g⁻¹. Logits processors, stopping
    criteria, prefix functions and settings that name tokens are part of P: they apply to the permuted text.

    Each returned row has its own g, except that the beams of one search share one: each follows Q, but they are
    correlated. With one seed, X and hX get the texts Y and h·s·Y, where s fixes X, so s = e once X names every axis.

    Args:
        model: the plain model, causal or encoder-decoder; for an EquiLM, pass its ``language_model``.
        input_ids: prompts X, int64, shape ``(B, T)``, left-padded for causal models.
        action: the action on the model's token ids; ``action.check()`` if you built its table yourself.
        attention_mask: shape ``(B, T)``; None: inferred as by ``generate``.
        return_elements: return each row's g too, for audit.
        generator: draws the elements; None: torch's global one, which the model's own sampling always uses.
        generate_kwargs: keyword arguments of the model's ``generate``.

    Returns:
        What ``generate`` returns: ids, int64, shape ``(B·num_return_sequences, length)``, or a `ModelOutput` with
        sequences, scores and logits in the user's words, hidden states and attentions of the permuted text, and no
        cache, as it fits only the permuted text. With ``return_elements`` a pair of that and each row's g, int64.

    Raises:
        EquiLMError: if the model is fair by itself, the table has another size, or prompts are not given as token ids.

    Example:
        >>> symmetrized_generate(base, input_ids, action, do_sample=True, max_new_tokens=20)  # doctest: +SKIP
    """
    _check_model(model, action)
    for name in ("inputs_embeds", "encoder_outputs", *SPELLINGS, "decoder_input_ids"):
        if generate_kwargs.get(name) is not None:
            raise EquiLMError(f"symmetrized_generate cannot permute {name}: pass the whole prompt as input_ids.")
    plain = cast(Any, model)
    config, streamer = (generate_kwargs.pop(name, None) for name in ("generation_config", "streamer"))
    settings, arguments = settings_of_call(model, config, generate_kwargs)
    if settings.cache_implementation == "paged":
        raise EquiLMError("The paged cache silently ignores some settings. Choose another cache_implementation.")

    beams, returned = settings.num_beams or 1, settings.num_return_sequences or 1
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    if attention_mask is not None:
        tensors["attention_mask"] = attention_mask
    if beams == 1 and returned > 1:
        input_ids = input_ids.repeat_interleave(returned, dim=0)
        tensors = {name: value.repeat_interleave(returned, dim=0) for name, value in tensors.items()}
        generate_kwargs["num_return_sequences"] = 1
        if config is not None:  # transformers wants either a configuration or settings
            config = copy.copy(config)
            config.num_return_sequences = generate_kwargs.pop("num_return_sequences")
    drawn = _draw(action, input_ids, tensors.get("attention_mask"), generator)
    result = plain.generate(
        drawn.act(input_ids),
        generation_config=config,
        streamer=streamer and UserWordsStreamer(streamer, drawn),
        **{**generate_kwargs, **tensors},
    )
    texts = drawn.repeat(returned) if beams > 1 else drawn
    output = _without_cache(in_user_words(result, texts, drawn.repeat(beams)))
    return (output, texts.elements) if return_elements else output


def symmetrized_log_prob(
    model: PreTrainedModel,
    input_ids: Tensor,
    continuation_ids: Tensor,
    action: TokenAction,
    *,
    attention_mask: Tensor | None = None,
    continuation_mask: Tensor | None = None,
    warp: Warp | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """log Q(Y|X) = logsumexp_g log P(gY|gX) - log|G|, exact: the score of what `symmetrized_generate` samples.

    With the end-of-text token as its last, Y is a finished text; without it, the score is that of all texts that begin
    with Y, such as those cut off by ``max_new_tokens``. Only distinct permuted rows are run, at most |G|·B of them.
    Gradients flow; call it under ``torch.no_grad()`` if you need none.

    Args:
        model: the plain model, causal or encoder-decoder.
        input_ids: prompts X, int64, shape ``(B, T)``, T ≥ 1, left-padded for causal models.
        continuation_ids: Y, int64, shape ``(B, L)``, right-padded; for encoder-decoders without the start token.
        action: the action on the model's token ids.
        attention_mask: shape ``(B, T)``; None: inferred as by ``generate``.
        continuation_mask: shape ``(B, L)``, 0 from some token on; these do not count. None: tokens up to the first
            end-of-text token count, and it does too.
        warp: turns the ids of the text so far ``(rows, t)`` and logits ``(rows, V)`` into logits, as a
            `LogitsProcessorList` does: give it the sampler's processors and warpers, in the order of ``generate``, to
            score what it samples. It applies to the permuted text, as there. None: the model's own distribution.
        batch_size: the most rows to run at once; None: all.

    Returns:
        Shape ``(B,)``, float32, or float64 for a float64 model; ``-inf`` for a text that the sampler cannot make.

    Raises:
        EquiLMError: if the model is fair by itself, the table has another size, or a mask has a gap.
    """
    _check_model(model, action)
    config, device, order = model.generation_config, input_ids.device, action.group.order
    eos = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id, device=device).flatten().long()
    if attention_mask is None:
        pad = config.pad_token_id
        unknown = pad is None or bool((eos == pad).any())
        attention_mask = torch.ones_like(input_ids) if unknown else input_ids.ne(pad)
    if continuation_mask is None:
        ends = torch.isin(continuation_ids, eos).long()
        continuation_mask = ends.cumsum(1) == ends  # no end before this token
    continuation_mask = continuation_mask.long()
    if (continuation_mask.diff(dim=1) > 0).any():
        raise EquiLMError("continuation_mask has a 1 after a 0, but a text ends once. Pad continuations on the right.")

    texts = action.to(device).orbit(torch.cat([input_ids, continuation_ids], 1))  # (|G|, B, T + L)
    masks = torch.cat([attention_mask.long(), continuation_mask], 1).expand_as(texts)
    distinct, sources = torch.cat([texts, masks], -1).flatten(0, 1).unique(dim=0, return_inverse=True)
    batches = (rows.chunk(2, dim=1) for rows in distinct.split(batch_size or len(distinct)))
    log_probs = torch.cat([_log_prob(model, ids, mask, continuation_ids.shape[1], warp) for ids, mask in batches])
    return log_probs[sources].view(order, -1).logsumexp(0) - math.log(order)


def _log_prob(model: PreTrainedModel, ids: Tensor, mask: Tensor, length: int, warp: Warp | None) -> Tensor:
    """log P of the last ``length`` of the tokens ``(rows, T + length)`` after the others; shape ``(rows,)``."""
    prompt = ids.shape[1] - length
    accepted = inspect.signature(transformers_model(model).forward).parameters  # a PeftModel hides some
    if model.config.is_encoder_decoder:
        start = model.generation_config.decoder_start_token_id
        text = torch.nn.functional.pad(ids[:, prompt:], (1, 0), value=start)
        arguments = {"input_ids": ids[:, :prompt], "attention_mask": mask[:, :prompt], "decoder_input_ids": text}
    else:
        text, arguments = ids, {"input_ids": ids, "attention_mask": mask}
        if "position_ids" in accepted:
            arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in accepted:
            arguments["logits_to_keep"] = cast(Any, length + 1)
    logits = model(**arguments, use_cache=False).logits[:, -length - 1 : -1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (rows, length, V)
    first = text.shape[1] - length
    if warp is not None:
        logits = torch.stack([warp(text[:, : first + t], logits[:, t]) for t in range(length)], 1)
    log_probs = logits.log_softmax(-1).gather(-1, text[:, first:, None])[..., 0]
    return log_probs.where(mask[:, prompt:] > 0, 0.0).sum(1)


def _check_model(model: PreTrainedModel, action: TokenAction) -> None:
    inside = transformers_model(model)
    if isinstance(inside, FairGenerationMixin) and not inside.is_plain:
        raise EquiLMError(
            f"{type(inside).__name__} is fair by itself. Pass its model.language_model, or call within model.plain()."
        )
    check_table(model, action)


def _draw(action: TokenAction, ids: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Canonicalization:
    """A uniform element k·u for each row ``(rows, T)``: with one seed, all of an orbit become k·(canonical text)."""
    canonical = canonical_elements(action, ids, mask).int().argmax(1).cpu()  # (rows,)
    group, device = action.group, torch.device("cpu") if generator is None else generator.device
    drawn = torch.randint(group.order, canonical.shape, generator=generator, device=device).cpu()
    products = torch.tensor(group.multiplication_table())  # (|G|, |G|)
    return Canonicalization(action, products[drawn, canonical].to(ids.device))


def _without_cache(output: Generated) -> Generated:
    """The output without its cache, which fits only the permuted text."""
    if isinstance(output, Tensor):
        return output
    return type(output)(**{name: value for name, value in output.items() if name not in SPELLINGS})
