"""The gate: does a model keep P(gY|gX) = P(Y|X) on given prompts, and are their words covered?

What `equilm check` measures: the gap of equation 4 on texts that the model itself samples, parity of the next word
after neutral prompts, and which words of the prompts the table does not swap. Thresholds turn that into pass or fail.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..actions import TokenAction
from ..errors import EquiLMError
from ..testing import log_prob_gap
from ..text.action import TextAction


@dataclass(frozen=True)
class Thresholds:
    """What passes.

    Args:
        gap: the largest |log P(gY|gX) - log P(Y|X)| of a token, in nats.
        parity: the largest |log P(gv|X) - log P(v|X)| of a swapped word v after a neutral prompt, in nats.
        coverage: the least share of the axes' words in the prompts that the model's table swaps.
    """

    gap: float = 1e-3
    parity: float = 1e-3
    coverage: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < math.inf or (name == "coverage" and value > 1):
                raise EquiLMError(f"The threshold {name}={value} must be 0 or more, and a coverage at most 1.")


@dataclass(frozen=True)
class PromptCheck:
    """One prompt's figures.

    Args:
        prompt: the prompt.
        gap: the largest gap of equation 4 over its sampled continuations, their tokens and all swaps, in nats.
        parity: the largest difference of log-probabilities of swapped words right after it; None if the prompt names
            a group, so that no parity is promised.
        named: how many words of the axes it holds, as text.
        covered: how many of them the model's table swaps.
        reasons: why the prompt fails; empty if it passes.
    """

    prompt: str
    gap: float
    parity: float | None
    named: int
    covered: int
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all figures are within the thresholds."""
        return not self.reasons


@dataclass(frozen=True)
class GateResult:
    """A model's figures on all prompts.

    Args:
        model: what the model is called.
        order: |G|.
        thresholds: what passes.
        prompts: the figures of each prompt.
    """

    model: str
    order: int
    thresholds: Thresholds
    prompts: tuple[PromptCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every prompt passes."""
        return all(prompt.passed for prompt in self.prompts)

    @property
    def gap(self) -> float:
        """The largest gap of all prompts, in nats."""
        return max(prompt.gap for prompt in self.prompts)

    @property
    def parity(self) -> float | None:
        """The largest difference after a neutral prompt, in nats; None if every prompt names a group."""
        return max((prompt.parity for prompt in self.prompts if prompt.parity is not None), default=None)

    @property
    def coverage(self) -> float:
        """The share of the axes' words in the prompts that the table swaps; 1 if the prompts hold none."""
        named = sum(prompt.named for prompt in self.prompts)
        return sum(prompt.covered for prompt in self.prompts) / named if named else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        summary: dict[str, Any] = {
            "passed": self.passed,
            "gap": self.gap,
            "parity": self.parity,
            "coverage": self.coverage,
        }
        prompts = [{**asdict(prompt), "passed": prompt.passed} for prompt in self.prompts]
        return {"model": self.model, "order": self.order, **summary, "thresholds": asdict(self.thresholds)} | {
            "prompts": prompts
        }


@torch.no_grad()
def check_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    action: TokenAction,
    axes: Sequence[Any],
    prompts: Sequence[str],
    *,
    name: str,
    thresholds: Thresholds | None = None,
    num_continuations: int = 4,
    max_new_tokens: int = 15,
    seed: int = 0,
    progress: bool = False,
) -> GateResult:
    """Check one model, fair or not, on prompts.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        action: the action on its token ids.
        axes: the axes that the action is of, whose words are looked for in the prompts.
        prompts: at least one text.
        name: what to call the model in the result.
        thresholds: what passes; None takes the defaults.
        num_continuations: texts that the model samples after each prompt, from its whole distribution.
        max_new_tokens: their length.
        seed: of the sampling.
        progress: show a progress bar.

    Raises:
        EquiLMError: for no prompts, and for log-probabilities that are not numbers.
    """
    if isinstance(prompts, str) or not prompts:
        raise EquiLMError(f"Expected a list of at least one prompt, got {prompts!r}.")
    limits = thresholds or Thresholds()
    words = TextAction(list(axes))
    checks = []
    for number, prompt in enumerate(tqdm(prompts, desc=f"Checking {name}", unit="prompt", disable=not progress)):
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        set_seed(seed + number)
        gap = _gap(model, action, inputs, num_continuations, max_new_tokens)
        neutral = not bool(action.moved.to(model.device)[inputs.input_ids].any()) and len(set(words.orbit(prompt))) == 1
        parity = _parity(model, action, inputs) if neutral else None
        if math.isnan(gap) or (parity is not None and math.isnan(parity)):
            raise EquiLMError(f"The model's log-probabilities after {prompt!r} are not numbers: nothing can be said.")
        named, covered = _covered(words, action, tokenizer, prompt)
        checks.append(PromptCheck(prompt, gap, parity, named, covered, _reasons(gap, parity, named, covered, limits)))
    return GateResult(name, action.group.order, limits, tuple(checks))


