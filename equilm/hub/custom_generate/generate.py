"""A fair `generate` for any causal language model of transformers, by the package `equilm`."""

from collections.abc import Sequence
from typing import Any, Literal

from equilm import EquiLMError, EquiLMForCausalLM, symmetrized_generate


def generate(
    model: Any,
    tokenizer: Any = None,
    axes: Sequence[str] = ("gender",),
    relaxed: bool = False,
    level: Literal["token", "sequence"] = "token",
    **kwargs: Any,
) -> Any:
    """Like transformers' ``generate``, but treats demographic groups alike.

    Args:
        model: the model whose ``generate`` was called.
        tokenizer: its tokenizer; None loads it from the model's name or path.
        axes: built-in names ("gender", "race", "race3", "orientation") or paths of axis files.
        relaxed: R-EquiLM: the logits of the axes' general words are not averaged.
        level: "token" averages the logits over the group at every step (EquiLM); "sequence" draws one group element for
            each text and runs the plain model once.
        kwargs: the arguments of ``generate``.
    """
    fair = EquiLMForCausalLM.from_base(model, tokenizer, axes=axes, relaxed=relaxed)
    if level == "token":
        return fair.generate(**kwargs)
    if level != "sequence":
        raise EquiLMError(f"level must be 'token' or 'sequence', got {level!r}.")
    if relaxed:
        raise EquiLMError("relaxed=True cannot be used at the sequence level: leave out one of the two.")
    input_ids = kwargs.pop("inputs", None)
    if input_ids is None:
        input_ids = kwargs.pop("input_ids")
    adopted = vars(model).pop("generate", None)  # a model loaded from this repository has this function as its own
    try:
        return symmetrized_generate(model, input_ids, fair.action, **kwargs)
    finally:
        if adopted is not None:
            model.generate = adopted
