"""Measuring the numbers of a model card: the gap of equation 4, the change in perplexity, and the slow-down."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from ..errors import EquiLMError
from ..metrics.perplexity import max_positions, perplexities
from ..modeling_equilm import EquiLMForCausalLM
from ..study.prompts import CONTEXTS
from ..testing import log_prob_gap

_NEUTRAL = "The weather that morning was"
_PROMPTS_PER_AXIS = 20
_NEW_TOKENS = 15
_TIMED_TOKENS = 32
_ROUNDS = 5


@dataclass(frozen=True)
class Measurements:
    """The numbers of a model card; each pair is (plain, wrapped).

    Attributes:
        gap_mean: the mean |log P(gY|gX) - log P(Y|X)| per token of sampled continuations, in nats.
        gap_largest: the largest such difference.
        gap_tokens: the number of pairs of a token and a group element that both numbers are taken over.
        perplexity: the perplexity per token, over non-overlapping blocks.
        perplexity_tokens: the number of tokens scored.
        perplexity_data: the name of the text that was scored.
        slow_down_neutral: the time of greedy generation divided by the plain model's time, for a prompt without words
            that are swapped.
        slow_down_named: the same for a prompt that contains such a word.
        device: the device on which the times were measured.
    """

    gap_mean: tuple[float, float]
    gap_largest: tuple[float, float]
    gap_tokens: int
    perplexity: tuple[float, float]
    perplexity_tokens: int
    perplexity_data: str
    slow_down_neutral: float
    slow_down_named: float
    device: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def measure(
    model: EquiLMForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    data_name: str,
    *,
    block_size: int = 1024,
    blocks: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Measurements:
    """Measure a wrapped model against its base.

    Args:
        model: the wrapped model.
        tokenizer: its tokenizer.
        text: the text to measure the perplexity on.
        data_name: the name of the text in the card.
        block_size: the number of tokens in a block for the perplexity, at most the model's number of positions.
        blocks: the number of blocks to score, from the start; None for all.
        seed: the seed for the sampled continuations.
        progress: whether to show a progress bar for the blocks.

    Raises:
        EquiLMError: if the configuration names no word lists to make prompts from.
    """
    prompts = equality_prompts(model)
    # First, because this fails early if the text is too short.
    scores = perplexities(
        {"plain": model.language_model, "wrapped": model},
        tokenizer,
        text,
        block_size=min(block_size, max_positions(model) or block_size),
        blocks=blocks,
        progress=progress,
    )
    plain_gap, gap = _gaps(model, tokenizer, prompts, seed)
    return Measurements(
        gap_mean=(float(plain_gap.mean()), float(gap.mean())),
        gap_largest=(float(plain_gap.max()), float(gap.max())),
        gap_tokens=gap.numel(),
        perplexity=(scores["plain"].perplexity, scores["wrapped"].perplexity),
        perplexity_tokens=scores["plain"].tokens,
        perplexity_data=data_name,
        slow_down_neutral=_slow_down(model, tokenizer, _NEUTRAL),
        slow_down_named=_slow_down(model, tokenizer, prompts[0]),
        device="CPU" if model.device.type == "cpu" else torch.cuda.get_device_name(model.device),
    )


def equality_prompts(model: EquiLMForCausalLM) -> list[str]:
    """Prompts "The <word> <context>" with words that the model swaps, in the paper's contexts.

    Raises:
        EquiLMError: if the model's configuration does not say which words it swaps.
    """
    contexts = [context for task in CONTEXTS.values() for context in task]
    prompts = []
    for lists in model.fairness_report().swapped.values():
        words = [words[0] for words in lists]
        pairs = [(words[i % len(words)], contexts[i % len(contexts)]) for i in range(_PROMPTS_PER_AXIS if words else 0)]
        prompts += [f"The {word} {context}" for word, context in dict.fromkeys(pairs)]
    if not prompts:
        raise EquiLMError(
            "The model's configuration names no words that are swapped, so there is nothing to measure. Build it with "
            "EquiLMForCausalLM.from_base(model, tokenizer, axes=...)."
        )
    return prompts


@torch.no_grad()
def _gaps(
    model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    plain, fair = [], []
    for index, prompt in enumerate(prompts):
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)  # (1, T)
        set_seed(seed + index)
        settings: dict[str, Any] = {"do_sample": True, "top_k": 40, "max_new_tokens": _NEW_TOKENS}
        text: Any = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        fair.append(log_prob_gap(model, model.action, text, ids.shape[1]).flatten())
        plain.append(log_prob_gap(model.language_model, model.action, text, ids.shape[1]).flatten())
    return torch.cat(plain), torch.cat(fair)


def _slow_down(model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str) -> float:
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    settings: dict[str, Any] = {"do_sample": False, "min_new_tokens": _TIMED_TOKENS, "max_new_tokens": _TIMED_TOKENS}

    def fair() -> Any:
        return model.generate(**inputs, **settings)

    def plain() -> Any:
        with model.plain():
            return model.generate(**inputs, **settings)

    fair(), plain()  # the first runs allocate memory and choose kernels
    ratios = []
    for _ in range(_ROUNDS):  # in turns, so that a busy machine slows down both
        seconds = _seconds(plain)
        ratios.append(_seconds(fair) / seconds)
    return median(ratios)


def _seconds(generate: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    generate().cpu()  # waits for an accelerator
    return time.perf_counter() - start
