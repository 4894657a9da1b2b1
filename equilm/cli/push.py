"""`equilm push`: wrap, measure, write the card, upload."""

import argparse
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ..configuration_equilm import EquiLMConfig
from ..errors import EquiLMError
from ..hub.measure import measure
from ..hub.publish import publish, save_custom_generate, save_model
from ..loading import OFFLINE_MODEL_ID, load_base, load_offline_model
from ..metrics.wikitext import load_wikitext
from ..modeling_equilm import EquiLMForCausalLM
from .models import load_model, torch_device


def run(arguments: argparse.Namespace) -> None:
    """Carry out `equilm push`."""
    if arguments.repo_id is None and arguments.output is None:
        raise EquiLMError("equilm push needs --repo-id (a Hub repository), --output (a folder), or both.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary) / "model"
        base_model = OFFLINE_MODEL_ID if arguments.model is None else _hub_id(arguments.model)
        about = {"repo_id": arguments.repo_id, "base_model": base_model, "license": arguments.license}
        if arguments.custom_generate:
            base, tokenizer = load_model(arguments)
            save_custom_generate(base, tokenizer, folder, **about)
        else:
            text = load_wikitext(arguments.data)
            model, tokenizer = load_wrapped(arguments.model, arguments.axis, arguments.relaxed)
            cast(Any, model).to(device=torch_device(arguments.device), dtype=getattr(torch, arguments.dtype))
            measurements = measure(model, tokenizer, text, Path(arguments.data).name, blocks=arguments.blocks)
            save_model(model, tokenizer, folder, measurements, **about)
        if arguments.output is not None:
            print(f"Written to {arguments.output}")
        if arguments.repo_id is not None:
            print(publish(folder, arguments.repo_id, private=arguments.private))


def load_wrapped(
    name: str | None, axes: list[str] | None = None, relaxed: bool = False
) -> tuple[EquiLMForCausalLM, PreTrainedTokenizerBase]:
    """A wrapped model by name: a base model is wrapped now, one that is saved wrapped is loaded as it is.

    Args:
        name: a Hub id or folder; None: the offline model.
        axes: for a base model; None: gender.
        relaxed: for a base model.

    Raises:
        EquiLMError: if axes or relaxed are given for a model that is wrapped already.
    """
    if name is not None and isinstance(AutoConfig.from_pretrained(name), EquiLMConfig):
        if axes or relaxed:
            raise EquiLMError(
                f"{name!r} is wrapped already, with its own axes. Leave out --axis and --relaxed, or name its base."
            )
        return EquiLMForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    base, tokenizer = load_offline_model() if name is None else load_base(name)
    return EquiLMForCausalLM.from_base(base, tokenizer, axes=axes or ["gender"], relaxed=relaxed), tokenizer


def _hub_id(name: str) -> str | None:
    return None if Path(name).exists() else name
