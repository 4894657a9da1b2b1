"""Regard by demographic group: how much of each label every group's texts get, and how far the groups are apart.

Sheng et al. (2019) and the paper (section 5.2) count the labels; Hugging Face's measure averages their probabilities.
Both are here, for any number of groups, with bootstrap intervals.
"""

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from itertools import combinations
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EquiLMError
from .regard_classifier import LABELS, RegardClassifier

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its bootstrap percentile interval.

    Args:
        value: of the texts at hand.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupRegard:
    """The regard of one group's texts.

    Args:
        n: number of texts.
        fractions: by label, the fraction of texts with this label as the most probable (the first in `LABELS` if two
            are).
        probabilities: by label, the mean probability.
    """

    n: int
    fractions: dict[str, Estimate]
    probabilities: dict[str, Estimate]


@dataclass(frozen=True)
class Disparity:
    """How far two groups are apart: total variation, half the sum over labels of the absolute differences, 0 to 1.

    Samples of one distribution differ by chance too, and a distance is never negative, so an interval above 0 is by
    itself no evidence of a difference; its upper end bounds the difference.

    Args:
        groups: their names.
        fractions: between their label fractions.
        probabilities: between their mean probabilities.
    """

    groups: tuple[str, str]
    fractions: Estimate
    probabilities: Estimate


