"""Tiny random models of many architectures, and the axes they are wrapped with."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from equilm import EquiLMConfig, EquiLMForCausalLM

VOCAB = 61  # prime, so that no reshape works by accident
PAD, BOS, EOS = 0, 1, 2
SPECIAL: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    # Large weights make the distributions peaked, so that an error would show.
    "initializer_range": 0.4,
    **SPECIAL,
}


def _config(architecture: str) -> PreTrainedConfig:
    match architecture:
        case "gpt2":
            sizes: dict[str, Any] = {
                "n_embd": 32,
                "n_layer": 2,
                "n_head": 4,
                "n_positions": 256,
                "initializer_range": 0.4,
            }
            return GPT2Config(vocab_size=VOCAB, **sizes, **SPECIAL)
        case "llama":
            return LlamaConfig(**SIZES)
        case "qwen2":
            return Qwen2Config(**SIZES)
        case "qwen3":
            return Qwen3Config(**SIZES)
        case "gemma2":
            return Gemma2Config(**SIZES, sliding_window=5, layer_types=["sliding_attention", "full_attention"])
        case "gemma3":
            return Gemma3TextConfig(**SIZES, sliding_window=5, layer_types=["sliding_attention", "full_attention"])
        case "mistral":
            return MistralConfig(**SIZES, sliding_window=5)
        case "opt":
            sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2}
            heads: dict[str, Any] = {"num_attention_heads": 4, "max_position_embeddings": 256, "init_std": 0.4}
            return OPTConfig(vocab_size=VOCAB, **sizes, **heads, **SPECIAL)
        case "lfm2":  # a hybrid of short convolutions, whose cache holds states, and attention
            layers = ["conv", "full_attention"]
            return Lfm2Config(**{**SIZES, "block_auto_adjust_ff_dim": False}, layer_types=layers, conv_L_cache=3)
        case _:
            raise ValueError(architecture)


ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "opt", "lfm2")

# Lists of token ids, one list of lists for each axis: orders 2, 3 and 4, and a product of orders 2 and 3.
AXES: dict[str, list[list[list[int]]]] = {
    "d2": [[[10, 11], [12, 13], [14, 15]]],
    "d3": [[[10, 11, 12], [13, 14, 15]]],
    "d4": [[[10, 11, 12, 13], [14, 15, 16, 17]]],
    "2x3": [[[10, 11], [12, 13]], [[20, 21, 22], [23, 24, 25]]],
}


def tiny_model(architecture: str = "gpt2", seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(_config(architecture), dtype=dtype).eval()


def wrap(
    base: PreTrainedModel,
    cycles: Sequence[Sequence[Sequence[int]]] = AXES["d2"],
    general_ids: Sequence[int] = (),
    relaxed: bool = False,
) -> EquiLMForCausalLM:
    """An EquiLM around ``base`` with these lists of token ids."""
    config = cast(Any, EquiLMConfig)(
        text_config=base.config.to_dict(),
        attn_implementation=base.config._attn_implementation,
        cycles=[[list(ids) for ids in lists] for lists in cycles],
        general_ids=list(general_ids),
        relaxed=relaxed,
    )
    return EquiLMForCausalLM(config, base).eval()


def stabilizer(model: EquiLMForCausalLM, ids: torch.Tensor) -> list[int]:
    """The elements that leave the one-row prompt ``ids`` as it is."""
    return [g for g in model.group.elements if torch.equal(model.action.act(ids, g), ids)]


def related(model: EquiLMForCausalLM, prompt: torch.Tensor, text: torch.Tensor, image: torch.Tensor, g: int) -> bool:
    """Whether ``image`` is ``g·s·text`` for some s that fixes the prompt: what one seed promises."""
    action = model.action
    return any(torch.equal(action.act(action.act(text, s), g), image) for s in stabilizer(model, prompt))


def random_ids(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Random token ids without special tokens, shape ``(batch, length)``; about a third are equality words."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB, (batch, length), generator=generator)
    words = torch.randint(10, 18, (batch, length), generator=generator)
    return torch.where(torch.rand(batch, length, generator=generator) < 0.3, words, ids)


class CountRows:
    """Counts the rows that a model runs, and the most at once."""

    def __init__(self, model: PreTrainedModel):
        self.sizes: list[int] = []
        model.register_forward_pre_hook(
            lambda _, args, kwargs: self.sizes.append(len(kwargs["input_ids"])), with_kwargs=True
        )
