"""The definition of EquiLM, written with the base model alone: φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v] (paper, eq. 3).

Nothing here uses equilm. A group element is a row of the table of permutations, and the base model is asked about the
texts of one element after the other, so that no two elements ever share a batch or a cache.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel

CACHE = "cache" if "cache" in inspect.signature(transformers.LlamaForCausalLM.forward).parameters else "past_key_values"


def cyclic_table(vocab_size: int, cycle: list[int]) -> Tensor:
    """The permutations of a cyclic group that turns each token of ``cycle`` into the next: int64, ``(|G|, V)``."""
    table = torch.arange(vocab_size).repeat(len(cycle), 1)
    for g in range(len(cycle)):
        for place, token in enumerate(cycle):
            table[g, token] = cycle[(place + g) % len(cycle)]
    return table


def average(table: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over g of ``logits_of(g)[..., g·v]``, where ``logits_of`` gets the row of the table for g."""
    found = [(logits_of(row), row) for row in table]
    # A head may leave out the padding at the end of the vocabulary.
    return torch.stack([logits[..., row[: logits.shape[-1]]] for logits, row in found]).mean(0)


def forward_logits(model: PreTrainedModel, texts: dict[str, Tensor], row: Tensor | None = None) -> Tensor:
    """The logits of one forward pass without a cache, its token ids permuted by ``row``: ``(B, T, V)``."""
    permuted = {k: v if row is None or not k.endswith("input_ids") else row[v] for k, v in texts.items()}
    with torch.no_grad():
        return model(**permuted, use_cache=False).logits


def _text(texts: dict[str, Tensor]) -> str:
    """The argument that generation continues: an encoder that reads pictures leaves the text to the decoder."""
    return "input_ids" if "input_ids" in texts else "decoder_input_ids"


class Forced(LogitsProcessor):
    """Makes generation write a given text: ids of shape ``(B, T)``, after ``start`` tokens that are there already."""

    def __init__(self, path: Tensor, start: int):
        self.path, self.start = path, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.start
        return torch.full_like(scores, -torch.inf).scatter(1, self.path[:, step, None], 0.0)


def generated_logits(model: PreTrainedModel, texts: dict[str, Tensor], path: Tensor, row: Tensor) -> Tensor:
    """What a model's own ``generate`` reads along a path, text and path permuted by ``row``: ``(B, T, V)``."""
    start = 1 if model.config.is_encoder_decoder and "input_ids" in texts else texts[_text(texts)].shape[1]
    forced = LogitsProcessorList([Forced(row[path], start)])
    permuted: dict[str, Any] = {k: row[v] if k.endswith("input_ids") else v for k, v in texts.items()}
    # Janus's own drops the processors that it is given.
    generate: Any = partial(GenerationMixin.generate, model) if model.config.model_type == "janus" else model.generate
    output = generate(
        **permuted,
        max_new_tokens=path.shape[1],
        do_sample=False,
        logits_processor=forced,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(output.logits, 1)


def cache_argument(model: PreTrainedModel) -> str | None:
    """What a model's forward calls the cache it is given, None where it takes none."""
    names = inspect.signature(model.forward).parameters
    known = ("cache", "past_key_values", "cache_params", "state", "mems", "past_buckets_states")
    return next((name for name in known if name in names), None)


def stepped_logits(model: Any, texts: dict[str, Tensor], steps: int, row: Tensor | None, cache: str) -> Tensor:
    """The logits of a prefill and ``steps`` single tokens with its cache, side by side: ``(B, T, V)``."""
    name = "decoder_input_ids" if "decoder_input_ids" in texts else "input_ids"
    permuted: dict[str, Any] = {
        k: row[v] if row is not None and k.endswith("input_ids") else v for k, v in texts.items()
    }
    length = permuted[name].shape[1]

    def part(first: int, last: int) -> dict[str, Tensor]:
        cut = {name: permuted[name][:, first:last]}
        if name == "input_ids" and "attention_mask" in permuted:
            cut["attention_mask"] = permuted["attention_mask"][:, :last]
        return {**permuted, **cut}

    with torch.no_grad():
        output = model(**part(0, length - steps), use_cache=True)
        found = [output.logits]
        for place in range(length - steps, length):
            output = model(**part(place, place + 1), use_cache=True, **{cache: output[cache]})
            found.append(output.logits)
    return torch.cat(found, 1)
