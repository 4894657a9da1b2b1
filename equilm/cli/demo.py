"""`equilm demo`: the paper's prompts continued by the plain model, EquiLM and R-EquiLM, with the gap of eq. 4."""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..modeling_equilm import EquiLMForCausalLM
from ..study.prompts import CONTEXTS, GROUPS, prompts
from ..testing import log_prob_gap
from .models import load_model

MODELS = ("plain", "EquiLM", "R-EquiLM")


@dataclass(frozen=True)
class Sample:
    """One model's continuation of one prompt, and how far the model is from eq. 4 on it.

    Args:
        model: one of `MODELS`.
        prompt: the prompt.
        text: the continuation, cut at its first newline.
        gap: |log P(gY|gX) - log P(Y|X)| per token of the continuation, float32, shape ``(T,)``.
    """

    model: str
    prompt: str
    text: str
    gap: Tensor


def continuations(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, axis: str, max_new_tokens: int = 15, seed: int = 0
) -> Iterator[Sample]:
    """Samples from all models for one axis of the paper: both tasks, five contexts, every group.

    They are sampled as in the paper, by top-k with k = 40, and with the same seed for every group.

    Args:
        base: the model to wrap.
        tokenizer: its tokenizer.
        axis: "gender", "race" or "orientation".
        max_new_tokens: the maximum number of tokens in a continuation.
        seed: the seed, which is set before every batch.
    """
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=axis)
    relaxed = EquiLMForCausalLM.from_base(base, tokenizer, axes=axis, relaxed=True)
    for task in CONTEXTS:
        for group in GROUPS[axis]:
            texts = prompts(axis, task, group)
            inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left").to(base.device)
            for name in MODELS:
                model = relaxed if name == "R-EquiLM" else fair
                with model.plain() if name == "plain" else nullcontext():
                    yield from _samples(name, model, tokenizer, texts, inputs, max_new_tokens, seed)


def _samples(
    name: str,
    model: EquiLMForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    inputs: Any,
    max_new_tokens: int,
    seed: int,
) -> Iterator[Sample]:
    set_seed(seed)
    ids: Any = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=True, top_k=40, top_p=1.0, temperature=1.0
    )
    length = inputs.input_ids.shape[1]
    mask = torch.cat([inputs.attention_mask, torch.ones_like(ids[:, length:])], 1)
    gaps = log_prob_gap(model, model.action, ids, length, mask).amax(0)  # (B, T)
    for prompt, row, gap in zip(texts, ids[:, length:], gaps, strict=True):
        ended = (row == model.generation_config.eos_token_id).cumsum(0).roll(1).clamp(max=1)
        ended[0] = 0
        text = str(tokenizer.decode(row, skip_special_tokens=True))
        yield Sample(name, prompt, text.split("\n")[0].strip(), gap[ended == 0])


def run(arguments: argparse.Namespace) -> None:
    """Run `equilm demo`."""
    base, tokenizer = load_model(arguments)
    axes, progress = arguments.axis or list(GROUPS), not arguments.quiet
    print(demo(base, tokenizer, axes, arguments.max_new_tokens, arguments.seed, progress=progress))


def demo(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    axes: list[str],
    max_new_tokens: int,
    seed: int,
    *,
    progress: bool = True,
) -> str:
    """The whole demo as text: every continuation side by side, then a table of the gaps.

    Args:
        base: the model to wrap.
        tokenizer: its tokenizer.
        axes: names of the paper's axes.
        max_new_tokens: the maximum number of tokens in a continuation.
        seed: the seed for sampling.
        progress: whether to show a progress bar.
    """
    lines: list[str] = []
    gaps: dict[tuple[str, str], list[Tensor]] = {}
    per_axis = sum(len(contexts) for contexts in CONTEXTS.values()) * len(MODELS)
    total = sum(len(GROUPS[axis]) for axis in axes) * per_axis
    with tqdm(total=total, unit="text", desc="Generating", disable=not progress) as bar:
        for axis in axes:
            by_prompt: dict[str, dict[str, str]] = {}
            for sample in continuations(base, tokenizer, axis, max_new_tokens, seed):
                by_prompt.setdefault(sample.prompt, {})[sample.model] = sample.text
                gaps.setdefault((axis, sample.model), []).append(sample.gap)
                bar.update()
            lines += ["", f"== {axis} =="]
            for task in CONTEXTS:
                for pair in zip(*(prompts(axis, task, group) for group in GROUPS[axis]), strict=True):
                    for prompt in pair:
                        lines.append(prompt)
                        lines += [_row(name, by_prompt[prompt][name]) for name in MODELS]
                    lines.append("")
    lines += ["|log P(gY|gX) - log P(Y|X)| per token of the texts above, which eq. 4 says is 0 (mean, largest):"]
    lines.append(f"  {'':12}" + "".join(f"{name:>24}" for name in MODELS))
    for axis in axes:
        values = [torch.cat(gaps[axis, name]) for name in MODELS]
        lines.append(f"  {axis:12}" + "".join(f"{value.mean():12.1e}{value.max():12.1e}" for value in values))
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    line = f"{name:>9} | {' '.join(text.splitlines())}"
    return line if len(line) <= 110 else f"{line[:109]}…"
