"""Tiny random models that see pictures, and inputs for them as their processors would make them."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from models import BOS, PAD, SIZES, VOCAB
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

IMAGE_TEXT = ("gemma3", "qwen3_5", "llava", "idefics3", "smolvlm", "paligemma", "llama4", "mllama")
PICTURE = -1  # stands in a text where a picture is
IMAGE_TOKEN, BEFORE_IMAGE, AFTER_IMAGE, VIDEO_TOKEN = 50, 51, 52, 53
SIDE, PATCH = 32, 8  # of a picture and its patches, in pixels
_FEATURES = 4  # tokens of a picture, besides those around it; 16 for those that keep every patch, one for mllama

# From texts, with PICTURE where a picture is, and the pictures in reading order, (n, 3, SIDE, SIDE).
InputBuilder = Callable[[Sequence[Sequence[int]], Tensor], dict[str, Tensor]]

_TEXT: dict[str, Any] = dict(SIZES)
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def tiny_image_text(name: str) -> tuple[PreTrainedModel, InputBuilder]:
    """A tiny random model of one of `IMAGE_TEXT` in evaluation mode, and what makes its inputs.

    The inputs are padded on the left and hold input_ids, attention_mask and whatever the architecture takes besides:
    pixel_values by picture, by text or as patches, grids, kinds of tokens, masks.
    """
    config = _config(name)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=0.3)  # peaked distributions, so that an error would show
            elif name == "mllama" and parameter.shape == (1,):
                parameter.fill_(1.0)  # its gates begin closed, and no picture would be seen
    model.generation_config.pad_token_id, model.generation_config.bos_token_id = PAD, BOS
    model.generation_config.eos_token_id = None
    # Random weights would write picture tokens, for which there are no pictures.
    model.generation_config.suppress_tokens = [IMAGE_TOKEN, VIDEO_TOKEN]

    def inputs(texts: Sequence[Sequence[int]], pictures: Tensor) -> dict[str, Tensor]:
        counts = [list(text).count(PICTURE) for text in texts]
        assert sum(counts) == len(pictures), "as many pictures as the texts have places for"
        tokens = [[token for entry in text for token in _expanded(name, entry)] for text in texts]
        length = max(map(len, tokens))
        ids = torch.tensor([[PAD] * (length - len(row)) + row for row in tokens])
        found = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
        if name in ("gemma3", "qwen3_5"):
            kinds = (ids == IMAGE_TOKEN).long()
            found["token_type_ids" if name == "gemma3" else "mm_token_type_ids"] = kinds
        if name == "paligemma":
            found["token_type_ids"] = torch.zeros_like(ids)  # all is prefix: attention looks both ways
        if len(pictures):
            found |= _picture_arguments(name, ids, counts, pictures)
        return found

    return model, inputs


def random_pictures(count: int, seed: int = 0) -> Tensor:
    """Noise of shape ``(count, 3, SIDE, SIDE)``."""
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def _expanded(name: str, entry: int) -> list[int]:
    """The tokens of a picture, or the token itself."""
    if entry != PICTURE:
        return [entry]
    match name:
        case "mllama":
            return [VOCAB]  # as released: a token id beyond the logits
        case "llava" | "paligemma":
            return [IMAGE_TOKEN] * (SIDE // PATCH) ** 2
        case _:
            return [BEFORE_IMAGE, *[IMAGE_TOKEN] * _FEATURES, AFTER_IMAGE]


def _picture_arguments(name: str, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> dict[str, Tensor]:
    """What the model takes besides the texts."""
    if name == "qwen3_5":  # patches of 2 frames, 2 × 2 of which become one token
        side = SIDE // PATCH
        frames = pictures[:, None].repeat(1, 2, 1, 1, 1)
        cut = frames.view(-1, 2, 3, side // 2, 2, PATCH, side // 2, 2, PATCH)
        patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(len(pictures) * side**2, -1)
        return {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, side, side]] * len(pictures))}
    if name not in ("idefics3", "smolvlm", "mllama"):
        return {"pixel_values": pictures}
    by_text = pictures.new_zeros(len(counts), max(counts), *pictures.shape[1:])
    for row, own in enumerate(pictures.split(list(counts))):
        by_text[row, : len(own)] = own
    if name != "mllama":
        return {"pixel_values": by_text, "pixel_attention_mask": torch.ones_like(by_text[:, :, 0], dtype=torch.bool)}
    there = torch.tensor([[number < count for number in range(max(counts))] for count in counts]).long()
    # A token sees the picture before it, and all before that with none between.
    seen = torch.zeros(*ids.shape, max(counts), 1, dtype=torch.long)
    for row in range(len(ids)):
        places = (ids[row] == VOCAB).nonzero().flatten().tolist()
        for number, place in enumerate(places):
            seen[row, place : places[number + 1] if number + 1 < len(places) else None, number] = 1
    tiles = by_text[:, :, None]
    return {
        "pixel_values": tiles,
        "aspect_ratio_ids": there,
        "aspect_ratio_mask": torch.ones(*there.shape, 1, dtype=torch.long),
        "cross_attention_mask": seen,
    }


def _config(name: str) -> PreTrainedConfig:
    text, vision = dict(_TEXT), dict(_VISION)
    image = {"image_token_id": IMAGE_TOKEN}
    indexed = {"image_token_index": IMAGE_TOKEN}
    layers = ["sliding_attention", "full_attention"]
    more: dict[str, Any]
    match name:
        case "gemma3":
            text |= {"layer_types": layers, "sliding_window": 6, "query_pre_attn_scalar": 8}
            more = {**indexed, "mm_tokens_per_image": _FEATURES, "boi_token_index": 51, "eoi_token_index": 52}
        case "qwen3_5":
            text |= {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2}
            text |= {"linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
            text["rope_parameters"] = {
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 1.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            }
            vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
            vision |= {"patch_size": PATCH, "num_position_embeddings": 16}
            more = {**image, "video_token_id": VIDEO_TOKEN, "vision_start_token_id": 51, "vision_end_token_id": 52}
        case "llava":
            text["model_type"], vision["model_type"] = "llama", "clip_vision_model"
            more = {**indexed, "image_seq_length": 16}
        case "idefics3" | "smolvlm":
            text["model_type"] = "llama"
            more = {**image, "scale_factor": 2, "pad_token_id": PAD}
        case "paligemma":
            text["model_type"], vision["model_type"] = "gemma", "siglip_vision_model"
            vision |= {"projection_dim": 32, "vision_use_head": False}
            more = {**indexed, "projection_dim": 32, "hidden_size": 32}
        case "llama4":
            text |= {"intermediate_size_mlp": 48, "num_local_experts": 4, "moe_layers": [1]}
            text |= {"no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"]}
            text |= {"attention_chunk_size": 16}
            vision |= {"intermediate_size": 128, "projector_input_dim": 32, "projector_output_dim": 32}
            vision |= {"vision_output_dim": 32}
            more = {**indexed, "boi_token_index": 51, "eoi_token_index": 52}
        case "mllama":
            del text["head_dim"]
            text |= {"cross_attention_layers": [1], "num_hidden_layers": 3}
            vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1}
            vision |= {"attention_heads": 4, "image_size": SIDE, "patch_size": PATCH, "max_num_tiles": 1}
            vision |= {"intermediate_layers_indices": [0, 1], "supported_aspect_ratios": [[1, 1]]}
            vision |= {"vision_output_dim": 96}
            more = {"image_token_index": VOCAB}
        case _:
            raise ValueError(name)
    config: Any = CONFIG_MAPPING[name]
    return cast(PreTrainedConfig, config(text_config=text, vision_config=vision, **more))
