"""The base model's weights: how they are built, quantized or adapted, and whether its head may be applied once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from .errors import EquiLMError, EquiLMWarning


def build_base(auto_class: Any, config: Any) -> PreTrainedModel:
    """A base model with new weights: a generator of the class that its configuration names.

    Args:
        auto_class: the kind of model. It builds what is no generator, so that a language model's configuration can be
            a classifier's too, and what the configuration names no class of transformers for.
        config: the base model's configuration.
    """
    generators = (AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForImageTextToText)
    model_class = named_class(config) if auto_class in generators else None
    if model_class is None:
        return cast(PreTrainedModel, auto_class.from_config(config))
    return cast(PreTrainedModel, model_class._from_config(config))  # what the auto classes call


def named_class(config: Any) -> Any:
    """The class of transformers that a configuration names as its model's, if that can generate; otherwise None."""
    for name in config.architectures or ():
        model_class = getattr(transformers, name, None)
        if isinstance(model_class, type) and issubclass(model_class, PreTrainedModel) and model_class.can_generate():
            return model_class
    return None


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


def trunk(model: PreTrainedModel) -> Any:
    """The part of a language model below its head: its decoder; of a model for more than text, all of it."""
    is_composite = model.config.get_text_config() is not model.config
    return model.base_model if is_composite and not model.config.is_encoder_decoder else model.get_decoder()


class _HiddenStates(BaseModelOutputWithPastAndCrossAttentions):
    """What a trunk returns, with nothing in the fields that some have besides, such as those of pictures."""

    def __getattr__(self, name: str) -> None:
        return None


@torch.no_grad()
def has_linear_head(model: PreTrainedModel) -> bool:
    """Whether a language model's logits are ``head(trunk(...).last_hidden_state)`` and nothing else.

    Soft caps, multipliers and biases hide in many places, so this compares the model's own forward pass, its trunk
    replaced by one that returns random hidden states, with the head applied to these. It runs no layer but the head;
    what it cannot see, `equilm._self_check` does.
    """
    head, decoder = model.get_output_embeddings(), trunk(model)
    if not is_plain_linear(head) or decoder is model or not isinstance(decoder, PreTrainedModel):
        return False
    if model.config.get_text_config() is not model.config and decoder is not model.base_model:
        return False  # the decoder of an encoder-decoder: operations between the parts are not probed
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    # Large, so that a soft cap shows.
    hidden = 100 * torch.randn(1, 1, head.in_features, generator=own).to(head.weight)
    ids = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    try:
        with _returning(decoder, _HiddenStates(last_hidden_state=hidden)):
            logits = model(input_ids=ids, use_cache=False).logits
        expected = head(hidden)
    except Exception:  # noqa: BLE001 - whatever it does with its decoder's outputs, the ordinary path is right
        return False
    same_shape = logits.shape == expected.shape
    return same_shape and torch.allclose(logits.float(), expected.float(), rtol=1e-5, atol=1e-3)


@contextmanager
def _returning(module: Any, outputs: Any) -> Iterator[None]:
    """Within the context, a module returns these outputs and computes nothing."""
    hooked = vars(module).get("forward")  # libraries that move weights put a forward of their own there
    module.forward = lambda *args, **kwargs: outputs
    try:
        yield
    finally:
        del module.forward
        if hooked is not None:
            module.forward = hooked


def is_plain_linear(head: Any) -> bool:
    """Whether a head is a linear layer with its weight at hand: no adapter, no quantized or offloaded weight."""
    # A library may also put a quantized or sharded weight, a subclass of Tensor, into an ordinary layer.
    return type(head) is nn.Linear and type(head.weight) is nn.Parameter and not head.weight.is_meta


def project_columns(head: nn.Linear, hidden: Tensor, columns: Tensor) -> Tensor:
    """The logits of some tokens: hidden states ``(..., H)`` and token ids ``(C,)`` to ``(..., C)``."""
    bias = None if head.bias is None else head.bias[columns]
    return nn.functional.linear(hidden, head.weight[columns], bias)
