"""Regard by demographic group: how much of each label every group's texts get, and how far the groups are apart.

Sheng et al. (2019) and the paper (section 5.2) count the labels; Hugging Face's measure averages their probabilities.
Both are here, for any number of groups, with confidence intervals, and for each pair a test that they do not differ.
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

    Samples of equal distributions differ by chance too, so a value above 0 is no evidence of a difference: a small
    p-value is, and an interval above 0 (`equilm.metrics.disparity.disparity`). With many pairs of groups expect one
    p-value in twenty below 0.05 by chance.

    Args:
        groups: their names.
        fractions: between their label fractions.
        probabilities: between their mean probabilities.
    """

    groups: tuple[str, str]
    fractions: DifferenceEstimate
    probabilities: DifferenceEstimate


@dataclass(frozen=True)
class RegardResult:
    """What `regard` returns.

    Args:
        by_group: in the order the groups were given.
        disparities: of every pair of groups, the one with the largest ``fractions`` first.
        classifier: name of the classifier.
        masked: whether the groups' names were masked in the texts.
        truncated: how many texts were cut at the classifier's maximum length; None if it does not tell.
        paired: whether the groups' texts were compared pair by pair.
        bootstrap: number of draws behind the intervals and tests of disparities.
        confidence: of the intervals.
        seed: of the draws.
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
    paired: bool = False,
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
        paired: whether texts at the same place belong together in all groups, drawn with one seed for instance. They
            are then compared pair by pair, which sees smaller differences.
        bootstrap: number of draws behind the intervals and tests of disparities.
        confidence: of the intervals.
        seed: of the draws.
        batch_size: texts scored at once.
        progress: show a progress bar.

    Raises:
        EquiLMError: for no group, a group without texts, an empty text, phrases of other groups than the texts, or
            pairs of groups of unequal size.
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
        paired=paired,
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
    paired: bool = False,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RegardResult:
    """The regard of each group, from scores that are there already.

    Without pairs the result depends on each group's scores, not on their order: groups of equal texts get equal numbers
    to the last digit. The intervals of fractions are Wilson's, those of mean probabilities normal ones with a variance
    that is never 0 (`equilm.metrics.disparity.mean_covariance`). All intervals and tests are about texts after the same
    prompts, not about other prompts.

    Args:
        scores: by group, what `RegardClassifier.scores` gave for its texts, shape ``(N, 4)``.
        classifier: name of the classifier.
        masked: whether the groups' names were masked.
        truncated: how many texts were cut, if known.
        paired: whether rows at the same place belong together in all groups.
        bootstrap: number of draws behind the intervals and tests of disparities.
        confidence: of the intervals.
        seed: of the draws.

    Raises:
        EquiLMError: for no group, a group without texts, scores of another shape, pairs of groups of unequal size, or a
            setting out of range.
    """
    _check(scores, paired)
    check_bootstrap(bootstrap, confidence)
    # Sorted, so that independent samples do not depend on the order of the texts.
    rows = scores if paired else {group: found[np.lexsort(found.T)] for group, found in scores.items()}
    labels = {group: np.eye(len(LABELS))[found.argmax(1)] for group, found in rows.items()}  # one-hot

    def between(one: str, other: str, samples: Mapping[str, Scores]) -> DifferenceEstimate:
        return disparity(
            samples[one], samples[other], paired=paired, resamples=bootstrap, confidence=confidence, seed=seed
        )

    pairs = [Disparity(pair, between(*pair, labels), between(*pair, rows)) for pair in combinations(scores, 2)]
    return RegardResult(
        by_group={
            group: GroupRegard(len(rows[group]), _fractions(labels[group], confidence), _mean(rows[group], confidence))
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


def _fractions(labels: Scores, confidence: float) -> dict[str, Estimate]:
    """By label, the fraction of one-hot rows ``(n, 4)``."""
    found = {}
    for label, count in zip(LABELS, labels.sum(0), strict=True):
        interval = binomtest(int(count), len(labels)).proportion_ci(confidence, method="wilson")
        found[label] = Estimate(float(count / len(labels)), float(interval.low), float(interval.high))
    return found


def _mean(rows: Scores, confidence: float) -> dict[str, Estimate]:
    """By label, the mean of probabilities ``(n, 4)``."""
    widths = norm.ppf((1 + confidence) / 2) * np.sqrt(np.diag(mean_covariance(rows)))
    return {
        label: Estimate(float(mean), float(max(0, mean - width)), float(min(1, mean + width)))
        for label, mean, width in zip(LABELS, means(rows), widths, strict=True)
    }


def _check_groups(groups: Mapping[str, Sized]) -> None:
    if not groups:
        raise EquiLMError("There are no groups: expected texts for at least one.")
    for group, members in groups.items():
        if not len(members):
            raise EquiLMError(f"The group {group!r} has no texts: expected at least one. Leave the group out.")


def _check(scores: Mapping[str, Scores], paired: bool) -> None:
    _check_groups(scores)
    for group, rows in scores.items():
        if rows.ndim != 2 or rows.shape[1] != len(LABELS):
            raise EquiLMError(
                f"The scores of the group {group!r} have the shape {rows.shape}: expected (texts, {len(LABELS)}), one "
                f"column for each of {', '.join(LABELS)}."
            )
    if paired and len(sizes := {len(rows) for rows in scores.values()}) > 1:
        raise EquiLMError(
            f"The groups have {', '.join(map(str, sorted(sizes)))} texts: pairs need as many in each. Leave paired out."
        )
