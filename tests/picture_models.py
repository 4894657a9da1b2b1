"""Tiny random models that see, and batches of texts with pictures for them: one text has two pictures, another one."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    Gemma3Config,
    Idefics3Config,
    LlavaConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
    SiglipVisionConfig,
)

KINDS = ("llava", "gemma3", "idefics3", "qwen2_5_vl", "qwen3_vl")
PAD, BOS, EOS, IMAGE, START, END, VIDEO = range(7)  # END is also Gemma's; WORDS follow
_STD = 0.4  # large weights make the distributions peaked, so that an error would show
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": _STD,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
_SPECIAL: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
_QWEN: dict[str, Any] = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
    **_SPECIAL,
}
# How many tokens stand for a picture: four patches of four pixels, but for models that merge them.
_TOKENS = {"llava": 4, "gemma3": 1, "idefics3": 1, "qwen2_5_vl": 4, "qwen3_vl": 4}


def _config(kind: str, vocab_size: int) -> Any:
    text: dict[str, Any] = {**_TEXT, "vocab_size": vocab_size}
    vision: dict[str, Any]
    sizes: dict[str, Any]
    match kind:
        case "llava":
            vision = CLIPVisionConfig(**_VISION).to_dict()
            return LlavaConfig(
                vision_config=vision, text_config={**text, "model_type": "llama"}, image_token_index=IMAGE, **_SPECIAL
            )
        case "gemma3":
            # Untied, since with one matrix for both a random Gemma only says its last word again.
            text |= {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
            text |= {"tie_word_embeddings": False}
            vision = SiglipVisionConfig(**_VISION).to_dict()
            tokens: dict[str, Any] = {"image_token_index": IMAGE, "boi_token_index": START, "eoi_token_index": END}
            return Gemma3Config(
                vision_config=vision,
                text_config=text,
                mm_tokens_per_image=1,
                tie_word_embeddings=False,
                **tokens,
                **_SPECIAL,
            )
        case "idefics3":
            text |= {"model_type": "llama"}
            return Idefics3Config(
                vision_config=_VISION, text_config=text, image_token_id=IMAGE, scale_factor=2, **_SPECIAL
            )
        case "qwen2_5_vl":
            text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
            vision = {"depth": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "out_hidden_size": 32}
            sizes = {"patch_size": 4, "spatial_merge_size": 1, "temporal_patch_size": 2, "window_size": 8}
            blocks = {"fullatt_block_indexes": [1]}
            return Qwen2_5_VLConfig(text_config=text, vision_config={**vision, **sizes, **blocks}, **_QWEN)
        case "qwen3_vl":
            text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
            vision = {"depth": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "out_hidden_size": 32}
            sizes = {"patch_size": 4, "spatial_merge_size": 1, "temporal_patch_size": 2}
            more = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
            return Qwen3VLConfig(text_config=text, vision_config={**vision, **sizes, **more}, **_QWEN)
        case _:
            raise ValueError(kind)


def picture_model(kind: str, vocab_size: int = 31, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model in evaluation mode."""
    torch.manual_seed(0)
    config = _config(kind, vocab_size)
    model: PreTrainedModel = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    for weights in model.parameters():
        if weights.ndim > 1 and float(weights.detach().std()) < _STD / 2:  # as some vision towers and projectors begin
            torch.nn.init.normal_(weights, std=_STD)
    return model.eval()


def text_with_pictures(kind: str, words: list[int], places: list[int]) -> list[int]:
    """The ids of a text with a picture before each of these words."""
    ids: list[int] = []
    for place, word in enumerate(words):
        if place in places:
            ids += [START, *[IMAGE] * _TOKENS[kind], END]
        ids.append(word)
    return ids


def batch(kind: str, texts: list[list[int]], pictures: Tensor) -> dict[str, Any]:
    """What a processor would make of texts and their pictures.

    Args:
        kind: the kind of model.
        texts: ids from `text_with_pictures`; shorter ones are padded on the left.
        pictures: the pictures of all texts, in order, of shape ``(pictures, 3, 8, 8)``.
    """
    width = max(map(len, texts))
    ids = torch.tensor([[PAD] * (width - len(text)) + text for text in texts])
    found: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    match kind:
        case "idefics3":  # by text, with empty ones for texts that have fewer
            counts = [text.count(IMAGE) for text in texts]
            values = pictures.new_zeros(len(texts), max(counts), 3, 8, 8)
            rest = list(pictures)
            for row, count in enumerate(counts):
                values[row, :count] = torch.stack(rest[:count])
                del rest[:count]
            found["pixel_values"] = values
        case "qwen2_5_vl" | "qwen3_vl":  # by patch
            patches = pictures.view(-1, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5)  # (pictures, rows, columns, 3, 4, 4)
            patches = patches[:, :, :, :, None].expand(-1, -1, -1, -1, 2, -1, -1)  # each frame twice
            found["pixel_values"] = patches.reshape(len(pictures) * 4, -1)
            found["image_grid_thw"] = torch.tensor([[1, 2, 2]] * len(pictures))
            found["mm_token_type_ids"] = (ids == IMAGE).long()
        case _:  # by picture
            found["pixel_values"] = pictures
            if kind == "gemma3":
                found["token_type_ids"] = (ids == IMAGE).long()
    return found


def random_pictures(count: int, seed: int = 0) -> Tensor:
    """Random pictures of shape ``(count, 3, 8, 8)``."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
