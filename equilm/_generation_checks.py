"""Checks that generation settings keep the guarantee: those that name tokens must treat the words of a list alike."""

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations, product
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import logits_process as processors
from transformers.generation import stopping_criteria as criteria

from .actions import TokenAction
from .errors import EquiLMError, EquiLMWarning

# These see token ids only to compare them with one another, so they commute with any permutation of the vocabulary.
EQUIVARIANT_PROCESSORS = (
    processors.EncoderNoRepeatNGramLogitsProcessor,
    processors.EncoderRepetitionPenaltyLogitsProcessor,
    processors.EpsilonLogitsWarper,
    processors.EtaLogitsWarper,
    processors.InfNanRemoveLogitsProcessor,
    processors.LogitNormalization,
    processors.MinLengthLogitsProcessor,
    processors.MinNewTokensLengthLogitsProcessor,
    processors.MinPLogitsWarper,
    processors.NoRepeatNGramLogitsProcessor,
    processors.RepetitionPenaltyLogitsProcessor,
    processors.TemperatureLogitsWarper,
    processors.TopHLogitsWarper,
    processors.TopKLogitsWarper,
    processors.TopPLogitsWarper,
    processors.TypicalLogitsWarper,
)
EQUIVARIANT_CRITERIA = (
    criteria.ConfidenceCriteria,
    criteria.EosTokenCriteria,
    criteria.MaxLengthCriteria,
    criteria.MaxTimeCriteria,
)

_TOKEN_SETTINGS = (
    "eos_token_id",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)
_REFUSED_SETTINGS = {
    "watermarking_config": "a watermark favours tokens by their ids",
    "token_healing": "it rewrites the prompt by the spelling of its last token",
    "force_words_ids": "it forces tokens by name",
    "constraints": "they force tokens by name",
    "dola_layers": "it reads early layers, which are not averaged over the group",
    "penalty_alpha": "contrastive search reads hidden states, which are not averaged over the group",
    "output_hidden_states": "hidden states belong to the permuted rows; call the model itself to read them",
    "output_attentions": "attentions belong to the permuted rows; call the model itself to read them",
}


def settings_of_call(
    model: PreTrainedModel, config: GenerationConfig | None, kwargs: dict[str, Any]
) -> tuple[GenerationConfig, dict[str, Any]]:
    """The settings that a call of ``generate`` will follow, and the keyword arguments that are not settings.

    As in transformers, keyword arguments come before ``config``, and that before the model's own generation settings.

    Args:
        model: the model whose ``generate`` is called.
        config: its ``generation_config``, which is left as it is.
        kwargs: its other keyword arguments.
    """
    settings = GenerationConfig() if config is None else copy.deepcopy(config)
    settings.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    return settings, settings.update(**kwargs)


