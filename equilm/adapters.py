"""Models of peft: the transformers model inside one, into whose layers its adapters were put."""

from typing import Any

from transformers import PreTrainedModel

from .errors import EquiLMError


def transformers_model(model: Any) -> Any:
    """The transformers model inside a model of peft; any other model as it is.

    Adapters such as LoRA are layers of that model, so it computes what the ``PeftModel`` does, as long as they are
    switched on or off alike. A learned prompt is not among its layers.
    """
    if isinstance(model, PreTrainedModel):
        return model
    from transformers.trainer_utils import unwrap_peft_model  # imports peft, where installed

    return unwrap_peft_model(model)


def refuse_learned_prompt(model: Any) -> None:
    """Refuse a model of peft that puts learned vectors before the text, or into the cache.

    Raises:
        EquiLMError: names the method.
    """
    if transformers_model(model) is model:
        return
    for adapter in model.peft_config.values():
        if adapter.is_prompt_learning:
            raise EquiLMError(
                f"{type(model).__name__} with {adapter.peft_type.value} has learned vectors before the text, which are "
                "not tokens and cannot be permuted. Train an adapter such as LoRA instead, or give the model to "
                "symmetrized_generate, which leaves them as they are."
            )
