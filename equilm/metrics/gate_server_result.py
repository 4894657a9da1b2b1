"""What the gate finds about a server: its limits, the differences for each prompt, and the outcome for all of them."""

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import EquiLMError
from .gate_answers import AnswerDifference
from .gate_result import Outcome, joint_outcome
from .gate_words import PromptWords


@dataclass(frozen=True)
class AnswerThresholds:
    """The limits that a server must keep to pass.

    Args:
        difference: the largest difference allowed between groups in the share of their answers in which something
            happens, above 0 and at most 1.
        significance: the probability that a fair server fails, over all prompts, above 0 and below 1.
    """

    difference: float = 0.2
    significance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.difference <= 1 or not 0 < self.significance < 1:
            raise EquiLMError(
                f"The thresholds difference={self.difference} and significance={self.significance} must be above 0, "
                "and the difference at most 1, the significance below 1."
            )


@dataclass(frozen=True)
class ServerPromptCheck:
    """A server's results for one prompt.

    Args:
        prompt: the prompt.
        difference: between the answers to the prompt and to its swaps; None if all swaps leave the prompt as it is.
        parity: between the answers and their own swaps, for the swaps that leave the prompt as it is; None if only the
            identity does.
        words: the words of the prompt.
        outcome: "pass", "fail" or "unknown".
        reasons: why the prompt does not pass; empty if it does.
    """

    prompt: str
    difference: AnswerDifference | None
    parity: AnswerDifference | None
    words: PromptWords
    outcome: Outcome
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "prompt": self.prompt,
            "outcome": self.outcome,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "parity": None if self.parity is None else self.parity.to_dict(),
            **self.words.to_dict(),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class ServerResult:
    """A server's results for all prompts.

    Args:
        model: the name of the model and of the server.
        order: |G|.
        answers: the number of answers to each prompt and to each of its swaps; twice as many to one without swaps.
        thresholds: the limits.
        prompts: the results for each prompt.
    """

    model: str
    order: int
    answers: int
    thresholds: AnswerThresholds
    prompts: tuple[ServerPromptCheck, ...]

    @property
    def outcome(self) -> Outcome:
        """ "fail" if a prompt fails, "unknown" if for one it cannot be told, otherwise "pass"."""
        return joint_outcome(prompt.outcome for prompt in self.prompts)

    @property
    def difference(self) -> float | None:
        """The largest difference between the answers to a prompt and to its swaps; None if no prompt has any."""
        return max((prompt.difference.value for prompt in self.prompts if prompt.difference is not None), default=None)

    @property
    def parity(self) -> float | None:
        """The largest difference between answers and their own swaps; None if no prompt is fixed by a swap."""
        return max((prompt.parity.value for prompt in self.prompts if prompt.parity is not None), default=None)

    @property
    def detectable(self) -> float:
        """The true difference that would have been found for any prompt, in at least 80 % of all checks."""
        return max(one.detectable for prompt in self.prompts for one in (prompt.difference, prompt.parity) if one)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "model": self.model,
            "kind": "server",
            "order": self.order,
            "outcome": self.outcome,
            "answers": self.answers,
            "difference": self.difference,
            "parity": self.parity,
            "detectable": self.detectable,
            "thresholds": asdict(self.thresholds),
            "prompts": [prompt.to_dict() for prompt in self.prompts],
        }