def check_settings(
    config: GenerationConfig, action: TokenAction, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Refuse generation settings under which P(gY|gX) = P(Y|X) would not hold.

    Args:
        config: the settings of this call, defaults filled in.
        action: the model's action on token ids.
        tokenizer: the tokenizer that ``generate`` was given; needed with ``stop_strings``.

    Raises:
        EquiLMError: names the setting, its value and the remedy.
    """
    for name, reason in _REFUSED_SETTINGS.items():
        if getattr(config, name, None):
            raise EquiLMError(
                f"{name}={getattr(config, name)!r} cannot be fair: {reason}. Leave it out, or use model.plain()."
            )
    for name in _TOKEN_SETTINGS:
        value = getattr(config, name)
        if value is not None:
            ids = torch.as_tensor(value).flatten().tolist()
            _check_invariant(name, {(token,): 0.0 for token in ids}, action)
    if config.bad_words_ids is not None:
        _check_invariant("bad_words_ids", {tuple(ids): 0.0 for ids in config.bad_words_ids}, action)
    if config.sequence_bias is not None:
        bias = config.sequence_bias
        pairs = bias.items() if isinstance(bias, dict) else bias
        _check_invariant("sequence_bias", {tuple(ids): float(value) for ids, value in pairs}, action)
    if config.stop_strings is not None and tokenizer is not None:
        stop_strings = [config.stop_strings] if isinstance(config.stop_strings, str) else config.stop_strings
        _check_stop_strings(stop_strings, action, tokenizer)


def _check_invariant(name: str, values: dict[tuple[int, ...], float], action: TokenAction) -> None:
    table = action.permutation.cpu()
    for ids, value in values.items():
        if not all(0 <= token < action.vocab_size for token in ids):
            continue  # transformers handles ids outside the vocabulary, such as -1 for none, itself
        for g in action.group.elements:
            image = tuple(table[g, list(ids)].tolist())
            if values.get(image) != value:
                raise EquiLMError(
                    f"{name} names the tokens {list(ids)} but does not treat {list(image)}, their image under group "
                    f"element {g}, alike, so P(gY|gX) = P(Y|X) would not hold. Add the images, leave the tokens out, "
                    "or use model.plain()."
                )


def _check_stop_strings(stop_strings: Sequence[str], action: TokenAction, tokenizer: PreTrainedTokenizerBase) -> None:
    orbits = action.permutation[:, action.moved].T.tolist()  # one row of |G| ids for each moved token
    for orbit in sorted({tuple(sorted(set(row))) for row in orbits}):
        texts = tokenizer.batch_decode([[token] for token in orbit])
        for stop, (one, two) in product(stop_strings, permutations(texts, 2)):
            if differing := _ways_to_match(one, stop) - _ways_to_match(two, stop):
                raise EquiLMError(
                    f"stop_strings={stop!r} treats words that are swapped differently: {one!r} {min(differing)} makes "
                    f"{stop!r}, while {two!r} does not, so P(gY|gX) = P(Y|X) would not hold. Choose a stop string that "
                    "neither can be a part of, or use model.plain()."
                )


def _ways_to_match(text: str, stop: str) -> set[str]:
    """How a token's text can take part in a match of the stop string, each way in words that follow the text."""
    overlaps = range(1, min(len(text), len(stop) - 1) + 1)
    ways = {f"followed by a token that begins with {stop[n:]!r}" for n in overlaps if text.endswith(stop[:n])}
    ways |= {f"after a token that ends with {stop[:-n]!r}" for n in overlaps if text.startswith(stop[-n:])}
    ways |= {
        f"between tokens that end with {stop[:start]!r} and begin with {stop[start + len(text) :]!r}"
        for start in range(1, len(stop) - len(text))
        if stop.startswith(text, start)
    }
    return ways | {"by itself"} if stop in text else ways


def warn_unchecked(kind: str, items: Iterable[Callable[..., Any]], known: tuple[type, ...]) -> None:
    """Warn of a user's processor or criterion, which sees token ids and may treat those of one list differently."""
    for item in items:
        if not isinstance(item, known):
            warnings.warn(
                f"{kind} {type(item).__name__} sees token ids and cannot be checked: P(gY|gX) = P(Y|X) holds only if "
                "it treats the words of a list alike.",
                EquiLMWarning,
                stacklevel=4,
            )


def warn_nothing_swapped(
    ids: Tensor, attention_mask: Tensor | None, action: TokenAction, unmapped: Sequence[Sequence[int]]
) -> None:
    """Warn of prompts in which nothing is swapped, because the table could not map any of their equality words.

    Args:
        ids: prompts, shape ``(B, T)``.
        attention_mask: shape ``(B, T)``, or None.
        action: the model's action on token ids.
        unmapped: token id sequences of the words that could not be mapped.
    """
    if not unmapped:
        return
    moved = action.moved.to(ids.device)[ids]
    if attention_mask is not None:
        moved = moved & (attention_mask.to(ids.device) != 0)
    for row in (~moved.any(1)).nonzero().flatten().tolist():
        prompt = ids[row].tolist()
        for sequence in unmapped:
            if _contains(prompt, list(sequence)):
                warnings.warn(
                    f"Prompt {row} holds an equality word that this tokenizer cannot swap (tokens {list(sequence)}) "
                    "and no other, so nothing in it is swapped. `equilm audit` lists such words; TextSymmetrizer "
                    "swaps them in text.",
                    EquiLMWarning,
                    stacklevel=4,
                )
                break


def _contains(ids: list[int], sequence: list[int]) -> bool:
    length = len(sequence)
    return any(ids[i : i + length] == sequence for i in range(len(ids) - length + 1))
