"""Loading the model of a command, by name or the offline one, onto its device and in its dtype."""

import argparse
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..loading import default_model, load_base, load_offline_model, load_wrapped, offline_remedy
from ..modeling_equilm import EquiLMForCausalLM


def load_model(
    arguments: argparse.Namespace, auto_class: Any = AutoModelForCausalLM
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model and tokenizer for ``--model``, ``--device`` and ``--dtype``.

    Args:
        arguments: the arguments of the command.
        auto_class: the kind of model wanted, as in `load_base`.

    Raises:
        EquiLMError: for a device that this machine does not have, and for a model that cannot be loaded.
    """
    device = torch_device(arguments.device)
    dtype = getattr(torch, arguments.dtype)
    name = arguments.model or default_model()
    with offline_remedy(arguments.model):
        if name is None:
            model, tokenizer = load_offline_model()
        else:
            model, tokenizer = load_base(name, auto_class=auto_class, dtype=dtype)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(Any, model).to(device=device, dtype=dtype), tokenizer


def load_fair(arguments: argparse.Namespace, *, relaxed: bool = False) -> tuple[EquiLMForCausalLM, Any]:
    """The wrapped model for ``--model`` and ``--axis``, wrapped now or saved wrapped, and its tokenizer.

    Args:
        arguments: the arguments of the command.
        relaxed: whether to wrap a base model as R-EquiLM.

    Raises:
        EquiLMError: for a device that this machine does not have, axes for a model that has its own, and for a model
            that cannot be loaded.
    """
    device, dtype = torch_device(arguments.device), getattr(torch, arguments.dtype)
    with offline_remedy(arguments.model):
        model, tokenizer = load_wrapped(arguments.model or default_model(), arguments.axis, relaxed)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device=device, dtype=dtype), tokenizer


def torch_device(name: str) -> torch.device:
    """The torch device of this name; ``auto`` is this machine's accelerator, or its CPU without one.

    Raises:
        EquiLMError: for a device that this machine does not have.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return found or torch.device("cpu")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if found is None or found.type != device.type:
        raise EquiLMError(f"This machine has no device {name!r}: torch finds {found or 'only the CPU'}.")
    if device.index is not None and device.index >= torch.accelerator.device_count():
        raise EquiLMError(
            f"This machine has no device {name!r}: it has {torch.accelerator.device_count()} of type {device.type}."
        )
    return device
