"""What the general rules of `tiny_configs` get wrong for models that see pictures, by architecture."""

from typing import Any

_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4}
_MROPE: dict[str, Any] = {**_ROPE, "mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}
_PLAIN_MROPE: dict[str, Any] = {**_ROPE, "mrope_section": [2, 1, 1]}
_THREE_AXES: dict[str, Any] = {"text_config": {"rope_parameters": _MROPE}}
_OMNI: dict[str, Any] = {**_THREE_AXES, "vision_start_token_id": 51}
_UNPADDED: dict[str, Any] = {"text_config": {"unpadded_vocab_size": 61}}
_MINICPM: dict[str, Any] = {
    "image_token_id": 50,
    "video_token_id": 53,
    "insert_layer_id": 0,
    "vision_config": {"insert_layer_id": 0},
}
_TILES: dict[str, Any] = {"image_grid_pinpoints": [[32, 32]]}

PICTURE_OVERRIDES: dict[str, dict[str, Any]] = {
    "apertus1p5": {
        "image_token_offset": 40,
        "audio_token_offset": 48,
        "vision_config": {
            "codebook_size": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "spatial_scale_factor": 8,
            "resolution": 32,
            "attn_resolutions": [],
            "num_res_blocks": 1,
            "latent_channels": 32,
        },
        "audio_config": {"codebook_dim": 32, "codebook_size": 2},
    },
    "aria": {"projector_patch_to_query_dict": {16: 4}},
    "chameleon": {
        "image_token_id": 50,
        "vocabulary_map": {"<image>": 50, **{f"IMGIMG{chr(65 + i)}Z": 40 + i for i in range(8)}},
        "vq_config": {
            "num_embeddings": 8,
            "base_channels": 32,
            "latent_channels": 32,
            "resolution": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
        },
    },
    "cohere_compass": {
        "text_config": {"rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), _PLAIN_MROPE)}
    },
    "blip-2": {"image_token_index": 50},
    "instructblip": {"image_token_index": 50},
    "instructblipvideo": {"video_token_index": 50},
    "deepseek_ocr2": {
        "text_config": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
        "vision_config": {"sam_config": {"output_channels": 32, "downsample_channels": [32, 32]}},
    },
    "unlimited_ocr": {"vision_config": {"sam_config": {"output_channels": 32, "downsample_channels": [32, 32]}}},
    "deepseek_vl_hybrid": {
        "high_res_vision_config": {"image_size": 64, "output_channels": 8, "global_attn_indexes": [0]}
    },
    "emu3": {
        "image_token_id": 50,
        "vocabulary_map": {
            "<image>": 50,
            "<|extra_200|>": 49,
            **{f"<|visual token {i:06d}|>": 40 + i for i in range(8)},
        },
        "vq_config": {
            "codebook_size": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "hidden_size": 32,
            "attn_resolutions": [],
        },
    },
    "ernie4_5_vl_moe": {
        "text_config": {"moe_intermediate_size": [24, 24], "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}}
    },
    "gemma4": {"needed": ("vision_config",), "vision_config": {"pooling_kernel_size": 2}},
    "gemma4_unified": {
        "needed": ("vision_config",),
        "vision_config": {"pooling_kernel_size": 1, "mm_embed_dim": 32, "mm_posemb_size": 8, "output_proj_dims": 32},
    },
    **dict.fromkeys(("glm46v", "glm4v", "glm4v_moe", "glm_ocr", "glmga"), _THREE_AXES),
    **dict.fromkeys(("paddleocr_vl", "qwen2_vl", "qwen2_5_vl"), _THREE_AXES),
    **dict.fromkeys(("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"), _OMNI),
    "glm5_next": {"text_config": {"index_kpool": 4, "qk_rope_head_dim": 0, "rope_parameters": None}},
    "granite4_vision": {
        **_TILES,
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[-1, 0]],
        "spatial_target_layers": [0, 1],
        "vision_config": {"hidden_size": 64},  # its Q-Former has heads of 64
        "qformer_config": {"cross_attention_frequency": 1},
    },
    "hunyuan_vl": {"text_config": {"rope_parameters": _PLAIN_MROPE, "head_dim": 8}},
    **dict.fromkeys(("inkling2", "inkling2_loop"), _UNPADDED),
    "kosmos-2.5": {"vision_config": {"patch_embed_hidden_size": 192}},
    "pix2struct": {"vision_config": {"patch_embed_hidden_size": 192, "seq_len": 16}},
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision"), _TILES),
    "llama4": {"vision_config": {"intermediate_size": 128, "vision_output_dim": 32}},
    "mistral4": {
        "rope_parameters": {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16, "mscale_all_dim": 1.0}
    },
    "mistral_large4": {"text_config": {"kv_source_layers": None}},
    "mllama": {
        "image_token_index": 61,
        "text_config": {"cross_attention_layers": [1], "num_hidden_layers": 3},
        "vision_config": {
            "num_global_layers": 1,
            "max_num_tiles": 1,
            "intermediate_layers_indices": [0, 1],
            "supported_aspect_ratios": [[1, 1]],
            "vision_output_dim": 96,
        },
    },
    "molmo2": {"vision_config": {"image_size": [32, 32]}, "adapter_config": {"vision_feature_layer": [-1, -2]}},
    "muse_glimmer": {"out_hidden_size": 128},
    "muse_spark": {
        "out_hidden_size": 128,
        "audio_config": {"num_hidden_layers": 1, "patch_sizes": [4], "hidden_sizes": [32], "depths": [1]},
    },
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7"), _MINICPM),
    "nemotron_h_omni": {"vision_hidden_size": 32, "image_token_id": 50, "video_token_id": 53},
    "pp_formulanet": {
        "vision_config": {
            "post_conv_in_channels": 32,
            "post_conv_mid_channels": 32,
            "post_conv_out_channels": 32,
            "decoder_hidden_size": 32,
        }
    },
    "step3p7": {"text_config": {"sliding_window": 8}},
    "vipllava": {"vision_feature_layer": [-2, -1]},
}
