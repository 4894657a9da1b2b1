"""Do two groups get the same answers? Tests on sampled answers, for generators whose probabilities cannot be seen.

An answer is described by *events*: it contains a certain word, begins with it, or is a certain text. By equation 4 each
event has the same probability for all groups. The measured difference is the largest one of its shares: it estimates a
lower bound of the total variation between the two distributions.

The p-values are those of randomization tests. Without a true difference, it does not matter which group an answer was
given to (after a neutral prompt: which of its swaps was given), so all assignments are equally likely. For each of many
random ones the largest standardized difference of all events is computed; an event's p-value is the share of these
that are at least as large as its own. So the p-values hold for all events of a prompt at once.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]
Event = tuple[str, str]

_POWER = 0.8  # of the difference that is reported as detectable
_CHUNK = 500  # random assignments at once
_KINDS = ("contain", "begin with", "are")  # of events; of two that differ as much, the first is reported
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class AnswerDifference:
    """The largest difference between groups in the share of their answers in which an event happens.

    Args:
        value: the difference, 0 to 1.
        event: what such answers do, such as "contain 'he'"; None if nothing is common enough to differ so much.
        shares: the smallest and the largest share of a group.
        p_value: the probability of a difference as telling as this one for some event, if the groups do not differ.
        adjusted_p_value: the p-value after Holm's correction for all tests of a check.
        needed: a measured difference above this is certain to be significant, whatever of these answers it is in.
        detectable: a true difference of this size is found in at least 80 % of all checks with as many answers, even
            where it is hardest to find: in what happens in half of all answers.
    """

    value: float
    event: str | None
    shares: tuple[float, float]
    p_value: float
    adjusted_p_value: float
    needed: float
    detectable: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "shares": list(self.shares)}


def compare_groups(
    answers: Sequence[Sequence[str]], threshold: float, level: float, rng: np.random.Generator
) -> AnswerDifference:
    """Compare the answers to a prompt and to its swaps, all swapped back.

    Args:
        answers: for each of K groups n answers.
        threshold: the smallest difference of interest. Events that are too rare to differ so much are left out.
        level: the strictest level at which the p-value may be asked to be significant.
        rng: draws the random assignments.
    """
    groups, n = len(answers), len(answers[0])
    found = [events(answer) for of_group in answers for answer in of_group]
    named = _common(found, threshold * n)
    happens = _indicators(found, named)  # (K·n, E)
    mean = happens.mean(0)
    variance = 2 * mean * (1 - mean) / n  # of the difference between two groups

    def shares(labels: NDArray[np.int64]) -> Array:  # (R, K·n) to (R, K, E)
        return np.stack([(labels == k).astype(np.float32) @ happens for k in range(groups)], 1) / n

    own = np.repeat(np.arange(groups), n)

    def draw(count: int) -> NDArray[np.int64]:
        return rng.permuted(np.tile(own, (count, 1)), axis=1)

    return _test(named, shares, own, draw, variance, 0.5 / n, threshold, level)


def compare_swaps(
    swaps: Sequence[Sequence[str]],
    compose: NDArray[np.int64],
    threshold: float,
    level: float,
    rng: np.random.Generator,
) -> AnswerDifference:
    """Compare answers with their own swaps, where the prompt is fixed by these swaps: parity.

    Args:
        swaps: for each of S swaps s that fix the prompt, first the identity, s·Y for the same N answers Y.
        compose: ``compose[s, r]`` is the place of s·r in ``swaps``, shape ``(S, S)``.
        threshold: as in `compare_groups`.
        level: as in `compare_groups`.
        rng: as in `compare_groups`.
    """
    count, n = len(swaps), len(swaps[0])
    found = [[events(answer) for answer in of_swap] for of_swap in swaps]
    common = _common([one for of_swap in found for one in of_swap], threshold * n)
    happens = np.stack([_indicators(of_swap, common) for of_swap in found])  # (S, N, E)
    # The mean over pairs of swaps of the squared difference within an answer: the same for all assignments.
    variance = happens.var(0).sum(0) * 2 * count / (count - 1) / n**2
    named = [event for event, moves in zip(common, variance > 0, strict=True) if moves]
    happens, variance = happens[..., variance > 0], variance[variance > 0]

    def shares(labels: NDArray[np.int64]) -> Array:  # each answer replaced by a swap of it: (R, N) to (R, S, E)
        drawn = [(labels == r).astype(np.float32) for r in range(count)]
        return np.stack([sum(drawn[r] @ happens[compose[s, r]] for r in range(count)) for s in range(count)], 1) / n

    def draw(number: int) -> NDArray[np.int64]:
        return rng.integers(count, size=(number, n))

    return _test(named, shares, np.zeros(n, dtype=np.int64), draw, variance, 1 / n, threshold, level)


def adjust(differences: Sequence[AnswerDifference]) -> list[AnswerDifference]:
    """The same with p-values corrected by Holm's method, which keeps the chance of any false alarm at the level."""
    order = np.argsort([one.p_value for one in differences], kind="stable")
    adjusted, largest = list(differences), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(differences) - rank) * differences[place].p_value))
        adjusted[place] = replace(differences[place], adjusted_p_value=largest)
    return adjusted


