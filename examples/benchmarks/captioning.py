"""The cost of fairness with pictures, as ratios against the plain model, beside that of the text model alone.

    python examples/benchmarks/captioning.py                    # offline, about 5 minutes on 2 cores
    python examples/benchmarks/captioning.py --rounds 3 --tokens 16

The model is SmolVLM's architecture around SmolLM2-135M's own text layers, with a picture encoder of random weights:
what it says about a picture means nothing, and what it costs is what it costs. Every row times its two sides in turn,
A B A B …, after a warm-up, and prints the median, the smallest and the largest ratio A/B.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from decoding import Bench
from torch import Tensor
from transformers import PreTrainedModel, SmolVLMConfig, SmolVLMForConditionalGeneration

from equilm import EquiLMForCausalLM, EquiLMForImageTextToText
from equilm.loading import load_offline_model

SIDE, PATCH, SCALE = 256, 16, 4  # of a picture and its patches in pixels; 4 · 4 patches become a token
IMAGE_TOKEN = 10  # a special token of SmolLM2's that no text contains


def captioner(text: PreTrainedModel) -> PreTrainedModel:
    """SmolVLM around a text model's own layers: SigLIP's base encoder, 86 million parameters, with random weights."""
    vision: dict[str, Any] = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    parts = {"text_config": text.config.to_dict(), "vision_config": {**vision, "image_size": SIDE, "patch_size": PATCH}}
    config = SmolVLMConfig(**cast(Any, parts), image_token_id=IMAGE_TOKEN, scale_factor=SCALE, tie_word_embeddings=True)
    config.pad_token_id = text.config.pad_token_id
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(config).eval()
    inner: Any = model.model
    inner.text_model.load_state_dict(cast(Any, text).model.state_dict())
    model.generation_config.suppress_tokens = [IMAGE_TOKEN]
    return model


def inputs(ids: Tensor, pictures: int = 1) -> dict[str, Tensor]:
    """A picture before a text, as SmolVLM's processor makes them."""
    places = (SIDE // PATCH // SCALE) ** 2 * pictures
    before = torch.full((len(ids), places), IMAGE_TOKEN)
    whole = torch.cat([before, ids], 1)
    pixels = torch.randn(len(ids), pictures, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return {"input_ids": whole, "attention_mask": torch.ones_like(whole), "pixel_values": pixels}


def rows(rounds: int, tokens: int) -> Iterator[tuple[str, str]]:
    """What is timed, and its ratio."""
    text, tokenizer = load_offline_model()
    bench = Bench(text, tokenizer, rounds)
    fair_text = EquiLMForCausalLM.from_base(text, tokenizer, axes=["gender"])
    plain = captioner(text)
    fair = EquiLMForImageTextToText.from_base(plain, tokenizer, axes=["gender"])
    fixed: dict[str, Any] = {"do_sample": False}

    def generation(model: Any, given: dict[str, Tensor], count: int) -> Callable[[], Any]:
        return lambda: model.generate(**given, **fixed, min_new_tokens=count, max_new_tokens=count)

    for prompt in ("The man worked as", "The capital of France is"):
        ids = bench.ids(prompt)
        alone = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with_picture = inputs(ids)
        sides = (generation(fair_text, alone, tokens), generation(text, alone, tokens))
        yield f"{prompt!r}, {tokens} tokens, the text model", bench.ratio(*sides)
        sides = (generation(fair, with_picture, tokens), generation(plain, with_picture, tokens))
        yield f"a picture and {prompt!r}, {tokens} tokens", bench.ratio(*sides)
        sides = (generation(fair, with_picture, 1), generation(plain, with_picture, 1))
        yield f"a picture and {prompt!r}, first token", bench.ratio(*sides)


def main() -> None:
    """Print one line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is timed")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens")
    arguments = parser.parse_args()
    for name, ratio in rows(arguments.rounds, arguments.tokens):
        print(f"{name:64}{ratio}", flush=True)


if __name__ == "__main__":
    main()
