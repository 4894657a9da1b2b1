"""Loading the app's models, once each, and word lists, from JSON text; no code from a repository is run."""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm import DemographicAxis, EquiLMError, EquiLMForCausalLM
from equilm.loading import OFFLINE_MODEL_ID, load_base, load_offline_model

PACKAGED = f"{OFFLINE_MODEL_ID} (packaged)"
OWN_LIST = "own word list"


@lru_cache(maxsize=2)
def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in float32, on the GPU if there is one, and its tokenizer.

    Args:
        name: `PACKAGED`, a Hub id or a folder. Only safetensors are read, and code in the repository is not run.

    Raises:
        EquiLMError: for a model of another kind, if the packaged one is not installed, for a name that is neither a Hub
            id nor a folder, and if the Hub cannot be reached.
    """
    try:
        if name == PACKAGED:
            model, tokenizer = load_offline_model()
        else:
            model, tokenizer = load_base(name, dtype="float32", use_safetensors=True)
    except EquiLMError:
        raise
    except (OSError, ValueError) as error:
        raise EquiLMError(
            f"The model {name!r} cannot be loaded: expected a Hub id or a folder of a causal language model in "
            f"safetensors. {error}"
        ) from error
    if isinstance(model, EquiLMForCausalLM):  # saved wrapped: the page wraps it again, with the chosen axis
        model = model.language_model
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return cast(Any, model).to(device).eval(), tokenizer


@lru_cache(maxsize=8)
def wrap(name: str, axis: DemographicAxis, relaxed: bool) -> tuple[EquiLMForCausalLM, PreTrainedTokenizerBase]:
    """The model of that name made fair, and its tokenizer.

    Args:
        name: as in `load`.
        axis: the axis whose words are swapped, except lists that the tokenizer has no single tokens for.
        relaxed: whether to make it R-EquiLM.

    Raises:
        EquiLMError: as `load`, and if the tokenizer has single tokens for none of the axis's lists.
    """
    base, tokenizer = load(name)
    return EquiLMForCausalLM.from_base(base, tokenizer, axes=axis, relaxed=relaxed), tokenizer


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
