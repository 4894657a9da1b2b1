"""What the gate finds: the limits, the outcome for each prompt, and the outcome for all of them.

An outcome is "pass", "fail", or "unknown": the samples were too few to tell.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import EquiLMError
from .gate_words import PromptWords

Outcome = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Thresholds:
    """The limits that a model must keep to pass.

    Args:
        gap: the largest |log P(gY|gX) - log P(Y|X)| allowed for a token, in nats.
        parity: the largest |log P(gv|X) - log P(v|X)| allowed for a swapped word v after a neutral prompt, in nats.
        coverage: the smallest share of the axes' words in the prompts that the model's table must swap, 0 to 1.
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
    """A model's results for one prompt.

    Args:
        prompt: the prompt.
        gap: the largest gap of equation 4 over all swaps, in nats: for generators over the tokens of their sampled
            continuations, for masked models over the words at each place, for classifiers over the labels. The gap of
            a score without labels is in the score's own unit.
        parity: the largest difference between the log-probabilities of swapped words right after the prompt, for masked
            models in place of a mask, in nats; None if the prompt names a group, since no parity is promised then, and
            for classifiers.
        words: the words of the prompt.
        reasons: why the prompt fails; empty if it passes.
    """

    prompt: str
    gap: float
    parity: float | None
    words: PromptWords
    reasons: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """Whether all results are within the thresholds."""
        return "fail" if self.reasons else "pass"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "prompt": self.prompt,
            "outcome": self.outcome,
            "gap": self.gap,
            "parity": self.parity,
            **self.words.to_dict(),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class GateResult:
    """A model's results for all prompts.

    Args:
        model: the name of the model.
        kind: what it is: "causal", "encoder-decoder", "masked" or "classifier".
        order: |G|.
        thresholds: the limits.
        prompts: the results for each prompt.
    """

    model: str
    kind: str
    order: int
    thresholds: Thresholds
    prompts: tuple[PromptCheck, ...]

    @property
    def outcome(self) -> Outcome:
        """ "pass" if every prompt passes."""
        return joint_outcome(prompt.outcome for prompt in self.prompts)

    @property
    def gap(self) -> float:
        """The largest gap of all prompts, in nats."""
        return max(prompt.gap for prompt in self.prompts)

    @property
    def parity(self) -> float | None:
        """The largest difference after a neutral prompt, in nats; None if it was measured after no prompt."""
        return max((prompt.parity for prompt in self.prompts if prompt.parity is not None), default=None)

    @property
    def coverage(self) -> float:
        """The share of the axes' words in the prompts that the table swaps; 1 if the prompts contain none."""
        named = sum(len(prompt.words.named) for prompt in self.prompts)
        unswapped = sum(len(prompt.words.unswapped) for prompt in self.prompts)
        return 1 - unswapped / named if named else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "model": self.model,
            "kind": self.kind,
            "order": self.order,
            "outcome": self.outcome,
            "gap": self.gap,
            "parity": self.parity,
            "coverage": self.coverage,
            "thresholds": asdict(self.thresholds),
            "prompts": [prompt.to_dict() for prompt in self.prompts],
        }


def joint_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """ "fail" if one fails, otherwise "unknown" if one is unknown, otherwise "pass"."""
    found = set(outcomes)
    return "fail" if "fail" in found else "unknown" if "unknown" in found else "pass"
