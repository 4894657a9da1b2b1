"""Wrapping any language model or classifier of transformers in the class for its kind."""

import os
from collections.abc import Sequence
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .loading import adapter_settings, class_names, is_of_kind, saved_config, transformers_model
from .modeling_equilm import EquiLMForCausalLM
from .modeling_equilm_classification import EquiLMForSequenceClassification
from .modeling_equilm_image_text import EquiLMForImageTextToText
from .modeling_equilm_masked import EquiLMForMaskedLM
from .modeling_equilm_seq2seq import EquiLMForSeq2SeqLM

__all__ = ["AutoEquiLM"]

# In this order: BART is listed as an encoder-decoder and as a masked model, GIT as a causal one and one of pictures.
_KINDS: dict[Any, Any] = {
    AutoModelForImageTextToText: EquiLMForImageTextToText,
    AutoModelForSequenceClassification: EquiLMForSequenceClassification,
    AutoModelForSeq2SeqLM: EquiLMForSeq2SeqLM,
    AutoModelForCausalLM: EquiLMForCausalLM,
    AutoModelForMaskedLM: EquiLMForMaskedLM,
}
# What peft calls them.
_TASKS: dict[Any, Any] = {
    "SEQ_CLS": EquiLMForSequenceClassification,
    "SEQ_2_SEQ_LM": EquiLMForSeq2SeqLM,
    "CAUSAL_LM": EquiLMForCausalLM,
}


class AutoEquiLM:
    """Wraps a model in the class for its kind: causal, encoder-decoder, image-text, sequence classification, masked."""

    def __init__(self) -> None:
        raise EquiLMError("AutoEquiLM makes models and is none: call AutoEquiLM.from_base(model_or_name, ...).")

    @staticmethod
    def from_base(
        model_or_name: PreTrainedModel | str, *args: Any, **kwargs: Any
    ) -> (
        EquiLMForCausalLM
        | EquiLMForSeq2SeqLM
        | EquiLMForImageTextToText
        | EquiLMForSequenceClassification
        | EquiLMForMaskedLM
    ):
        """Wrap a model in the class that fits its own, or the one that its saved configuration names.

        Args:
            model_or_name: a loaded model, of transformers or of peft, a Hub id or a folder.
            args: as in ``from_base`` of that class.
            kwargs: likewise.

        Raises:
            EquiLMError: for a model of another kind, by name, and for one that is wrapped already.

        Example:
            >>> from equilm import AutoEquiLM
            >>> type(AutoEquiLM.from_base("google/flan-t5-small")).__name__  # doctest: +SKIP
            'EquiLMForSeq2SeqLM'
        """
        if isinstance(model_or_name, str | os.PathLike):
            chosen = _by_saved_name(str(model_or_name), kwargs)
        else:
            model = transformers_model(model_or_name)
            chosen = _by_class(class_names(model), type(model).__name__, _is_wrapped(model.config))
        return chosen.from_base(model_or_name, *args, **kwargs)


def _is_wrapped(config: Any) -> bool:
    return isinstance(config, EquiLMConfig)


def _by_saved_name(name: str, kwargs: dict[str, Any]) -> Any:
    """The class for what a Hub id or a folder holds."""
    adapter = adapter_settings(name, **kwargs)
    if adapter is not None:
        task, base = adapter.get("task_type"), adapter.get("base_model_name_or_path")
        if task in _TASKS:
            return _TASKS[task]
        if not base:
            raise EquiLMError(f"The adapter {name!r} names neither its task nor its base model. {_CHOOSE}")
        return _by_saved_name(str(base), kwargs)
    config = saved_config(name, **kwargs)
    if not config.architectures:
        raise EquiLMError(f"The configuration of {name!r} does not name the model's class. {_CHOOSE}")
    return _by_class(config.architectures[:1], f"{config.architectures[0]} ({name!r})", _is_wrapped(config))


_CHOOSE = f"Choose among {', '.join(cls.__name__ for cls in _KINDS.values())} yourself, and call its from_base."


def _by_class(names: Sequence[str], described: str, is_wrapped: bool) -> Any:
    """The class for a model whose class, and those it is derived from, have these names."""
    if is_wrapped:
        raise EquiLMError(f"{described} is wrapped already. Load it with from_pretrained, or give its base model.")
    for kind, chosen in _KINDS.items():
        if is_of_kind(names, kind):
            return chosen
    raise EquiLMError(
        f"{described} is not a causal, encoder-decoder or masked language model, a decoder that reads pictures, nor a "
        "sequence classifier. TextSymmetrizer makes any generator fair on text, and TextSymmetrizer(...).invariant any "
        "scorer or encoder."
    )
