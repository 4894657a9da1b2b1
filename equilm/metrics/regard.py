"""Regard by demographic group: how often each group's texts get each label, and how far apart the groups are.

Sheng et al. (2019) and the paper (section 5.2) count the labels; Hugging Face's measure averages their probabilities.
Both are here, for any number of groups, with confidence intervals, and with a test for each pair of groups.
"""

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from ..errors import EquiLMError
from .bootstrap import check_bootstrap
from .disparity import disparity, mean_covariance, means
from .estimates import DifferenceEstimate, Estimate
from .regard_classifier import LABELS, RegardClassifier

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class GroupRegard:
    """The regard of one group's texts.

    Args:
        n: the number of texts.
        fractions: for each label, the fraction of texts for which it is the most probable one (of equally probable
            labels, the first in `LABELS` counts).
        probabilities: for each label, its mean probability.
    """

    n: int
    fractions: dict[str, Estimate]
    probabilities: dict[str, Estimate]


@dataclass(frozen=True)
class Disparity:
    """How far apart two groups are: total variation, half the sum over labels of the absolute differences, 0 to 1.

    Samples from equal distributions also differ by chance, so a value above 0 is no evidence of a difference. A small
    p-value is, and so is an interval that does not contain 0 (see `equilm.metrics.disparity.disparity`). With many
    pairs of groups, expect one p-value in twenty below 0.05 by chance.

    Args:
        groups: the names of the groups.
        fractions: the distance between their label fractions.
        probabilities: the distance between their mean probabilities.
    """

    groups: tuple[str, str]
    fractions: DifferenceEstimate
    probabilities: DifferenceEstimate


@dataclass(frozen=True)
class RegardResult:
    """The result of `regard`.

    Args:
        by_group: the regard of each group, in the order in which the groups were given.
        disparities: the disparity of each pair of groups; the pair with the largest ``fractions`` comes first.
        classifier: the name of the classifier.
        masked: whether the groups' names were masked in the texts.
        truncated: how many texts were cut at the classifier's maximum length; None if unknown.
        paired: whether the groups' texts were compared pair by pair.
        bootstrap: the number of draws for the intervals and tests of disparities.
        confidence: the confidence level of the intervals.
        seed: the seed for the draws.
    """

    by_group: dict[str, GroupRegard]
    disparities: tuple[Disparity, ...]
    classifier: str
    masked: bool
    truncated: int | None
    paired: bool
    bootstrap: int
    confidence: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        result = asdict(self)
        result["disparities"] = [{**pair, "groups": list(pair["groups"])} for pair in result["disparities"]]
        return result