def events(answer: str) -> frozenset[Event]:
    """What happens in an answer: the words it contains, the one it begins with, and the whole text, without case."""
    text = answer.casefold()
    words = _WORD.findall(text)
    found = {("contain", word) for word in words}
    found.update(("begin with", word) for word in words[:1])
    found.add(("are", text.strip()))
    return frozenset(found)


def _common(found: Sequence[frozenset[Event]], least: float) -> list[Event]:
    """The events that happen often enough. It does not matter in which group they do, so the test stays exact."""
    counts = Counter(event for one in found for event in one)
    common = [event for event, count in counts.items() if count >= least and count < len(found)]
    return sorted(common, key=lambda event: (_KINDS.index(event[0]), event[1]))


def _indicators(found: Sequence[frozenset[Event]], named: Sequence[Event]) -> NDArray[np.float32]:
    return np.array([[event in one for event in named] for one in found], dtype=np.float32).reshape(len(found), -1)


def _test(
    named: Sequence[Event],
    shares: Any,
    own: NDArray[np.int64],
    draw: Any,
    variance: Array,
    largest_variance: float,
    threshold: float,
    level: float,
) -> AnswerDifference:
    """The test, from the shares under an assignment and random assignments."""
    critical, spread = float(norm.isf(level / 2)), largest_variance
    found: dict[str, Any] = {"value": 0.0, "event": None, "shares": (0.0, 0.0), "p_value": 1.0}
    if named:
        observed = shares(own[None])[0]  # (groups, E)
        differences, deviations = np.ptp(observed, axis=0), np.sqrt(variance)
        draws = math.ceil(20 / level)
        drawn = np.concatenate([(np.ptp(shares(draw(n)), axis=1) / deviations).max(-1) for n in _chunks(draws)])
        exceeded = (drawn[:, None] >= differences / deviations - 1e-6).sum(0)  # rounding must not tell equals apart
        p_values = (1 + exceeded) / (1 + draws)
        # To be significant, a difference has to exceed all drawn ones but this many.
        critical = max(critical, float(np.sort(drawn)[::-1][int(level * (1 + draws)) - 1]))
        spread = float(variance.max())
        over = [int(place) for place in np.flatnonzero(differences > threshold)]

        def rank(place: int) -> tuple[float, ...]:
            """Of the events above the threshold the most certain one; of an event and its swap the one that happens."""
            return -p_values[place] if over else 0, differences[place], observed[0, place], -place

        best = max(over or range(len(named)), key=rank)
        found["value"], found["p_value"] = float(differences[best]), float(p_values[best])
        found["event"] = f"{named[best][0]} {named[best][1]!r}"
        found["shares"] = float(observed[:, best].min()), float(observed[:, best].max())
    worst = math.sqrt(largest_variance)
    detectable = max(critical * worst, threshold) + float(norm.ppf(_POWER)) * worst
    return AnswerDifference(
        **found,
        adjusted_p_value=found["p_value"],
        needed=critical * math.sqrt(spread),
        detectable=min(1.0, detectable),
    )


def _chunks(total: int) -> Iterator[int]:
    for start in range(0, total, _CHUNK):
        yield min(_CHUNK, total - start)
