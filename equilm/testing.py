"""Checks of the guarantee: is a model equivariant, and how far is it from eq. 4?"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ._modeling_base import EquiLMPreTrainedModel
from .actions import TokenAction

__all__ = [
    "TOLERANCE",
    "ElementError",
    "assert_equivariant",
    "equivariance_errors",
    "log_prob_gap",
]

# Largest error in the logits, relative to the largest logit (at least 1): rounding differs with the order of rows.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class ElementError:
    """The largest |φ(gx) - gφ(x)| of one group element, and where it is.

    Args:
        element: g.
        error: the largest absolute difference of logits.
        row: index of the text in the batch.
        position: index of the token after which the logits are.
        token: id of the token whose logit it is.
    """

    element: int
    error: float
    row: int
    position: int
    token: int


@torch.no_grad()
def equivariance_errors(
    model: EquiLMPreTrainedModel, input_ids: Tensor, decoder_input_ids: Tensor | None = None
) -> list[ElementError]:
    """|φ(gx) - gφ(x)| for every group element, over the words the guarantee is about.

    For EquiLM these are all words; for R-EquiLM they are E′ ∪ N, all but the general words (paper, section 5.3).

    Args:
        model: the model in its current state: inside ``model.plain()`` the base model is measured.
        input_ids: int64, shape ``(B, T)``.
        decoder_input_ids: for encoder-decoders the decoder's texts, int64, shape ``(B, T')``; permuted as well.

    Returns:
        One entry for each element.
    """
    action = model.action
    texts = _texts(input_ids, decoder_input_ids)
    logits = model(**texts).logits  # (B, T, V)
    errors = []
    for g in action.group.elements:
        moved = model(**{name: action.act(ids, g) for name, ids in texts.items()}).logits
        difference = (moved - action.act_on_logits(logits, g)).abs()
        if model.config.relaxed:
            difference[..., list(action.general_ids)] = 0
        row, position, token = (int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
        errors.append(ElementError(g, float(difference.max()), row, position, token))
    return errors


def assert_equivariant(
    model: EquiLMPreTrainedModel,
    input_ids: Tensor,
    atol: float | None = None,
    decoder_input_ids: Tensor | None = None,
) -> list[ElementError]:
    """Check φ(gx) = gφ(x), from which eq. 4 follows, on these texts.

    Args:
        model: EquiLM, or R-EquiLM, for which the general words are left out.
        input_ids: int64, shape ``(B, T)``.
        atol: the largest difference of logits allowed; None takes `TOLERANCE` for the model's dtype, times the largest
            logit.
        decoder_input_ids: for encoder-decoders the decoder's texts, int64, shape ``(B, T')``.

    Returns:
        The errors, one entry for each element.

    Raises:
        AssertionError: names the element, text, position and token with the largest error.

    Example:
        >>> assert_equivariant(model, tokenizer("The man worked as", return_tensors="pt").input_ids)  # doctest: +SKIP
    """
    __tracebackhide__ = True
    errors = equivariance_errors(model, input_ids, decoder_input_ids)
    worst = max(errors, key=lambda entry: entry.error)
    if atol is None:
        with torch.no_grad():
            logits = model(**_texts(input_ids, decoder_input_ids)).logits
            atol = TOLERANCE[model.dtype] * max(1.0, float(logits.abs().max()))
    if not worst.error <= atol:  # a NaN fails too
        listed = ", ".join(f"{entry.element}: {entry.error:.2e}" for entry in errors)
        raise AssertionError(
            f"Not equivariant: for group element {worst.element} the logits differ by {worst.error:.2e} > {atol:.2e} "
            f"at text {worst.row}, position {worst.position}, token {worst.token}. By element: {listed}."
        )
    return errors


def _texts(input_ids: Tensor, decoder_input_ids: Tensor | None) -> dict[str, Tensor]:
    texts = {"input_ids": input_ids}
    return texts if decoder_input_ids is None else {**texts, "decoder_input_ids": decoder_input_ids}


@torch.no_grad()
def log_prob_gap(
    model: PreTrainedModel,
    action: TokenAction,
    input_ids: Tensor,
    prompt_length: int,
    attention_mask: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
) -> Tensor:
    """|log P(gY|gX) - log P(Y|X)| for each token of Y: how far the model is from eq. 4.

    Args:
        model: any language model, fair or not, causal or encoder-decoder.
        action: the action on its token ids.
        input_ids: X followed by Y, int64, shape ``(B, T)``; for encoder-decoders what the encoder reads.
        prompt_length: the length of X, at least 1; for encoder-decoders the number of tokens before Y in
            ``decoder_input_ids``.
        attention_mask: the mask of ``input_ids``, shape ``(B, T)``; None: all ones.
        decoder_input_ids: for encoder-decoders the start token and Y, int64, shape ``(B, T)``.

    Returns:
        float32, shape ``(|G| - 1, B, T - prompt_length)``: one row for each element but the identity; NaN where
        a token of Y is masked.
    """

    def log_probs(g: int) -> Tensor:
        texts = {name: action.act(ids, g) for name, ids in _texts(input_ids, decoder_input_ids).items()}
        logits = model(**texts, attention_mask=attention_mask).logits[:, prompt_length - 1 : -1]
        tokens = list(texts.values())[-1][:, prompt_length:, None]  # the decoder's text, where there is one
        return logits.float().log_softmax(-1).gather(-1, tokens)[..., 0]  # (B, T - prompt_length)

    reference = log_probs(0)
    gap = torch.stack([(log_probs(g) - reference).abs() for g in action.group.elements[1:]])
    if attention_mask is not None and decoder_input_ids is None:
        gap = gap.masked_fill(attention_mask[:, prompt_length:] == 0, float("nan"))
    return gap