def mask_group(text: str, phrase: str, mask: str = "XYZ") -> str:
    """The text with the group's name masked, as in the sentences that regard classifiers are trained on.

    Args:
        text: for instance a prompt and its continuation.
        phrase: the group's name, such as "The man". Every occurrence at word boundaries is masked, in upper or lower
            case. Only a capital inside the phrase must be there: "The Black man" does not mask "the black man", which
            is no word of the axis and so is the same in a swapped text.
        mask: the text to put in its place.

    Raises:
        EquiLMError: if the name is empty, or is not in the text, which would then be scored unmasked.

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
    paired: bool = False,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> RegardResult:
    """The regard of each group's texts.

    Args:
        texts: for each group its texts; the numbers of texts may differ.
        classifier: from `load_classifier`.
        phrases: for each group the phrase to mask in its texts (see `mask_group`). Masking makes the score depend on
            what is said, not on whom it is said about; the paper scores unmasked texts.
        paired: whether texts at the same position belong together in all groups, for instance because they were drawn
            with the same seed. They are then compared pair by pair, which detects smaller differences.
        bootstrap: the number of draws for the intervals and tests of disparities.
        confidence: the confidence level of the intervals, such as 0.95.
        seed: the seed for the draws.
        batch_size: the number of texts to score at once.
        progress: whether to show a progress bar.

    Raises:
        EquiLMError: for no groups, a group without texts, an empty text, phrases for other groups than the texts, and
            groups of different sizes that are to be compared in pairs.
    """
    _check_groups(texts)
    for group, group_texts in texts.items():
        if isinstance(group_texts, str):
            raise EquiLMError(
                f"Expected a list of texts for the group {group!r}, got the text {group_texts!r}. Put a single text "
                "into a list."
            )
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
    scores = classifier.scores(pooled, batch_size, progress)  # all together, so that equal texts get equal scores
    ends = np.cumsum([len(group_texts) for group_texts in texts.values()])
    return regard_from_scores(
        dict(zip(texts, np.split(scores, ends[:-1]), strict=True)),
        classifier=classifier.name,
        masked=phrases is not None,
        truncated=classifier.truncated(pooled),
        paired=paired,
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
    )


def regard_from_scores(
    scores: Mapping[str, Scores],
    *,
    classifier: str,
    labels: Sequence[str] = LABELS,
    masked: bool = False,
    truncated: int | None = None,
    paired: bool = False,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RegardResult:
    """The regard of each group, from scores that were computed before.

    Unless ``paired``, the result does not depend on the order of a group's scores: groups with equal texts get equal
    numbers to the last digit. Fractions have Wilson intervals. Mean probabilities have normal intervals whose variance
    is never 0 (see `equilm.metrics.disparity.mean_covariance`). All intervals and tests are about more texts after the
    same prompts, not about other prompts.

    Args:
        scores: for each group the scores of its texts from `RegardClassifier.scores`, shape ``(N, labels)``.
        classifier: the name of the classifier.
        labels: the names of the columns; another classifier's texts are compared in the same way.
        masked: whether the groups' names were masked.
        truncated: how many texts were cut, if known.
        paired: whether rows at the same position belong together in all groups.
        bootstrap: the number of draws for the intervals and tests of disparities.
        confidence: the confidence level of the intervals, such as 0.95.
        seed: the seed for the draws.

    Raises:
        EquiLMError: for no groups, a group without texts, scores of another shape, groups of different sizes that are
            to be compared in pairs, and a setting out of range.
    """
    _check(scores, paired, labels)
    check_bootstrap(bootstrap, confidence)
    # Sorted, so that independent samples do not depend on the order of the texts.
    rows = scores if paired else {group: found[np.lexsort(found.T)] for group, found in scores.items()}
    likeliest = {group: np.eye(len(labels))[found.argmax(1)] for group, found in rows.items()}  # one-hot

    def between(one: str, other: str, samples: Mapping[str, Scores]) -> DifferenceEstimate:
        return disparity(
            samples[one], samples[other], paired=paired, resamples=bootstrap, confidence=confidence, seed=seed
        )

    pairs = [Disparity(pair, between(*pair, likeliest), between(*pair, rows)) for pair in combinations(scores, 2)]
    return RegardResult(
        by_group={
            group: GroupRegard(
                len(rows[group]),
                _fractions(likeliest[group], labels, confidence),
                _mean(rows[group], labels, confidence),
            )
            for group in rows
        },
        disparities=tuple(sorted(pairs, key=lambda pair: -pair.fractions.value)),
        classifier=classifier,
        masked=masked,
        truncated=truncated,
        paired=paired,
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
    )


def _fractions(rows: Scores, labels: Sequence[str], confidence: float) -> dict[str, Estimate]:
    """For each label, its fraction of the one-hot rows ``(n, labels)``."""
    found = {}
    for label, count in zip(labels, rows.sum(0), strict=True):
        interval = binomtest(int(count), len(rows)).proportion_ci(confidence, method="wilson")
        found[label] = Estimate(float(count / len(rows)), float(interval.low), float(interval.high))
    return found


def _mean(rows: Scores, labels: Sequence[str], confidence: float) -> dict[str, Estimate]:
    """For each label, the mean of its probabilities ``(n, labels)``."""
    widths = norm.ppf((1 + confidence) / 2) * np.sqrt(np.diag(mean_covariance(rows)))
    return {
        label: Estimate(float(mean), float(max(0, mean - width)), float(min(1, mean + width)))
        for label, mean, width in zip(labels, means(rows), widths, strict=True)
    }


def _check_groups(groups: Mapping[str, Sized]) -> None:
    if not groups:
        raise EquiLMError("There are no groups: expected texts for at least one.")
    for group, members in groups.items():
        if not len(members):
            raise EquiLMError(f"The group {group!r} has no texts: expected at least one. Leave the group out.")


def _check(scores: Mapping[str, Scores], paired: bool, labels: Sequence[str]) -> None:
    _check_groups(scores)
    for group, rows in scores.items():
        if rows.ndim != 2 or rows.shape[1] != len(labels):
            raise EquiLMError(
                f"The scores of the group {group!r} have the shape {rows.shape}: expected (texts, {len(labels)}), one "
                f"column for each of {', '.join(labels)}."
            )
    if paired and len(sizes := {len(rows) for rows in scores.values()}) > 1:
        raise EquiLMError(
            f"The groups have {', '.join(map(str, sorted(sizes)))} texts, but pairs need the same number in each "
            "group. Leave paired out."
        )
