"""A tiny random model that sees, with a processor for real words and pictures: text and pictures in, text out."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from word_models import word_tokenizer

IMAGE_TOKEN = "<image>"
# The image, then the words, then the place of the answer, as chat templates of this family have them.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} The{% endif %}"
)


def picture_processor(template: bool = True) -> Any:
    """The words of the built-in axes as single tokens, and pictures of eight by eight pixels in four patches."""
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    size: dict[str, Any] = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
    return LlavaProcessor(
        CLIPImageProcessor(**size),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=TEMPLATE if template else None,
    )


def picture_word_model(processor: Any, padding: int = 7) -> Any:
    """A tiny random Llava whose vocabulary is padded beyond the tokenizer's; it writes whole words."""
    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "initializer_range": 0.4}
    ends: dict[str, Any] = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = {**sizes, **heads, **ends, "vocab_size": len(tokenizer) + padding, "model_type": "llama"}
    vision = CLIPVisionConfig(**sizes, num_attention_heads=4, image_size=8, patch_size=4).to_dict()
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=token, **ends)
    )
    for weights in model.parameters():
        if weights.ndim > 1 and float(weights.detach().std()) < 0.2:  # as vision towers begin
            torch.nn.init.normal_(weights, std=0.4)
    # It says nothing but whole words, so that its texts can be swapped as texts, and names no pictures.
    words = {i for token, i in tokenizer.get_vocab().items() if token.startswith("Ġ") and len(token) > 1}
    words -= set(tokenizer(" nephew Nephew").input_ids)  # it has no niece, so as a token a nephew stays one
    model.lm_head.weight.data[tokenizer(" he she man woman Black White Asian").input_ids] *= 2
    model.generation_config.suppress_tokens = [i for i in range(len(tokenizer) + padding) if i not in words]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


def saved_picture_model(folder: Path, template: bool = True) -> str:
    """The folder, with a tiny random model and its processor in it."""
    processor = picture_processor(template)
    picture_word_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def drawn_picture(color: str = "red", side: int = 16) -> Image.Image:
    """A disk of a color on white."""
    picture = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(picture).ellipse((2, 2, side - 2, side - 2), fill=color)
    return picture
