"""The part of the self-check that needs pictures: a wrapped model against the definition, on given inputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._picture_encoder import never_share
from ._pictures import named_tokens, placeholder_tokens
from ._self_check import SelfCheck, quiet, relative_error, tolerance
from .actions import TokenAction
from .errors import EquiLMError


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
        switched_off: list[str] = []
        remedies = _without_shortcuts(model)
        while not (error := relative_error(model(**given).logits[read], expected)) <= allowed:  # NaN as well
            if (remedy := next(remedies, None)) is None:
                raise EquiLMError(
                    f"The self-check failed: {type(model.language_model).__name__} in an {type(model).__name__}, with "
                    f"pictures: the logits differ from the mean over the group by {error:.1e} of their spread, where "
                    f"rounding gives {allowed:.1e}. P(gY|gX) = P(Y|X) would not hold, so the model is not handed out. "
                    "Please report the architecture; TextSymmetrizer makes any model fair on text."
                )
            switched_off = [remedy]
    return SelfCheck({"pictures": error}, allowed, tuple(switched_off))


def _without_shortcuts(model: Any) -> Any:
    never_share(model.language_model)
    yield "sharing pictures"
    for name, shortcut in (("_projects_once", "projecting once"), ("_shares_rows", "sharing rows")):
        setattr(model, name, False)
        yield shortcut


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
    table = action.permutation.to(model.device)
    ids, total, first = given["input_ids"], torch.zeros(()), None
    for row in table:
        image = torch.where(ids < len(row), row[ids.clamp(max=len(row) - 1)], ids)
        logits = model.language_model(**{**given, "input_ids": image}, use_cache=False).logits.float()
        first = logits if first is None else first
        total = total.to(logits.device) + logits.index_select(-1, row[: logits.shape[-1]]) / len(table)
    if model.config.relaxed and first is not None:
        general = list(action.general_ids)
        total[..., general] = first[..., general]
    return total
