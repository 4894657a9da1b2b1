"""How the base model holds its weights, quantized or with adapters in between: what the model around it must know."""

import warnings
from typing import Any, cast

import transformers
from transformers import PreTrainedModel

from .errors import EquiLMError, EquiLMWarning


def build_base(auto_class: Any, config: Any) -> PreTrainedModel:
    """A base model with new weights, of the class that its configuration names.

    Args:
        auto_class: builds it where the configuration names no class of transformers.
        config: the base model's configuration.
    """
    for name in config.architectures or ():
        model_class = getattr(transformers, name, None)
        if isinstance(model_class, type) and issubclass(model_class, PreTrainedModel) and model_class.can_generate():
            return cast(Any, model_class)._from_config(config)  # what the auto classes call
    return cast(PreTrainedModel, auto_class.from_config(config))


def take_over_quantization(model: PreTrainedModel, base: Any) -> None:
    """Tell transformers that the model's weights are quantized, so that it saves, loads and trains them as such.

    Args:
        model: the model that wraps ``base``.
        base: the base model, quantized or not.
    """
    quantization: Any = getattr(base.config, "quantization_config", None)
    if quantization is None or (quantization.quant_method == "gguf" and not base.hf_quantizer.packed_modules):
        return  # transformers unpacks the weights of GGUF files while loading, unless it has a kernel for packed ones
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        setattr(model, name, getattr(base, name))
    model.config.quantization_config = quantization
    if quantization.quant_method == "bitsandbytes" and quantization.load_in_8bit and quantization.llm_int8_threshold:
        warnings.warn(
            "LLM.int8() picks the columns it keeps in half precision from all rows of a batch, so a text's logits "
            "change with the texts beside it, in the base model too. P(gY|gX) = P(Y|X) then holds between batches "
            "that differ in nothing but g. For every batch: llm_int8_threshold=0.0 or load_in_4bit=True.",
            EquiLMWarning,
            stacklevel=4,
        )


def refuse_adapters(model: PreTrainedModel, base: PreTrainedModel) -> None:
    """Refuse to save weights that peft has put adapters around: they would load as new, random weights.

    Args:
        model: the model to save; adapters of its own, from ``add_adapter``, are saved by transformers.
        base: the model it wraps.

    Raises:
        EquiLMError: names the adapters.
    """
    own = [] if model._hf_peft_config_loaded else list(getattr(model, "peft_config", {}))
    names = own + list(getattr(base, "peft_config", {}))
    if names:
        raise EquiLMError(
            f"The weights have adapters of peft around them ({', '.join(names)}), under names that would not be found "
            "when loading. Save the PeftModel, which writes the adapters alone, or merge them first: "
            "peft_model.merge_and_unload(). To train and save them on their own, wrap the base model before "
            "get_peft_model()."
        )
