"""Inputs with pictures for any image-text architecture, as its processor would make them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tiny_configs import AFTER_IMAGE, BEFORE_IMAGE, BOS, IMAGE, PAD, PATCH, SIDE, VOCAB
from torch import Tensor

PICTURE = -1  # stands in a text where a picture is
Arguments = dict[str, Any]

# Text models that the mapping names.
NO_PICTURES = {"mistral4"}
# Encoder-decoders whose encoder reads pictures alone: the text is the decoder's.
DECODER_ONLY_TEXT = {"pix2struct", "pp_formulanet", "vision-encoder-decoder"}
# Architectures that read one picture for each text, in front of it.
ONE_PICTURE = {
    "blip",
    "blip-2",
    "git",
    "instructblip",
    "instructblipvideo",
    "paligemma",
    "kosmos-2",
    "kosmos-2.5",
    "fuyu",
    "udop",
    *DECODER_ONLY_TEXT,
}
# Those that read padding on the left otherwise than the text alone.
NO_PADDING = {"blip", "florence2", "git", "instructblip", "instructblipvideo", "kosmos-2", "udop", *DECODER_ONLY_TEXT}
# Those whose pictures have no tokens in the text.
NO_TOKENS = {"blip", "git", "pix2struct", "pp_formulanet", "udop", "vision-encoder-decoder", "idefics"}


def random_pictures(count: int, seed: int = 0) -> Tensor:
    """Noise of shape ``(count, 3, SIDE, SIDE)``."""
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def inputs(base: Any, name: str, texts: Sequence[Sequence[int]], pictures: Tensor) -> dict[str, Any]:
    """What a model of this type takes for these texts, padded on the left, and their pictures in reading order."""
    counts = [list(text).count(PICTURE) for text in texts]
    config, known = base.config, inspect.signature(base.forward).parameters
    arguments = picture_arguments(base, name, counts, pictures) if len(pictures) else {}
    tokens = picture_tokens(base, name, arguments, len(pictures)) if len(pictures) else []
    rows = [[t for entry in text for t in (tokens if entry == PICTURE else [entry])] for text in texts]
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    if name in DECODER_ONLY_TEXT:
        ids = torch.cat([torch.full((len(rows), 1), BOS), ids], 1)
        return {"decoder_input_ids": ids, "decoder_attention_mask": (ids != PAD).long(), **arguments}
    found: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    if config.is_encoder_decoder:
        found["decoder_input_ids"] = torch.tensor([[BOS, 11, 26, 12, 27]] * len(rows))
    marker = image_token(config)
    kinds = (ids == marker).long() if marker is not None else torch.zeros_like(ids)
    if name == "paligemma":
        found["token_type_ids"] = torch.zeros_like(ids)  # all is prefix: attention looks both ways
    elif "token_type_ids" in known:
        found["token_type_ids"] = kinds
    if "mm_token_type_ids" in known:
        found["mm_token_type_ids"] = kinds
    if "moe_mm_token_type_ids" in known:
        found["moe_mm_token_type_ids"] = kinds
    return found | _LATER.get(name, lambda *_: {})(base, ids, counts, pictures) | arguments


def image_token(config: Any) -> int | None:
    """The token that stands for a picture, or for a part of one."""
    return next(
        (value for field in ("image_token_id", "image_patch_id") if (value := getattr(config, field, None))), None
    )


def picture_tokens(base: Any, name: str, arguments: Arguments, count: int) -> list[int]:
    """The tokens of one of ``count`` pictures of one size."""
    if name in NO_TOKENS:
        return []
    if name == "mllama":
        return [VOCAB]
    if name in _FIXED:
        return _FIXED[name]
    owner = (
        base
        if hasattr(base, "get_image_features") and not hasattr(base.base_model, "get_image_features")
        else base.base_model
    )
    known = inspect.signature(owner.get_image_features).parameters
    with torch.no_grad():
        output = owner.get_image_features(**{k: v for k, v in arguments.items() if k in known}, return_dict=True)
    features = output.pooler_output
    if name == "granite4_vision":
        features = output.deepstack_features[0][1]  # features of a layer for each
    if name == "llama4":
        features = output.last_hidden_state
    lengths = (
        [f.shape[0] for f in features] if not isinstance(features, Tensor) or features.ndim == 3 else [len(features)]
    )
    if isinstance(features, Tensor) and features.ndim == 3:
        lengths = [features.shape[1]] * features.shape[0]
    number, rest = divmod(sum(lengths), count)
    assert rest == 0, lengths
    around = (
        name in ("gemma3", "gemma3n", "gemma4", "hunyuan_vl", "hy_v4_vl")
        or "vision_start_token_id" in vars(base.config)
        or "image_start_token_id" in vars(base.config)
    )
    run = [IMAGE] * number
    return [BEFORE_IMAGE, *run, AFTER_IMAGE] if around else run


def picture_arguments(base: Any, name: str, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """What a model takes besides the texts."""
    known = inspect.signature(base.forward).parameters
    if name in _RECIPES:
        return _RECIPES[name](base, counts, pictures)
    if "image_grid_thw" in known or "image_grid_hw" in known:
        return _patches(base, counts, pictures)
    if "pixel_attention_mask" in known:
        return _by_text(base, counts, pictures)
    found: Arguments = {"pixel_values": pictures}
    if "image_sizes" in known and name not in ("llava", "internvl", "qianfan_ocr", "aya_vision", "cohere2_vision"):
        found["image_sizes"] = torch.tensor([[SIDE, SIDE]] * len(pictures))
    return found


def _vision(base: Any) -> Any:
    return base.config.vision_config


def _patches(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Flat patches of all pictures, in blocks of those that become one token, and the grid of each picture."""
    vision, side = _vision(base), SIDE // PATCH
    frames = next(
        (getattr(vision, f) for f in ("temporal_patch_size", "patch_temporal") if getattr(vision, f, None)), 1
    )
    merge = 2
    if base.config.model_type == "nemotron_h_omni":
        frames, merge = 1, 1
    films = pictures[:, None].repeat(1, frames, 1, 1, 1)
    cut = films.view(-1, frames, 3, side // merge, merge, PATCH, side // merge, merge, PATCH)
    patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(len(pictures) * side**2, -1)
    if base.config.model_type in _SQUARE_PATCHES:
        patches = patches.view(-1, 3, *([frames] if frames > 1 else []), PATCH, PATCH)
    if "image_grid_hw" in inspect.signature(base.forward).parameters:
        return {"pixel_values": patches, "image_grid_hw": torch.tensor([[side, side]] * len(pictures))}
    found: Arguments = {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, side, side]] * len(pictures))}
    if "image_merge_sizes" in inspect.signature(base.forward).parameters:
        found["image_merge_sizes"] = torch.full((len(pictures),), 2)
    return found