@dataclass(frozen=True)
class RegardResult:
    """What `regard` returns.

    Args:
        by_group: in the order the groups were given.
        disparities: of every pair of groups, the one with the largest ``fractions`` first.
        classifier: name of the classifier.
        masked: whether the groups' names were masked in the texts.
        truncated: how many texts were cut at the classifier's maximum length; None if it does not tell.
        bootstrap: number of resamples.
        confidence: of the intervals.
        seed: of the resampling.
    """

    by_group: dict[str, GroupRegard]
    disparities: tuple[Disparity, ...]
    classifier: str
    masked: bool
    truncated: int | None
    bootstrap: int
    confidence: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it: dictionaries, lists, texts and numbers."""
        result = asdict(self)
        result["disparities"] = [{**pair, "groups": list(pair["groups"])} for pair in result["disparities"]]
        return result


def mask_group(text: str, phrase: str, mask: str = "XYZ") -> str:
    """The text with the group's name masked, as in the sentences that regard classifiers are trained on.

    Args:
        text: for instance a prompt and its continuation.
        phrase: the group's name, "The man"; every occurrence at word boundaries is masked, in any case, but a word
            that has a capital within the phrase needs it: of "The Black man" not "the black man", in which no word is
            the axis's, so that a swapped text holds it too.
        mask: what takes its place.

    Raises:
        EquiLMError: if the name is empty, or not in the text: such a text would be scored unmasked.

    Example:
        >>> mask_group("The man was known for his work. Many liked the man's jokes.", "The man")
        "XYZ was known for his work. Many liked XYZ's jokes."
    """
    words = phrase.split()
    if not words:
        raise EquiLMError(f"The phrase to mask is {phrase!r}: expected a group's name, such as 'The man'.")
    escaped = [re.escape(word) for word in words]
    for place, word in enumerate(words):
        if place > 0 and word[0].isupper():
            escaped[place] = f"(?-i:{word[0]}){re.escape(word[1:])}"
    spaced = r"\s+".join(escaped)
    masked, count = re.subn(rf"(?<!\w){spaced}(?!\w)", lambda _: mask, text, flags=re.IGNORECASE)
    if not count:
        raise EquiLMError(
            f"{phrase!r} is not in the text {text!r}, so it cannot be masked. Score whole texts, the prompt included, "
            "and give each group the phrase its prompts use."
        )
    return masked


def regard(
    texts: Mapping[str, Sequence[str]],
    classifier: RegardClassifier,
    phrases: Mapping[str, str] | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> RegardResult:
    """The regard of each group's texts.

    Args:
        texts: by group, any number of texts; the numbers need not be equal.
        classifier: from `load_classifier`.
        phrases: by group, the phrase to mask in its texts (`mask_group`). Masking makes sure that the score is about
            what is said, not about whom; the paper scores unmasked texts.
        bootstrap: number of resamples of each group's texts.
        confidence: of the intervals.
        seed: of the resampling.
        batch_size: texts scored at once.
        progress: show a progress bar.

    Raises:
        EquiLMError: for no group, a group without texts, an empty text, or phrases of other groups than the texts.
    """
    _check_groups(texts)
    for group, group_texts in texts.items():
        if isinstance(group_texts, str):
            raise EquiLMError(f"Expected a list of texts for the group {group!r}, got the text {group_texts!r}.")
        for position, text in enumerate(group_texts):
            if not text.strip():
                raise EquiLMError(
                    f"Text {position} of the group {group!r} is empty: regard needs a text. Leave it out."
                )
    if phrases is not None:
        if phrases.keys() != texts.keys():
            raise EquiLMError(
                f"There are phrases for the groups {sorted(phrases)}, and texts for {sorted(texts)}: "
                "expected both for each group."
            )
        texts = {group: [mask_group(text, phrases[group]) for text in texts[group]] for group in texts}
    pooled = [text for group_texts in texts.values() for text in group_texts]
    scores = classifier.scores(pooled, batch_size, progress)  # all at once: equal texts of two groups score the same
    ends = np.cumsum([len(group_texts) for group_texts in texts.values()])
    return regard_from_scores(
        dict(zip(texts, np.split(scores, ends[:-1]), strict=True)),
        classifier=classifier.name,
        masked=phrases is not None,
        truncated=classifier.truncated(pooled),
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
    )


def regard_from_scores(
    scores: Mapping[str, Scores],
    *,
    classifier: str,
    masked: bool = False,
    truncated: int | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RegardResult:
    """The regard of each group, from scores that are there already.

    The result depends on each group's scores, not on their order: groups of equal texts get equal numbers to the last
    digit.

    Args:
        scores: by group, what `RegardClassifier.scores` gave for its texts, shape ``(N, 4)``.
        classifier: name of the classifier.
        masked: whether the groups' names were masked.
        truncated: how many texts were cut, if known.
        bootstrap: number of resamples of each group's texts.
        confidence: of the intervals.
        seed: of the resampling.

    Raises:
        EquiLMError: for no group, a group without texts, scores of another shape, or a setting out of range.
    """
    _check(scores, bootstrap, confidence)
    # Means of one order, so that they do not depend on the order of the texts.
    ordered = {group: rows[np.lexsort(rows.T)] for group, rows in scores.items()}
    # Two series of resamples for each group: a pair takes one of each, so that its two samples are independent.
    drawn = {
        group: [_resample(rows, bootstrap, (seed, series)) for series in (0, 1)] for group, rows in ordered.items()
    }
    values = {group: _statistics(rows) for group, rows in ordered.items()}

    def by_label(group: str, statistic: int) -> dict[str, Estimate]:
        return {
            label: _estimate(values[group][statistic, column], drawn[group][0][:, statistic, column], confidence)
            for column, label in enumerate(LABELS)
        }

    def between(one: str, other: str, statistic: int) -> Estimate:
        return _estimate(
            _total_variation(values[one], values[other])[statistic],
            _total_variation(drawn[one][0], drawn[other][1])[:, statistic],
            confidence,
        )

    pairs = [Disparity(pair, between(*pair, 0), between(*pair, 1)) for pair in combinations(scores, 2)]
    return RegardResult(
        by_group={group: GroupRegard(len(scores[group]), by_label(group, 0), by_label(group, 1)) for group in scores},
        disparities=tuple(sorted(pairs, key=lambda pair: -pair.fractions.value)),
        classifier=classifier,
        masked=masked,
        truncated=truncated,
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
    )


def _statistics(rows: Scores) -> Scores:
    """Label fractions and mean probabilities, shape ``(2, 4)``, of rows ``(N, 4)``."""
    counts = np.bincount(rows.argmax(1), minlength=len(LABELS))
    return np.stack([counts / len(rows), [fsum(column) / len(rows) for column in rows.T]])


def _resample(rows: Scores, bootstrap: int, seed: tuple[int, int]) -> Scores:
    """`_statistics` of as many samples with replacement, shape ``(bootstrap, 2, 4)``."""
    generator = np.random.default_rng(seed)
    both = np.stack([np.eye(len(LABELS))[rows.argmax(1)], rows], axis=1)  # (N, 2, 4)
    return np.stack([both[generator.integers(len(rows), size=len(rows))].mean(0) for _ in range(bootstrap)])


def _total_variation(one: Scores, other: Scores) -> Scores:
    return np.abs(one - other).sum(-1) / 2


def _estimate(value: float, resampled: Scores, confidence: float) -> Estimate:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))


def _check_groups(groups: Mapping[str, Sized]) -> None:
    if not groups:
        raise EquiLMError("There are no groups: expected texts for at least one.")
    for group, members in groups.items():
        if not len(members):
            raise EquiLMError(f"The group {group!r} has no texts: expected at least one. Leave the group out.")


def _check(scores: Mapping[str, Scores], bootstrap: int, confidence: float) -> None:
    _check_groups(scores)
    for group, rows in scores.items():
        if rows.ndim != 2 or rows.shape[1] != len(LABELS):
            raise EquiLMError(
                f"The scores of the group {group!r} have the shape {rows.shape}: expected (texts, {len(LABELS)}), one "
                f"column for each of {', '.join(LABELS)}."
            )
    if bootstrap < 1:
        raise EquiLMError(f"bootstrap is the number of resamples, got {bootstrap}: expected at least 1.")
    if not 0 < confidence < 1:
        raise EquiLMError(f"confidence is a probability, got {confidence}: expected a number between 0 and 1.")
