"""Tiny random models whose caches or configurations are unlike those of `models`."""

from typing import Any

import torch
from models import SPECIAL, VOCAB
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    FuyuConfig,
    Gemma3Config,
    JambaConfig,
    LlavaConfig,
    Mamba2Config,
    MambaConfig,
    MiniMaxConfig,
    MixtralConfig,
    ModernBertDecoderConfig,
    OpenAIGPTConfig,
    PaliGemmaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ReformerConfig,
    RobertaConfig,
    RwkvConfig,
    XLNetConfig,
    xLSTMConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    **SPECIAL,
}
_RECURRENT: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, **SPECIAL}
_LLAMA: dict[str, Any] = {"model_type": "llama", **_SIZES}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
# Parameters that are no weights of a linear map: rates of recurrences.
_RATES = ("A_log", "dt_bias", "time_")


def _config(name: str) -> PreTrainedConfig:
    match name:
        case "jamba":  # attention and states in one cache, which takes single tokens once it is filled
            states: dict[str, Any] = {"mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2}
            return JambaConfig(**_SIZES, **states, attn_layer_period=2, attn_layer_offset=1)
        case "openai-gpt":  # no cache at all
            return OpenAIGPTConfig(vocab_size=VOCAB, n_positions=128, n_embd=32, n_layer=2, n_head=4, **SPECIAL)
        case "mamba":
            return MambaConfig(**_RECURRENT, state_size=8, time_step_rank=4, expand=2)
        case "mamba2":
            heads: dict[str, Any] = {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
            return Mamba2Config(**_RECURRENT, state_size=8, expand=2, **heads)
        case "falcon_mamba":
            return FalconMambaConfig(**_RECURRENT, state_size=8, time_step_rank=4, expand=2)
        case "minimax":  # lightning attention, whose cache is a class of its own
            layers = ["linear_attention", "full_attention"]
            return MiniMaxConfig(
                **_SIZES, head_dim=8, layer_types=layers, block_size=8, num_local_experts=2, num_experts_per_tok=1
            )
        case "rwkv":  # a state that is no `Cache`
            return RwkvConfig(vocab_size=VOCAB, context_length=128, hidden_size=32, num_hidden_layers=2, **SPECIAL)
        case "xlstm":
            return xLSTMConfig(
                vocab_size=VOCAB,
                hidden_size=64,
                num_blocks=2,
                num_heads=4,
                chunk_size=8,
                embedding_dim=64,
                qk_dim_factor=1.0,
                **SPECIAL,
            )
        case "reformer":  # buckets, which are no `Cache`
            return ReformerConfig(
                vocab_size=VOCAB,
                hidden_size=32,
                attn_layers=["local", "local"],
                feed_forward_size=48,
                num_attention_heads=4,
                attention_head_size=8,
                axial_pos_embds=False,
                max_position_embeddings=128,
                local_attn_chunk_length=4,
                is_decoder=True,
                **SPECIAL,
            )
        case "xlnet":
            return XLNetConfig(vocab_size=VOCAB, d_model=32, n_layer=2, n_head=4, d_inner=48, **SPECIAL)
        case "roberta":  # numbers its positions by which tokens are padding
            sizes = {name: value for name, value in _SIZES.items() if name != "num_key_value_heads"}
            return RobertaConfig(**sizes, max_position_embeddings=130, is_decoder=True)
        case "modernbert-decoder":  # a head of two layers
            sizes = {name: value for name, value in _SIZES.items() if name != "num_key_value_heads"}
            return ModernBertDecoderConfig(**sizes, local_attention=8, cls_token_id=1, sep_token_id=2)
        case "mixtral":  # a loss for its routers
            return MixtralConfig(**_SIZES, num_local_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.5)
        case "gemma3":
            text = {"model_type": "gemma3_text", **_SIZES, "head_dim": 8, "sliding_window": 8}
            return Gemma3Config(text_config=text, vision_config=_VISION, mm_tokens_per_image=4)
        case "fuyu":
            sizes = {**_SIZES, "model_type": "persimmon", "max_position_embeddings": 128}
            return FuyuConfig(**{**_SIZES, "max_position_embeddings": 128}, text_config=sizes, patch_size=4)
        case "llava":
            vision = {"model_type": "clip_vision_model", **_VISION, "num_hidden_layers": 2}
            return LlavaConfig(text_config=_LLAMA, vision_config=vision, image_token_index=60)
        case "paligemma":
            text = {**_SIZES, "model_type": "gemma", "head_dim": 8}
            vision = {"model_type": "siglip_vision_model", **_VISION}
            return PaliGemmaConfig(text_config=text, vision_config=vision, image_token_index=60, projection_dim=32)
        case _:
            raise ValueError(name)


def cache_model(name: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random model in evaluation mode, its weights large enough that an error shows.

    Args:
        name: the model type.
        seed: of the weights.
        settings: what is otherwise in its configuration.
    """
    torch.manual_seed(seed)
    config = _config(name)
    for key, value in settings.items():
        setattr(config, key, value)
    auto: Any = AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        base_class: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
        model = base_class(config)
    else:
        model = auto.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and not any(rate in parameter_name for rate in _RATES):
                nn.init.normal_(parameter, std=0.3)
    settings_of = model.generation_config
    settings_of.pad_token_id, settings_of.bos_token_id, settings_of.eos_token_id = 0, 1, None
    return model.eval()
