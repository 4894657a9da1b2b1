"""Tiny random encoder-decoders, and how they are wrapped."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from models import AXES, EOS, PAD, SPECIAL, VOCAB
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    M2M100Config,
    MarianConfig,
    MBartConfig,
    PegasusConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
)

from equilm import EquiLMForSeq2SeqLM, EquiLMSeq2SeqConfig

# More decoder than encoder layers, so that a cache of the wrong size shows.
_BART_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "init_std": 0.4,  # large weights make the distributions peaked, so that an error would show
    "dropout": 0.0,
    "decoder_start_token_id": EOS,
    "forced_eos_token_id": None,
    **SPECIAL,
}


def _config(architecture: str) -> PreTrainedConfig:
    match architecture:
        case "t5" | "t5 gated":  # the gated variant, T5 1.1 and Flan-T5, does not scale what goes to its head
            sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
            sizes |= {"dropout_rate": 0.0, "initializer_factor": 2.0, "decoder_start_token_id": PAD, **SPECIAL}
            if architecture == "t5 gated":
                sizes |= {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
            return T5Config(vocab_size=VOCAB, **sizes)
        case "bart":
            return BartConfig(**_BART_SIZES)
        case "mbart":
            return MBartConfig(**_BART_SIZES)
        case "marian":
            return MarianConfig(**_BART_SIZES)
        case "pegasus":
            return PegasusConfig(**_BART_SIZES)
        case "m2m100":
            return M2M100Config(**_BART_SIZES)
        case _:
            raise ValueError(architecture)


ARCHITECTURES = ("t5", "t5 gated", "bart", "mbart", "marian", "pegasus", "m2m100")


def tiny_seq2seq(architecture: str = "t5", seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForSeq2SeqLM.from_config(_config(architecture), dtype=dtype).eval()


def wrap_seq2seq(
    base: PreTrainedModel,
    cycles: Sequence[Sequence[Sequence[int]]] = AXES["d2"],
    general_ids: Sequence[int] = (),
    relaxed: bool = False,
) -> EquiLMForSeq2SeqLM:
    """An EquiLM around ``base`` with these lists of token ids."""
    config = cast(Any, EquiLMSeq2SeqConfig)(
        text_config=base.config.to_dict(),
        attn_implementation=base.config._attn_implementation,
        cycles=[[list(ids) for ids in lists] for lists in cycles],
        general_ids=list(general_ids),
        relaxed=relaxed,
    )
    return EquiLMForSeq2SeqLM(config, base).eval()
