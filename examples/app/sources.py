"""Where the app's models and word lists come from: loaded once, word lists as JSON text, nothing that runs code."""

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
        EquiLMError: for a model of another kind, where the packaged one is not installed, for a name that is no Hub id
            and no folder, and where the Hub cannot be reached.
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
    if isinstance(model, EquiLMForCausalLM):  # saved wrapped: the page wraps it anew, with the axis that is chosen
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
        axis: whose words to swap; lists that the tokenizer cannot carry are left out.
        relaxed: whether to make it R-EquiLM.

    Raises:
        EquiLMError: as `load`, and for an axis of which the tokenizer can carry no list.
    """
    base, tokenizer = load(name)
    return EquiLMForCausalLM.from_base(base, tokenizer, axes=axis, relaxed=relaxed), tokenizer


def read_axis(choice: str, text: str) -> DemographicAxis:
    """The axis that was chosen.

    Args:
        choice: a built-in name or `OWN_LIST`.
        text: with `OWN_LIST` the axis as JSON.

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