def _padded(counts: Sequence[int], pictures: Tensor) -> Tensor:
    """The pictures by text, ``(B, most pictures, 3, SIDE, SIDE)``, where there are fewer zeros after them."""
    by_text = pictures.new_zeros(len(counts), max(counts), *pictures.shape[1:])
    for row, own in enumerate(pictures.split(list(counts))):
        by_text[row, : len(own)] = own
    return by_text


def _there(counts: Sequence[int]) -> Tensor:
    """Which of the places by text hold a picture, ``(B, most pictures)``: int64."""
    return torch.tensor([[number < count for number in range(max(counts))] for count in counts]).long()


def _by_text(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    by_text = _padded(counts, pictures)
    return {"pixel_values": by_text, "pixel_attention_mask": torch.ones_like(by_text[:, :, 0], dtype=torch.bool)}


def _tiled(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Each picture whole and as one tile."""
    sizes = torch.tensor([[SIDE, SIDE]] * len(pictures))
    return {"pixel_values": pictures[:, None].repeat(1, 2, 1, 1, 1), "image_sizes": sizes}


def _mllama(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    tiles = _padded(counts, pictures)[:, :, None]
    there = _there(counts)
    return {"pixel_values": tiles, "aspect_ratio_ids": there, "aspect_ratio_mask": torch.ones(*there.shape, 1).long()}


def _seen(base: Any, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Each token of mllama sees the last picture before it."""
    if not len(pictures):
        return {}
    seen = torch.zeros(*ids.shape, max(counts), 1, dtype=torch.long)
    for row in range(len(ids)):
        places = (ids[row] == VOCAB).nonzero().flatten().tolist()
        for number, (place, end) in enumerate(zip(places, [*places[1:], ids.shape[1]], strict=True)):
            seen[row, place:end, number] = 1
    return {"cross_attention_mask": seen}


def _gemma4(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Flat patches by picture, and their places."""
    side = SIDE // PATCH
    cut = pictures.view(-1, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(len(pictures), side**2, -1)
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1).view(1, -1, 2)
    return {"pixel_values": cut, "image_position_ids": places.repeat(len(pictures), 1, 1)}


def _siglip2(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    found = _gemma4(base, counts, pictures)
    side = SIDE // PATCH
    return {
        "pixel_values": found["pixel_values"],
        "spatial_shapes": torch.tensor([[side, side]] * len(pictures)),
        "pixel_attention_mask": torch.ones(len(pictures), side**2).long(),
    }


def _packed(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """All patches of all pictures side by side in one row."""
    side = SIDE // PATCH
    cut = pictures.view(-1, 3, side, PATCH, side, PATCH).permute(1, 3, 0, 2, 4, 5).reshape(1, 3, PATCH, -1)
    return {"pixel_values": cut, "target_sizes": torch.tensor([[side, side]] * len(pictures), dtype=torch.int32)}


def _masked_tiles(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    return {"pixel_values": _padded(counts, pictures), "pixel_attention_mask": _there(counts).bool()}


def _two_resolutions(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    return {
        "pixel_values": pictures,
        "high_res_pixel_values": pictures.repeat_interleave(2, -1).repeat_interleave(2, -2),
    }


def _pixels_last(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Squares of 2 × 2 patches, their channels last, and the grid of these squares."""
    side = SIDE // PATCH // 2
    cut = (
        pictures.view(-1, 3, side, 2 * PATCH, side, 2 * PATCH)
        .permute(0, 2, 4, 3, 5, 1)
        .reshape(-1, 2 * PATCH, 2 * PATCH, 3)
    )
    return {"pixel_values": cut, "image_grid_thw": torch.tensor([[1, side, side]] * len(pictures))}


def _films(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Patches as short films, their channels last."""
    side, vision = SIDE // PATCH, _vision(base)
    cut = pictures.view(-1, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(-1, 1, PATCH, PATCH, 3)
    return {"pixel_values": cut.repeat(1, vision.temporal_patch_size, 1, 1, 1)}


def _numbered(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Flat patches with their row and column before them."""
    found = _gemma4(base, counts, pictures)
    places = found["image_position_ids"].flip(-1).float() + 1
    patches = torch.cat([places, found["pixel_values"]], -1)
    if "width" in inspect.signature(base.forward).parameters:
        side = torch.full((len(pictures),), SIDE // PATCH)
        return {"flattened_patches": patches, "width": side, "height": side}
    return {"flattened_patches": patches, "attention_mask": torch.ones(patches.shape[:2])}


def _pooled(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Flat patches, and which of them become one token: a whole picture and one crop of it."""
    patches = _gemma4(base, counts, pictures)["pixel_values"]
    side = SIDE // PATCH
    one = torch.arange(side**2).view(side // 2, 2, side // 2, 2).permute(0, 2, 1, 3).reshape(-1, 4)
    pooling = torch.cat([one + side**2 * number for number in range(2 * len(pictures))])
    return {
        "pixel_values": patches.repeat_interleave(2, 0),
        "image_token_pooling": pooling,
        "image_grids": torch.tensor([[side // 2] * 4] * len(pictures)),
        "image_num_crops": torch.full((len(pictures),), 2),
    }


def _idefics(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    return {"pixel_values": _padded(counts, pictures)}


def _idefics_seen(base: Any, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> Arguments:
    if not len(pictures):
        return {}
    return {"image_attention_mask": _there(counts)[:, None].repeat(1, ids.shape[1], 1)}


def _fuyu(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """Flat patches of all pictures, under their processor's name."""
    return {"image_patches": _gemma4(base, counts, pictures)["pixel_values"].flatten(0, 1)}


def _places(base: Any, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> Arguments:
    return {"image_embeds_position_mask": (ids == IMAGE).long()} if len(pictures) else {}


def _boxes(base: Any, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """A box for each token of a page, from left to right."""
    steps = torch.linspace(0, 0.9, ids.shape[1])
    boxes = torch.stack([steps, steps, steps + 0.1, steps + 0.1], -1)
    return {"bbox": boxes[None].repeat(len(ids), 1, 1)}


def _instruction(base: Any, ids: Tensor, counts: Sequence[int], pictures: Tensor) -> Arguments:
    """The text again, for the Q-Former."""
    return {"qformer_input_ids": ids.clone(), "qformer_attention_mask": (ids != PAD).long()} if len(pictures) else {}


def _four_frames(base: Any, counts: Sequence[int], pictures: Tensor) -> Arguments:
    return {"pixel_values": pictures[:, None].repeat(1, 4, 1, 1, 1)}


_SQUARE_PATCHES = {"paddleocr_vl", "kimi_k25"}
_FIXED: dict[str, list[int]] = {
    "kosmos-2": [BEFORE_IMAGE, *[IMAGE] * 4, AFTER_IMAGE],
    "kosmos-2.5": [BEFORE_IMAGE, *[IMAGE] * 4, AFTER_IMAGE],
    "fuyu": [IMAGE] * 16,
    "instructblip": [IMAGE] * 4,
    "instructblipvideo": [IMAGE] * 16,
    "blip-2": [IMAGE] * 4,
}
_RECIPES: dict[str, Callable[[Any, Sequence[int], Tensor], Arguments]] = {
    "mllama": _mllama,
    **dict.fromkeys(("gemma4", "gemma4_unified", "diffusion_gemma"), _gemma4),
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7"), _packed),
    "lfm2_vl": _siglip2,
    **dict.fromkeys(("inkling2", "inkling2_loop"), _pixels_last),
    "inkling_mm_model": _films,
    **dict.fromkeys(("kosmos-2.5", "pix2struct"), _numbered),
    "molmo2": _pooled,
    "idefics": _idefics,
    "fuyu": _fuyu,
    "instructblipvideo": _four_frames,
    "granite_docling": _masked_tiles,
    "deepseek_vl_hybrid": _two_resolutions,
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision", "granite4_vision"), _tiled),
}
_LATER: dict[str, Callable[[Any, Tensor, Sequence[int], Tensor], Arguments]] = {
    "mllama": _seen,
    "idefics": _idefics_seen,
    "kosmos-2": _places,
    "kosmos-2.5": _places,
    "udop": _boxes,
    "instructblip": _instruction,
    "instructblipvideo": _instruction,
}
