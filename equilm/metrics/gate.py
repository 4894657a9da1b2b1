"""The gate: does a model satisfy P(gY|gX) = P(Y|X) on given prompts, and are the words of the prompts covered?

`equilm check` measures the gap of equation 4, parity after neutral prompts, and which words of the prompts the model's
table does not swap. Thresholds turn the numbers into pass or fail. Here this is done for a loaded model; for a server,
whose probabilities cannot be seen, `gate_server` compares samples.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..text.action import TextAction
from ..words.vocabulary import VocabularyAction
from .fairness_levels import ContinuationSampling, TokenMeter
from .gate_readers import classifier_meter, masked_meter
from .gate_result import GateResult, PromptCheck, Thresholds
from .gate_words import PromptWords, read_words
from .seq2seq_level import Seq2SeqMeter
from .text_lists import check_text_lists

Kind = Literal["causal", "encoder-decoder", "masked", "classifier"]


def check_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    action: VocabularyAction,
    prompts: Sequence[str],
    *,
    name: str,
    kind: Kind = "causal",
    thresholds: Thresholds | None = None,
    num_continuations: int = 4,
    max_new_tokens: int = 15,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> GateResult:
    """Check one model, fair or not, on prompts.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        action: the action on its token ids.
        prompts: at least one text.
        name: the name of the model in the result.
        kind: what the model is.
        thresholds: the limits; None takes the defaults.
        num_continuations: the number of texts that a generator samples after each prompt, from its whole distribution.
        max_new_tokens: the maximum number of tokens in a continuation.
        batch_size: the number of rows in a forward pass.
        seed: the seed for sampling.
        progress: whether to show a progress bar.

    Raises:
        EquiLMError: for no prompts, a prompt without tokens, log-probabilities that are not numbers, and a classifier
            with prompts that all swaps leave as they are.
    """
    check_text_lists(prompts=prompts)
    limits = thresholds or Thresholds()
    text_action = TextAction(action.axes)
    words = [read_words(text_action, prompt, action, tokenizer) for prompt in prompts]
    generates = kind in ("causal", "encoder-decoder")
    with tqdm(
        total=len(prompts) * (num_continuations if generates else 1),
        desc=f"Checking {name}",
        unit="text",
        disable=not progress,
    ) as bar:
        if generates:
            sampling = ContinuationSampling(num_continuations, max_new_tokens, batch_size)
            meter = (TokenMeter if kind == "causal" else Seq2SeqMeter)(model, tokenizer, action, sampling)
            found = _generator_gaps(meter, prompts, words, seed, bar)
        else:
            found = _reader_gaps(model, tokenizer, action, prompts, words, kind, bar)
    checks = [
        PromptCheck(prompt, gap, parity, of_prompt, _reasons(gap, parity, of_prompt, limits))
        for prompt, (gap, parity), of_prompt in zip(prompts, found, words, strict=True)
    ]
    return GateResult(name, kind, action.group.order, limits, tuple(checks))


def _generator_gaps(
    meter: TokenMeter, prompts: Sequence[str], words: Sequence[PromptWords], seed: int, bar: "tqdm[None]"
) -> list[tuple[float, float | None]]:
    """The gap and the parity for each prompt."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        gaps = meter.gaps(prompts, bar).largest.max((0, 2))  # (|G| - 1, P, n) to (P,)
    found = []
    for prompt, of_prompt, gap in zip(prompts, words, gaps, strict=True):
        names_a_group = of_prompt.named or meter.moves(prompt)
        found.append((float(gap), None if names_a_group else _parity(meter, prompt)))
    return found


def _parity(meter: TokenMeter, prompt: str) -> float:
    """The largest difference between the log-probabilities of one list's words right after a prompt."""
    return max(float(np.ptp(log_probs, axis=1).max()) for log_probs in meter.word_log_probs(prompt))  # (lists, d) each


def _reader_gaps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    action: VocabularyAction,
    prompts: Sequence[str],
    words: Sequence[PromptWords],
    kind: Kind,
    bar: "tqdm[None]",
) -> list[tuple[float, float | None]]:
    """The same for a masked model or a classifier."""
    ids = [torch.tensor(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    if kind == "classifier" and not any(action.moved.cpu()[text].any() for text in ids):
        axes = ", ".join(axis.name for axis in action.axes)
        raise EquiLMError(
            f"None of the {len(prompts)} prompts contains a word of {axes} that the classifier's table swaps, so there "
            "is nothing to compare. Add prompts that name the groups."
        )
    measure = (masked_meter if kind == "masked" else classifier_meter)(model, tokenizer, action)
    found: list[tuple[float, float | None]] = []
    for prompt, of_prompt in zip(prompts, words, strict=True):
        gap, parity = measure(prompt)
        found.append((gap, None if of_prompt.named else parity))
        bar.update()
    return found


def _reasons(gap: float, parity: float | None, words: PromptWords, limits: Thresholds) -> tuple[str, ...]:
    reasons = []
    if gap > limits.gap:
        reasons.append(f"gap of equation 4 {gap:.3g} > {limits.gap:g} nats")
    if parity is not None and parity > limits.parity:
        reasons.append(f"next-word parity {parity:.3g} > {limits.parity:g} nats")
    covered = len(words.named) - len(words.unswapped)
    if words.named and covered / len(words.named) < limits.coverage:
        unswapped = ", ".join(words.unswapped)
        reasons.append(f"{covered} of {len(words.named)} of its words of the axes are swapped, not {unswapped}")
    return tuple(reasons)
