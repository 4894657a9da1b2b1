"""What the general rules of `tiny_configs` get wrong, by architecture."""

from typing import Any

_HYBRID = {"num_hidden_layers": 2, "attn_layer_indices": [1]}
_LOCAL_BYTES = {"hidden_size_global": 32, "vocab_size": 61, "num_key_value_heads": 4, "head_dim": 8}
_GEMMA3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "intermediate_size": 48,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
}

_ZAMBA = {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4}
_INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8}
_QWEN4 = {**_INDEXER, "indexer_budget": 8, "indexer_compress_ratio": 2, "hc_lowrank": 8}
_DOTS3 = {"num_key_value_heads": 4, "head_dim": 16}
_GRANITE_SPEECH = {
    "encoder_config": {"hidden_dim": 32, "num_heads": 4, "dim_head": 8, "feedforward_mult": 1, "input_dim": 8},
    "projector_config": {"encoder_hidden_size": 32},
}
_TOWER = {"num_filters": 4, "downsampling_ratios": [2], "depths": [1, 1]}

# "needed" names the fields without which there is no default configuration.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": _HYBRID,
    "blt": {
        "encoder_hash_byte_group_vocab": 31,
        "num_hidden_layers": 2,
        "encoder_config": _LOCAL_BYTES,
        "decoder_config": _LOCAL_BYTES,
        "global_config": {"num_key_value_heads": 4, "head_dim": 8},
        "patcher_config": {"num_key_value_heads": 4, "vocab_size": 61},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dots3_note_text": _DOTS3,
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": 32, "adapter_input_size": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_in_dim": 32, "adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "gemma3n_text": _GEMMA3N,
    "gemma3n": {"text_config": _GEMMA3N},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "gemma4_assistant": {"needed": ("text_config",), "text_config": {}},
    "granite_speech": _GRANITE_SPEECH,
    "granite_speech_plus": _GRANITE_SPEECH,
    "hrm_text": {"num_hidden_layers": 16},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    # Fewer logits than token ids, as the released one has: no logits for the padding of the vocabulary.
    "inkling2_loop_text": {"unpadded_vocab_size": 60},
    "inkling2_text": {"unpadded_vocab_size": 60},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ministral": {"head_dim": 8},
    "ministral3": {
        "rope_parameters": {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16, "mscale_all_dim": 1.0}
    },
    "nemo_speechlm": {
        "audio_config": {"diarization_config": {"head_config": {"audio_hidden_size": 32}}},
        "word_timestamp_config": {"blank_token_id": 60},
    },
    "nemotron": {"num_key_value_heads": 2},
    "qwen3_asr": {"audio_config": {"downsample_hidden_size": 8}},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [8, 24],
        "num_buckets": 2,
        "hash_seed": 0,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 61,
        "shape_vocab_size": 61,
        "pronunciation_embed_dim": 16,
        "shape_embed_dim": 16,
    },
    "vibevoice_asr": {"acoustic_tokenizer_encoder_config": _TOWER, "semantic_tokenizer_encoder_config": _TOWER},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_ZAMBA, "attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 2},
    "zamba2": {**_ZAMBA, "attention_hidden_size": 64, "attention_head_dim": 16, "hybrid_layer_ids": [1, 3]},
    "zaya": {"num_experts_per_tok": 1},
}
