"""Loading the app's models, once each, and word lists, from JSON text; no code from a repository is run."""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
)

from equilm import DemographicAxis, EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText
from equilm.loading import OFFLINE_MODEL_ID, load_base, load_offline_model

PACKAGED = f"{OFFLINE_MODEL_ID} (packaged)"
OWN_LIST = "own word list"


@lru_cache(maxsize=2)
def load(name: str, sees: bool = False) -> tuple[PreTrainedModel, Any]:
    """A model in float32, on the GPU if there is one, and its tokenizer.

    Args:
        name: `PACKAGED`, a Hub id or a folder. Only safetensors are read, and code in the repository is not run.
        sees: whether to load a model that reads pictures, and its processor in place of the tokenizer.

    Raises:
        EquiLMError: for a model of another kind, if the packaged one is not installed, for a name that is neither a Hub
            id nor a folder, and if the Hub cannot be reached.
    """
    kind = "a model that reads pictures" if sees else "a causal language model"
    auto_class: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        if name == PACKAGED:
            if sees:
                raise EquiLMError(f"{name} reads no pictures. Remove the picture, or choose a model that does.")
            model, tokenizer = load_offline_model()
        else:
            model, tokenizer = load_base(name, auto_class=auto_class, dtype="float32", use_safetensors=True)
        reader: Any = AutoProcessor.from_pretrained(name) if sees else tokenizer
    except EquiLMError:
        raise
    except (OSError, ValueError) as error:
        raise EquiLMError(
            f"The model {name!r} cannot be loaded: expected a Hub id or a folder of {kind} in safetensors. {error}"
        ) from error
    if isinstance(model, EquiLMForCausalLM):  # saved wrapped: the page wraps it again, with the chosen axis
        model = model.language_model
    tokenizer = reader.tokenizer if sees else reader
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return cast(Any, model).to(device).eval(), reader


@lru_cache(maxsize=8)
def wrap(name: str, axis: DemographicAxis, relaxed: bool, sees: bool = False) -> tuple[EquiLMForCausalLM, Any]:
    """The model of that name made fair, and its tokenizer or processor.

    Args:
        name: as in `load`.
        axis: the axis whose words are swapped, except lists that the tokenizer has no single tokens for.
        relaxed: whether to make it R-EquiLM.
        sees: as in `load`.

    Raises:
        EquiLMError: as `load`, and if the tokenizer has single tokens for none of the axis's lists.
    """
    base, reader = load(name, sees=True) if sees else load(name)
    fair_class = EquiLMForImageTextToText if sees else EquiLMForCausalLM
    return fair_class.from_base(base, reader, axes=axis, relaxed=relaxed), reader


def read_axis(choice: str, text: str) -> DemographicAxis:
    """The chosen axis.

    Args:
        choice: a built-in name or `OWN_LIST`.
        text: with `OWN_LIST`, the axis as JSON.

    Raises:
        EquiLMError: for a text that is not JSON or does not describe an axis.
    """
    if choice != OWN_LIST:
        return DemographicAxis.load(choice)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "The word list"
        path.write_text(text, "utf-8")
        try:
            return DemographicAxis.load(path)
        except EquiLMError as error:
            raise EquiLMError(str(error).replace(str(path), path.name)) from error
