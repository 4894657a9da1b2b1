"""The results of the group_fairness metric, with their text and JSON forms."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from .estimates import Estimate


@dataclass(frozen=True)
class ElementGap:
    """The gap of equation 4 for one group element.

    Args:
        element: the group element g.
        swaps: what g does to the first list of each axis that it changes, such as "man→woman".
        gap: the mean gap with its interval.
        largest: the largest gap.
        moved: the fraction of texts, prompt and continuation, that g changes. For a text that g does not change, the
            gap is 0 and nothing is tested.
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
        largest: the largest gap.
        by_element: the gap of each element except the identity.
    """

    gap: Estimate
    largest: float
    by_element: tuple[ElementGap, ...]


@dataclass(frozen=True)
class MemberParity:
    """How probable one group's words are as the next word after neutral prompts.

    Args:
        member: the group's word in the first list.
        probability: the total probability of the group's words, averaged over the prompts.
        share: the group's share of the probability of all groups' words, averaged over the prompts; 1/d for each of d
            groups if they are treated alike.
    """

    member: str
    probability: Estimate
    share: Estimate


@dataclass(frozen=True)
class ListParity:
    """How probable the words of one list are as the next word after neutral prompts.

    Args:
        words: its words, as they are written after the prompt.
        probability: the total probability of its words, averaged over the prompts.
        shares: the share of each word in this probability.
        largest_log_ratio: the largest |log P(gv|X) - log P(v|X)| over its words v, the prompts and g.
    """

    words: tuple[str, ...]
    probability: Estimate
    shares: tuple[Estimate, ...]
    largest_log_ratio: float


@dataclass(frozen=True)
class Parity:
    """Parity of one axis's words after prompts that are fixed by the group: P(gv|X) against P(v|X).

    Args:
        axis: the axis.
        mean_log_ratio: the mean of |log P(gv|X) - log P(v|X)| over prompts, words v and elements g that swap them.
        largest_log_ratio: the largest of these values.
        members: the parity of each group.
        lists: the parity of each list of words.
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
        axes: the names of the axes; each is a factor of the group.
        order: |G|.
        token_gap: the gap in log P(y_t | X, y_<t) of each token. Only at the token level; the sum over the tokens
            bounds the gap of the whole continuation.
        continuation_gap: the gap in log P(Y|X) of whole continuations. Only at the other two levels.
        continuation_gap_per_token: the same, divided by the number of tokens of Y before averaging; None at the text
            level without a tokenizer.
        parity: the parity of each axis; empty without neutral prompts.
        prompts: the number of prompts.
        moved_prompts: how many of the prompts contain a word of the axes.
        neutral_prompts: the number of neutral prompts.
        num_continuations: the number of continuations of each prompt.
        unmapped: for each axis, the lists that are not tested because the tokenizer has no single tokens for them.
        confidence: the confidence level of the intervals.
        bootstrap: the number of resamples.
        seed: the seed for continuations and resamples.
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
        """As plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"Group fairness of {', '.join(self.axes)} (|G| = {self.order}) at the {self.level} level; "
            f"{100 * self.confidence:g} % intervals",
            f"{self.prompts} prompts, {self.moved_prompts} of them with a word of the axes, "
            f"{self.num_continuations} continuations of each",
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
            listed = ", ".join(map("/".join, lists))
            lines.append(f"not tested, as this tokenizer has no single tokens for them: {axis}: {listed}")
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
