"""Fairness of whole continuations: sampled at the cost of one plain generation for any |G|, and scored exactly.

Equation 4 holds for the symmetrized distribution Q(Y|X) = 1/|G| · Σ_g P(gY|gX) whatever the model P is: its sampler's
settings, temperature, top-k, penalties, banned words, are part of P. This is known as probabilistic symmetrization.

For models that see, P is the distribution given the pictures: the group acts on the text, and pictures and their places
in it stay. Pictures belong to the texts of a batch in their order, and only the model knows how many each text has. So
several copies of a batch are always whole ones, one after another, each with all of its pictures.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils.generic import ModelOutput

from ._canonical import Canonicalization, UserWordsStreamer, canonical_elements, in_user_words
from ._compat import SPELLINGS
from ._coverage import check_table
from ._generation import FairGenerationMixin
from ._generation_checks import settings_of_call
from ._orbit_rows import Rows
from ._picture_encoder import encoded_once
from ._pictures import Pictures, named_tokens
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
        generate_kwargs: keyword arguments of the model's ``generate``. For a model that sees also what its processor
            makes of pictures: ``pixel_values`` and what comes with them, in the order of the texts.

    Returns:
        What ``generate`` returns: ids, int64, shape ``(B·num_return_sequences, length)``, or a `ModelOutput` with
        sequences, scores and logits in the user's words, hidden states and attentions of the permuted text, and no
        cache, as it fits only the permuted text. With ``return_elements`` a pair of that and each row's g, int64.

    Raises:
        EquiLMError: if the model is fair by itself, the table has another size, prompts are not given as token ids, the
            model does not see, or the table moves a token that stands for a picture.

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
    tensors = {name: value for name, value in arguments.items() if _is_tensor_or_list_of_them(value)}
    if attention_mask is not None:
        tensors["attention_mask"] = attention_mask
    pictures = {name for name, value in tensors.items() if not _belongs_to_tokens(name, value, input_ids)}
    _check_pictures(model, action, pictures - {*inspect.signature(plain.generate).parameters})
    order, seen, copies = None, Pictures(tensors, len(input_ids)), 1
    if beams == 1 and returned > 1:
        if pictures:
            copies = returned
            order = torch.arange(copies * len(input_ids)).view(copies, -1).T.flatten()  # copies of a text together
            input_ids, tensors = input_ids.repeat(copies, 1), seen.repeated(copies)
        else:
            input_ids = input_ids.repeat_interleave(returned, dim=0)
            tensors = {name: value.repeat_interleave(returned, dim=0) for name, value in tensors.items()}
        generate_kwargs["num_return_sequences"] = 1
        if config is not None:  # transformers wants either a configuration or settings
            config = copy.copy(config)
            config.num_return_sequences = generate_kwargs.pop("num_return_sequences")
    drawn = _draw(action, input_ids, tensors.get("attention_mask"), generator)
    if streamer is not None and order is not None:
        streamer = _InOrder(streamer, order)
    with _encoded_once(model, seen, copies):
        result = plain.generate(
            drawn.act(input_ids),
            generation_config=config,
            streamer=streamer and UserWordsStreamer(streamer, drawn),
            **{**generate_kwargs, **tensors},
        )
    texts = drawn.repeat(returned) if beams > 1 else drawn
    output = _without_cache(in_user_words(result, texts, drawn.repeat(beams)))
    elements = texts.elements
    if order is not None:
        output, elements = _reordered(output, order), elements[order.to(elements.device)]
    return (output, elements) if return_elements else output


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
    **pictures: Any,
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
        batch_size: the most rows to run at once; None: all. With pictures, the texts of a batch are run together, so at
            least B rows.
        pictures: for a model that sees, what its processor makes of the pictures in X: ``pixel_values`` and what comes
            with them.

    Returns:
        Shape ``(B,)``, float32, or float64 for a float64 model; ``-inf`` for a text that the sampler cannot make.

    Raises:
        EquiLMError: if the model is fair by itself, the table has another size, a mask has a gap, the model does not
            see, or the table moves a token that stands for a picture.
    """
    _check_model(model, action)
    of_tokens = {name: value for name, value in pictures.items() if _belongs_to_tokens(name, value, input_ids)}
    _check_pictures(model, action, pictures)
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
    units = torch.cat([texts, masks], -1)  # what is run as a whole: with pictures a batch, else a row
    units = units if pictures else units.flatten(0, 1)[:, None]  # (units, rows, 2·(T + L))
    distinct, sources = units.unique(dim=0, return_inverse=True)
    seen, log_probs = Pictures(pictures, len(input_ids)), []
    for part in distinct.split(max(1, (batch_size or distinct[..., 0].numel()) // units.shape[1])):
        ids, mask = part.flatten(0, 1).chunk(2, dim=1)
        copies = len(part) if pictures else 1
        with _encoded_once(model, seen, copies):
            log_probs.append(
                _log_prob(model, ids, mask, continuation_ids.shape[1], warp, seen.repeated(copies), of_tokens)
            )
    return torch.cat(log_probs).view(len(distinct), -1)[sources].view(order, -1).logsumexp(0) - math.log(order)


def _log_prob(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    length: int,
    warp: Warp | None,
    pictures: Mapping[str, Any],
    of_tokens: Iterable[str],
) -> Tensor:
    """log P of the last ``length`` of the tokens ``(rows, T + length)`` after the others; shape ``(rows,)``.

    ``of_tokens`` names those of the pictures' arguments that have one value for each token of the prompt.
    """
    prompt = ids.shape[1] - length
    inside = transformers_model(model)
    accepted = inspect.signature(inside.forward).parameters  # a PeftModel hides some
    if model.config.is_encoder_decoder:
        start = model.generation_config.decoder_start_token_id
        text = torch.nn.functional.pad(ids[:, prompt:], (1, 0), value=start)
        arguments = {"input_ids": ids[:, :prompt], "attention_mask": mask[:, :prompt], "decoder_input_ids": text}
        arguments |= pictures
    else:
        text, arguments = ids, {"input_ids": ids, "attention_mask": mask, **pictures}
        arguments |= {name: _prolonged(name, pictures[name], length) for name in of_tokens}
        if "position_ids" in accepted and "position_ids" not in pictures:
            begun = {**pictures, "attention_mask": mask[:, :prompt]}
            # As generate() does it: some families count the rows and columns of a picture as positions.
            arguments["position_ids"] = _prolonged(
                "position_ids", inside._prepare_position_ids_for_generation(ids[:, :prompt], begun), length
            )
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


def _check_pictures(model: PreTrainedModel, action: TokenAction, names: Iterable[str]) -> None:
    """Refuse pictures for a model that does not see, and a table that moves a token which stands for them."""
    inside = transformers_model(model)
    accepted = {
        name
        for function in (inside.forward, inside.prepare_inputs_for_generation)
        for name in inspect.signature(function).parameters
    }
    if unknown := sorted(set(names) - accepted):
        raise EquiLMError(
            f"{type(inside).__name__} takes no {', '.join(unknown)}. Pictures need a model that sees, such as "
            "AutoModelForImageTextToText loads, and the arguments that its own processor makes."
        )
    if not set(names):
        return
    for name, token in named_tokens(model.config).items():
        if 0 <= token < action.vocab_size and action.moved[token]:
            raise EquiLMError(
                f"The table moves token {token}, the {name} of {type(inside).__name__}: in a text with pictures the "
                "group may move words only. Leave it out of the lists."
            )


def _is_tensor_or_list_of_them(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and bool(value)
    return isinstance(value, Tensor) or (is_list and all(isinstance(each, Tensor) for each in value))


def _belongs_to_tokens(name: str, value: Any, ids: Tensor) -> bool:
    """Whether an argument has one value for each of the tokens ``(B, T)``, as token types have."""
    return isinstance(value, Tensor) and value.shape[:2] == ids.shape and not name.startswith("pixel")


def _encoded_once(model: PreTrainedModel, pictures: Pictures, copies: int) -> AbstractContextManager[None]:
    """Within the context, the model encodes the pictures of one of several copies of a batch."""
    places = torch.arange(copies * pictures.texts)
    branches = places.view(copies, -1)
    return encoded_once(transformers_model(model), pictures, Rows(branches, places, branches, torch.ones(copies)))


def _prolonged(name: str, value: Tensor, length: int) -> Tensor:
    """One value for each token of a prompt, for ``length`` more of its text, as ``generate`` goes on with them."""
    if name == "position_ids":  # (…, B, T)
        steps = torch.arange(1, length + 1, device=value.device)
        return torch.cat([value, value[..., -1:] + steps], -1)
    last = value[:, -1:]  # (B, 1, …)
    last = torch.zeros_like(last) if name.endswith("mm_token_type_ids") else last
    return torch.cat([value, *[last] * length], 1)


def _reordered(output: Any, order: Tensor) -> Any:
    """An output with its rows in another order."""
    if isinstance(output, Tensor):
        return output[order.to(output.device)]
    if isinstance(output, tuple):
        return tuple(_reordered(each, order) for each in output)
    if isinstance(output, ModelOutput):
        return type(output)(**{name: _reordered(value, order) for name, value in output.items()})
    return output


class _InOrder(BaseStreamer):
    """Streams rows in another order."""

    def __init__(self, streamer: BaseStreamer, order: Tensor):
        self.streamer, self.order = streamer, order

    def put(self, value: Tensor) -> None:
        self.streamer.put(value[self.order.to(value.device)])

    def end(self) -> None:
        self.streamer.end()


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
