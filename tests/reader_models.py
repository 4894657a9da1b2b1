"""Tiny random classifiers and masked models of several architectures, and what the definition makes of them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from models import AXES, VOCAB
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    RobertaConfig,
)

from equilm import EquiLMConfig, EquiLMForMaskedLM, EquiLMForSequenceClassification

PAD, BOS, EOS = 0, 1, 2
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}

FIRST_TOKEN = ("bert", "roberta", "modernbert")  # their heads read the first token
LAST_TOKEN = ("llama", "qwen2")  # and theirs the last


def reader_config(architecture: str, **settings: Any) -> PreTrainedConfig:
    """A configuration; ``settings`` such as ``num_labels`` go into it."""
    match architecture:
        case "bert":
            return BertConfig(**_SIZES, **settings)
        case "roberta":  # its positions begin after the padding token's id
            return RobertaConfig(**_SIZES, **settings)
        case "modernbert":
            special: dict[str, Any] = {"cls_token_id": BOS, "sep_token_id": EOS, "initializer_cutoff_factor": 3.0}
            return ModernBertConfig(**_SIZES, **special, **settings)
        case "llama":
            return LlamaConfig(**_SIZES, num_key_value_heads=2, **settings)
        case "qwen2":
            return Qwen2Config(**_SIZES, num_key_value_heads=2, **settings)
        case _:
            raise ValueError(architecture)


def tiny_reader(
    architecture: str, masked: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    """A random classifier, or masked language model, in evaluation mode, with weights large enough to show errors."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForMaskedLM if masked else AutoModelForSequenceClassification
    model = auto.from_config(reader_config(architecture, **settings), dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.2:
                parameter.normal_(std=0.3)
    return cast(PreTrainedModel, model)


def reader_wrapper_config(base: PreTrainedModel, axes: str = "d2", **settings: Any) -> EquiLMConfig:
    """The configuration of a wrapper whose lists are those of ``AXES[axes]``."""
    attention = base.config._attn_implementation
    return cast(Any, EquiLMConfig)(
        text_config=base.config.to_dict(), cycles=AXES[axes], attn_implementation=attention, **settings
    )


def judge_of(base: PreTrainedModel, axes: str = "d2") -> EquiLMForSequenceClassification:
    """An invariant classifier around ``base``."""
    return EquiLMForSequenceClassification(reader_wrapper_config(base, axes), base).eval()


def masked_of(base: PreTrainedModel, axes: str = "d2", **settings: Any) -> EquiLMForMaskedLM:
    """A fair masked language model around ``base``."""
    return EquiLMForMaskedLM(reader_wrapper_config(base, axes, **settings), base).eval()


def tables(axes: str) -> Tensor:
    """For each element of the group what it turns each token into, written anew: int64, shape ``(|G|, V)``."""
    rows = torch.arange(VOCAB)[None]
    for lists in AXES[axes]:
        size = len(lists[0])
        powers = []
        for shift in range(size):
            power = torch.arange(VOCAB)
            for ids in lists:
                for place, token in enumerate(ids):
                    power[token] = ids[(place + shift) % size]
            powers.append(power)
        rows = torch.stack([power[row] for row in rows for power in powers])
    return rows


def padded(texts: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Texts of different lengths as a batch, and its mask."""
    longest = max(map(len, texts))
    rows = []
    for text in texts:
        filler = torch.full((longest - len(text),), PAD)
        rows.append(torch.cat([filler, text] if side == "left" else [text, filler]))
    ids = torch.stack(rows)
    return ids, (ids != PAD).long()
