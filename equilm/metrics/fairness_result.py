"""What the group_fairness metric finds, for people and for JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from .estimates import Estimate


@dataclass(frozen=True)
class ElementGap:
    """The gap of equation 4 for one group element.

    Args:
        element: g.
        swaps: what g does to the first list of each axis it moves, such as "man→woman".
        gap: the mean with its interval.
        largest: the largest.
        moved: the fraction of continuations that g changes, their prompts included: where it changes nothing, the gap
            is 0 and nothing is tested.
    """

    element: int
    swaps: str
    gap: Estimate
    largest: float
    moved: float


@dataclass(frozen=True)
class Gap:
    """The gap of equation 4, |log P(gY|gX) - log P(Y|X)|, in nats.

    Args:
        gap: the mean over continuations and elements, with its interval.
        largest: the largest.
        by_element: for each element but the identity.
    """

    gap: Estimate
    largest: float
    by_element: tuple[ElementGap, ...]


@dataclass(frozen=True)
class MemberParity:
    """How probable one group's words are as the next word of neutral prompts.

    Args:
        member: the group's word of the first list.
        probability: of all its words together, the mean over the prompts.
        share: of the probability of all groups' words, the mean over the prompts; 1/d for all if they are equal.
    """

    member: str
    probability: Estimate
    share: Estimate


@dataclass(frozen=True)
class ListParity:
    """The same for one list.

    Args:
        words: its words, as they are written after the prompt.
        probability: of all of them together.
        shares: of each word.
        largest_log_ratio: the largest |log P(gv|X) - log P(v|X)| over its words v, the prompts and g.
    """

    words: tuple[str, ...]
    probability: Estimate
    shares: tuple[Estimate, ...]
    largest_log_ratio: float


@dataclass(frozen=True)
class Parity:
    """Parity of one axis's words after prompts that the group leaves as they are: P(gv|X) against P(v|X).

    Args:
        axis: the axis.
        mean_log_ratio: the mean of |log P(gv|X) - log P(v|X)| over prompts, words v and elements g that swap them.
        largest_log_ratio: the largest.
        members: for each group.
        lists: for each list of words.
    """

    axis: str
    mean_log_ratio: Estimate
    largest_log_ratio: float
    members: tuple[MemberParity, ...]
    lists: tuple[ListParity, ...]


@dataclass(frozen=True)
class GroupFairnessResult:
    """How far a generator is from P(gY|gX) = P(Y|X) (paper, eq. 4).

    Args:
        level: "token" for a model's next-token distributions; "sequence" for a distribution over whole continuations
            of tokens, "text" for one over texts.
        axes: the axes, each a factor of the group.
        order: |G|.
        token_gap: of log P(y_t | X, y_<t) for each token; at the token level only, where it bounds the gap of whole
            continuations by its sum.
        continuation_gap: of log P(Y|X) for whole continuations; at the other levels.
        continuation_gap_per_token: the same, divided by the number of tokens of Y, in the mean over continuations;
            None at the text level without a tokenizer.
        parity: for each axis; empty without neutral prompts.
        prompts: the number of prompts.
        moved_prompts: how many of them hold a word of the axes.
        neutral_prompts: the number of neutral prompts.
        num_continuations: continuations of each prompt.
        unmapped: for each axis the lists that the tokenizer cannot carry, which are not tested.
        confidence: of the intervals.
        bootstrap: number of resamples.
        seed: of continuations and resamples.
    """

    level: Literal["token", "sequence", "text"]
    axes: tuple[str, ...]
    order: int
    token_gap: Gap | None
    continuation_gap: Gap | None
    continuation_gap_per_token: Gap | None
    parity: tuple[Parity, ...]
    prompts: int
    moved_prompts: int
    neutral_prompts: int
    num_continuations: int
    unmapped: dict[str, tuple[tuple[str, ...], ...]]
    confidence: float
    bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"Group fairness of {', '.join(self.axes)} (|G| = {self.order}) at the {self.level} level; "
            f"{100 * self.confidence:g} % intervals",
            f"{self.prompts} prompts, {self.moved_prompts} of them with a word of the axes, "
            f"{self.num_continuations} continuations each",
        ]
        gaps = {
            "per token": self.token_gap,
            "per continuation": self.continuation_gap,
            "per continuation, divided by its tokens": self.continuation_gap_per_token,
        }
        for what, found in gaps.items():
            if found is not None:
                lines += _table(what, found)
        for parity in self.parity:
            lines.append(
                f"next word of {self.neutral_prompts} neutral prompts, {parity.axis}: |log P(gv|X) - log P(v|X)| mean "
                f"{_interval(parity.mean_log_ratio)}, largest {parity.largest_log_ratio:.2e}"
            )
            lines += [
                f"  {member.member:20} share {member.share.value:.3f} [{member.share.low:.3f}, {member.share.high:.3f}]"
                f", probability {_interval(member.probability)}"
                for member in parity.members
            ]
        for axis, lists in self.unmapped.items():
            lines.append(f"not tested, as this tokenizer cannot carry them: {axis}: {', '.join(map('/'.join, lists))}")
        return "\n".join(lines)


def _table(what: str, found: Gap) -> list[str]:
    rows = [
        f"  {entry.swaps:20} mean {_interval(entry.gap)}, largest {entry.largest:.2e}, {100 * entry.moved:.0f} % moved"
        for entry in found.by_element
    ]
    head = f"|log P(gY|gX) - log P(Y|X)| {what}: mean {_interval(found.gap)}, largest {found.largest:.2e}"
    return [head, *rows]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.2e} [{estimate.low:.2e}, {estimate.high:.2e}]"
