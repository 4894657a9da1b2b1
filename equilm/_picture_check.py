"""The part of the self-check that needs pictures: a wrapped model against the definition, on given inputs."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ._picture_encoder import never_share
from ._pictures import named_tokens, placeholder_tokens
from ._self_check import (
    SelfCheck,
    failed,
    quiet,
    relative_error,
    tolerance,
    warn_switched_off,
    without_shortcuts,
)
from .actions import TokenAction


@torch.no_grad()
def runs_on_text(model: Any, texts: Mapping[str, Tensor]) -> bool:
    """Whether the base model takes texts without pictures; some raise errors of many kinds."""
    try:
        with quiet(model):
            model.language_model(**texts, use_cache=False)
    except Exception:  # noqa: BLE001 - each model has its own way to ask for pictures
        return False
    return True


def check_pictures(model: Any, inputs: Mapping[str, Any]) -> SelfCheck:
    """Compare the forward pass with the definition, with the same pictures for all permuted copies.

    The definition runs the base model on one copy of the batch after another, each with pictures of its own.

    Args:
        model: an EquiLM that sees.
        inputs: what the base model's processor made; words of the axes are put into its texts.

    Raises:
        EquiLMError: names the architecture and the difference.
    """
    action = model.config.token_action()  # from the lists, not the table that the model computes with
    ids = _with_words(model, action, inputs)
    given = {**inputs, "input_ids": ids}
    read = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids, dtype=torch.bool)
    with quiet(model), torch.no_grad():
        expected = _definition(model, action, given)[read]
        allowed = tolerance(model.dtype)
        words = torch.cat([action.moved.nonzero().flatten(), torch.tensor(action.general_ids, dtype=torch.int64)])
        switched_off: tuple[str, ...] = ()
        remedies = _without_shortcuts(model)
        # NaN is too large as well.
        while not (error := _error(model(**given).logits[read], expected, words)) <= allowed:
            if (remedy := next(remedies, None)) is None:
                raise failed(model, "with pictures", error, allowed)
            switched_off = (remedy,)
    for shortcut in switched_off:
        warn_switched_off(model, "pictures", shortcut)
    return SelfCheck({"pictures": error}, allowed, switched_off)


def _without_shortcuts(model: Any) -> Iterator[str]:
    never_share(model.language_model)
    yield "sharing pictures"
    yield from without_shortcuts(model)


def _error(logits: Tensor, expected: Tensor, words: Tensor) -> float:
    """The error of all logits, or of those of the words if that is larger."""
    words = words.to(logits.device)
    return max(relative_error(logits, expected), relative_error(logits[..., words], expected[..., words], expected))


def _with_words(model: Any, action: TokenAction, inputs: Mapping[str, Any]) -> Tensor:
    """The texts with two words of the axes in place of ordinary tokens, the first and the last that there are."""
    ids: Tensor = inputs["input_ids"].clone()
    config = model.config.text_config
    kept = torch.tensor([*placeholder_tokens(config), *named_tokens(config).values()], device=ids.device)
    ordinary = ~torch.isin(ids, kept)
    for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            ordinary &= (inputs[name] == 0) if "type" in name else inputs[name].bool()
    moved = action.moved.nonzero().flatten().to(ids.device)
    for row, places in zip(ids, ordinary, strict=True):
        for number, place in enumerate(places.nonzero().flatten()[[0, -1]] if places.any() else ()):
            row[place] = moved[(number * len(moved)) // 2]
    return ids


def _definition(model: Any, action: TokenAction, given: dict[str, Any]) -> Tensor:
    """1/|G| Σ_g M(g·x, pictures)[g·v], float32, shape ``(B, T, V)``."""
    table, weights = action.permutation.to(model.device), model.orbit_weights
    ids, first = given["input_ids"], None
    total, count = torch.zeros(()), torch.zeros(())
    details = {} if weights is None else {"output_hidden_states": True}
    for row in table:
        image = torch.where(ids < len(row), row[ids.clamp(max=len(row) - 1)], ids)
        outputs = model.language_model(**{**given, "input_ids": image}, use_cache=False, **details)
        logits = outputs.logits.float()
        first = logits if first is None else first
        own = torch.ones(()) if weights is None else weights(outputs.hidden_states[-1]).float()[..., None]  # (B, T, 1)
        own = own.to(logits.device)
        total = total.to(logits.device) + logits.index_select(-1, row[: logits.shape[-1]]) * own
        count = count.to(logits.device) + own
    total = total / count
    if model.config.relaxed and first is not None:
        general = list(action.general_ids)
        total[..., general] = first[..., general]
    return total
