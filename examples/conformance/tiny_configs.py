"""A tiny configuration of any architecture of transformers: its default one, with every size made small."""

import copy
from typing import Any

from overrides import OVERRIDES
from picture_overrides import PICTURE_OVERRIDES
from transformers import CONFIG_MAPPING, PreTrainedConfig

VOCAB = 61  # prime, so that no reshape works by accident
PAD, BOS, EOS = 0, 1, 2

# What a field becomes wherever a default configuration has it. A hidden size of 32 is 4 heads of 8.
_SIZES: dict[str, int] = {
    # vocabulary and length
    **dict.fromkeys(("vocab_size", "src_vocab_size", "tgt_vocab_size", "vocab_size_per_layer_input"), VOCAB),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 128),
    **dict.fromkeys(("max_encoder_position_embeddings", "max_decoder_position_embeddings"), 128),
    **dict.fromkeys(("context_length", "max_target_positions", "max_source_positions"), 128),
    # widths
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "word_embed_proj_dim", "lru_width"), 32),
    **dict.fromkeys(("attention_hidden_size", "embedding_size", "input_embedding_size", "output_embedding_size"), 32),
    **dict.fromkeys(("embedding_dim", "backbone_hidden_size", "output_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "dff", "d_inner", "ffn_hidden_size"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "dim_ff", "feed_forward_size", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("shared_experts_intermediate_size", "dense_intermediate_size"), 24),
    # layers
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers", "encoder_layers", "num_layers_per_stack"), 2),
    # heads
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "linear_num_heads", "num_query_groups"), 4),
    **dict.fromkeys(
        ("num_key_value_heads", "num_kv_heads", "num_global_key_value_heads", "swa_num_key_value_heads"), 2
    ),
    **dict.fromkeys(("swa_num_attention_heads",), 4),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "dim_head", "attention_head_size", "kv_channels"), 8),
    **dict.fromkeys(("global_head_dim", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "swa_head_dim"), 8),
    **dict.fromkeys(("swa_v_head_dim", "attention_head_dim", "linear_head_dim"), 8),
    "qk_head_dim": 16,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("rotary_dim", "adapter_rank", "laurel_rank", "gated_norm_rank", "hidden_size_per_layer_input"), 4),
    # experts
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("moe_num_shared_experts", "zero_expert_num", "first_k_dense_replace"), 1),
    # recurrences: an inner width of 2·32 is 8 heads of 8
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "mamba_head_dim", "mamba_d_head"), 8),
    **dict.fromkeys(("mamba_headdim",), 8),
    **dict.fromkeys(("mamba_n_groups", "mamba_ngroups", "n_groups"), 1),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), 8),
    "mamba_d_ssm": 64,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    # windows, shorter than the longest of the prompts
    **dict.fromkeys(("sliding_window", "attention_window_size", "local_attention", "keep_window_size"), 8),
    **dict.fromkeys(("attention_chunk_size", "window_size", "attention_window"), 8),
    # sparse attention
    **dict.fromkeys(("index_head_dim", "index_topk"), 8),
    "index_n_heads": 4,
    # vision and audio towers, which text never reaches
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("patch_size",), 16),
    **dict.fromkeys(("depth", "num_mel_bins"), 8),
}
# What sees pictures: those of 32 × 32 pixels become 4 × 4 patches, where four patches become one token 2 × 2 of these.
IMAGE, BEFORE_IMAGE, AFTER_IMAGE, VIDEO, AUDIO, NEWLINE, LAST_SPECIAL = 50, 51, 52, 53, 54, 55, 57
SIDE, PATCH = 32, 8
_PICTURE_SIZES: dict[str, Any] = {
    **dict.fromkeys(("image_token_id", "image_token_index", "image_patch_id"), IMAGE),
    **dict.fromkeys(("boi_token_id", "boi_token_index", "vision_start_token_id", "image_start_token_id"), BEFORE_IMAGE),
    **dict.fromkeys(("eoi_token_id", "eoi_token_index", "vision_end_token_id", "image_end_token_id"), AFTER_IMAGE),
    **dict.fromkeys(("im_start_id", "image_start_id", "image_bos_token_id", "slice_start_id"), BEFORE_IMAGE),
    **dict.fromkeys(("im_end_id", "image_end_id", "slice_end_id"), AFTER_IMAGE),
    **dict.fromkeys(("im_newline_id", "newline_id"), NEWLINE),
    **dict.fromkeys(("video_token_id", "video_token_index"), VIDEO),
    **dict.fromkeys(("video_start_token_id", "frame_start_token_id", "low_res_image_start_token_id"), 56),
    **dict.fromkeys(("video_end_token_id", "frame_end_token_id"), 57),
    **dict.fromkeys(("audio_token_id", "audio_token_index"), AUDIO),
    "patch_size": PATCH,
    "depth": 2,
    **dict.fromkeys(("num_position_embeddings", "num_patches", "mm_tokens_per_image"), (SIDE // PATCH) ** 2),
    **dict.fromkeys(("out_hidden_size", "projection_dim", "projector_hidden_size", "text_hidden_size"), 32),
    **dict.fromkeys(("embed_dim", "alignment_intermediate_size", "projection_hidden_size"), 32),
    **dict.fromkeys(
        ("image_text_hidden_size", "projector_output_dim", "projector_input_dim", "encoder_hidden_size"), 32
    ),
    **dict.fromkeys(("num_query_tokens", "latent_query_num", "resampler_n_latents"), 4),
    "resampler_depth": 2,
    "resampler_head_dim": 8,
    "resampler_n_heads": 4,
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [1],
    "global_attn_indexes": [1],
    "window_size": 16,
    **dict.fromkeys(("output_channels", "mlp_dim"), 32),
    **dict.fromkeys(("pos_emb_height", "pos_emb_width", "posemb_grid_size"), 4),
}
_LAYER_LISTS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types")


def tiny_config(name: str, mapping: str) -> PreTrainedConfig:
    """The tiny configuration of an entry of transformers' auto mappings.

    Args:
        name: the model type, such as "llama".
        mapping: "causal" or "seq2seq"; in the first an encoder, such as BERT, is made a decoder.
    """
    override = copy.deepcopy(OVERRIDES.get(name, {}))
    if mapping == "image_text":
        _merge(override, PICTURE_OVERRIDES.get(name, {}))
    start = {field: override[field] for field in override.get("needed", ())}  # what the default lacks
    default = CONFIG_MAPPING[name](**start)
    changes = _shrunk(default, {**_SIZES, **_PICTURE_SIZES} if mapping == "image_text" else _SIZES)
    if mapping == "causal" and "is_decoder" in vars(default):
        changes["is_decoder"] = True
    _merge(changes, {field: value for field, value in override.items() if field != "needed"})
    return CONFIG_MAPPING[name](**changes)


def _shrunk(config: PreTrainedConfig, sizes: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that change, and those of the configurations in it."""
    changes: dict[str, Any] = {}
    for field, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            changes[field] = {**value.to_dict(), **_shrunk(value, sizes)}
        elif field in sizes and isinstance(value, int | float | list) and not isinstance(value, bool):
            changes[field] = sizes[field]
        elif isinstance(value, float) and any(word in field for word in ("dropout", "pdrop", "layerdrop")):
            changes[field] = 0.0
    if "kv_lora_rank" in changes and "num_key_value_heads" in changes:
        changes["num_key_value_heads"] = changes["num_attention_heads"]  # latent attention has one for each
    if "per_layer_config" in config.to_dict():
        changes["per_layer_config"] = {}
    return changes | _layers(config) | _rope(config) | _tokens(config)


def _layers(config: PreTrainedConfig) -> dict[str, Any]:
    """Layers of every kind that the default configuration has, at least two."""
    kinds = {name: list(dict.fromkeys(value)) for name in _LAYER_LISTS if (value := vars(config).get(name))}
    if not kinds:
        return {}
    count = max(2, *map(len, kinds.values()))
    lists = {name: [values[i % len(values)] for i in range(count)] for name, values in kinds.items()}
    return {**lists, **({"num_hidden_layers": count} if "num_hidden_layers" in vars(config) else {})}


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    """Ordinary rotary positions: what is for one length or head size alone is left out."""
    rope = vars(config).get("rope_parameters")
    if not isinstance(rope, dict):
        return {}

    def ordinary(parameters: dict[str, Any]) -> dict[str, Any]:
        kept = {"rope_type": "default", "rope_theta": parameters.get("rope_theta", 1e4)}
        if "partial_rotary_factor" in parameters:
            kept["partial_rotary_factor"] = max(0.5, parameters["partial_rotary_factor"])
        if "mrope_section" in parameters:
            kept["mrope_section"] = [2, 1, 1]
        if "mrope_interleaved" in parameters:
            kept["mrope_interleaved"] = parameters["mrope_interleaved"]
        return kept

    nested = any(isinstance(value, dict) for value in rope.values())
    if nested:
        return {"rope_parameters": {k: ordinary(v) if isinstance(v, dict) else v for k, v in rope.items()}}
    return {"rope_parameters": ordinary(rope)}


def _tokens(config: PreTrainedConfig) -> dict[str, Any]:
    """Special tokens of the small vocabulary; those that stand for images and sounds lie beyond it."""
    small = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
    found: dict[str, int | None] = {field: value for field, value in small.items() if field in vars(config)}
    for field in ("forced_eos_token_id", "forced_bos_token_id", "begin_suppress_tokens", "suppress_tokens"):
        if field in vars(config):
            found[field] = None
    return found


def _merge(changes: dict[str, Any], more: dict[str, Any]) -> None:
    for field, value in more.items():
        if isinstance(value, dict) and isinstance(changes.get(field), dict):
            _merge(changes[field], value)
        else:
            changes[field] = value