def _gap(model: PreTrainedModel, action: TokenAction, inputs: Any, number: int, length: int) -> float:
    settings: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    generate: Any = model.generate
    ids = generate(**inputs, max_new_tokens=length, num_return_sequences=number, **settings)  # (number, T)
    prompt_length = inputs.input_ids.shape[1]
    mask = torch.cat([inputs.attention_mask.expand(number, -1), _until_end(model, ids[:, prompt_length:])], 1)
    return float(log_prob_gap(model, action, ids, prompt_length, mask).nan_to_num(0.0).max())


def _until_end(model: PreTrainedModel, new_ids: Tensor) -> Tensor:
    """1 up to the first end-of-text token, which counts, and 0 after it; int64, shape of ``new_ids``."""
    config: Any = model.generation_config
    ends = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id, device=new_ids.device).flatten()
    is_end = torch.isin(new_ids, ends.to(new_ids.dtype)).long()
    return (is_end.cumsum(1) == is_end).long()


def _parity(model: PreTrainedModel, action: TokenAction, inputs: Any) -> float:
    logits = model(**inputs).logits[0, -1].float().log_softmax(-1)  # (V,)
    moved = action.moved.to(logits.device).nonzero().flatten()
    images = action.to(logits.device).permutation[:, moved]  # (|G|, M)
    return float((logits[images] - logits[moved]).abs().max())


def _covered(
    words: TextAction, action: TokenAction, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> tuple[int, int]:
    """How many words of a prompt the group swaps in text, and in how many of them the table swaps a token."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    moved = action.moved.cpu()[torch.tensor(encoded.input_ids, dtype=torch.int64)].tolist()
    spans = [span for span, is_moved in zip(encoded.offset_mapping, moved, strict=True) if is_moved]
    orbit = [re.findall(r"\S+", image) for image in words.orbit(prompt)]
    named = covered = 0
    for place, found in enumerate(re.finditer(r"\S+", prompt)):
        if all(image[place] == found[0] for image in orbit if len(image) == len(orbit[0])):
            continue  # fixed by the group; a swap for a phrase of another length shows in the other words' places
        named += 1
        covered += any(start < found.end() and end > found.start() for start, end in spans)
    return named, covered


def _reasons(gap: float, parity: float | None, named: int, covered: int, limits: Thresholds) -> tuple[str, ...]:
    reasons = []
    if gap > limits.gap:
        reasons.append(f"gap of equation 4 {gap:.3g} > {limits.gap:g} nats")
    if parity is not None and parity > limits.parity:
        reasons.append(f"next-word parity {parity:.3g} > {limits.parity:g} nats")
    if named and covered / named < limits.coverage:
        reasons.append(f"{covered} of {named} of its words of the axes are swapped")
    return tuple(reasons)
