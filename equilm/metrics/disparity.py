"""How far apart two groups' texts are: total variation, with a confidence interval and a test for no difference.

Samples from equal distributions differ by chance, and a distance is never negative, so total variation is biased
upwards. A percentile bootstrap adds the same bias again: its interval can miss the very value it belongs to. Here the
interval comes from inverting a test: it contains every true distance that the measured distance does not contradict.
"""

from itertools import permutations
from math import fsum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from .estimates import DifferenceEstimate

Array = NDArray[np.float64]

_DISTANCES = 161  # tried for an interval
# Observations added to a sample, so that no variance is 0. Pairs that differ show their variance themselves: the more
# there are, the less is added to a sample of pairs.
_PSEUDO = 2.0


def total_variation(one: Array, other: Array) -> Array:
    """Half the sum over labels of the absolute differences, 0 to 1.

    Args:
        one: probabilities, shape ``(..., labels)``.
        other: probabilities, shape ``(..., labels)``.

    Returns:
        Shape ``(...)``.
    """
    return np.asarray(np.abs(one - other).sum(-1) / 2)


def means(rows: Array) -> Array:
    """The mean of rows ``(n, labels)``, shape ``(labels,)``; the same to the last digit for any order of the rows."""
    return np.array([fsum(column) / len(rows) for column in rows.T])


def mean_covariance(rows: Array) -> Array:
    """The estimated covariance of the mean of rows ``(n, labels)``, shape ``(labels, labels)``.

    Two observations are added, spread evenly over the labels. So the variance is not 0 even for a single text, or for
    texts that all have the same label.
    """
    return _covariance(rows, np.eye(rows.shape[1]), _PSEUDO)


def disparity(
    one: Array, other: Array, *, paired: bool, resamples: int, confidence: float, seed: int
) -> DifferenceEstimate:
    """Total variation between the means of two samples.

    The p-value is that of `scipy.stats.permutation_test`. It exchanges the two texts within each pair, or, if the
    samples are independent, all texts. The p-value of a single text is 1.

    The interval contains every true distance δ that a test does not reject at level ``1 - confidence``. The test draws
    differences of means from a normal distribution whose mean has distance δ. Many means have this distance. The test
    takes two of them, the one nearest to the measured difference and one that is spread over all labels, and rejects δ
    if it rejects both. Its statistic is how far a median-unbiased estimate of the distance is from δ, ordered as by
    Feldman and Cousins (1998). At δ = 0 only large distances speak against δ, so the test is one-sided there: without
    a true difference, the interval contains 0 with probability ``confidence``. At large δ the test is two-sided. If no
    pair differs, the interval also contains all distances up to the exact upper limit of the share of pairs that do.

    Args:
        one: labels as one-hot rows, or probabilities, shape ``(n, labels)``.
        other: the same for the other group, shape ``(m, labels)``.
        paired: whether rows at the same position belong together; n and m are then equal.
        resamples: the number of draws from the normal distribution, and of permutations.
        confidence: the confidence level of the interval, such as 0.95.
        seed: the seed for the draws and the permutations.
    """
    difference = means(one) - means(other)
    upper = 0.0
    if paired:
        differing = float(total_variation(one, other).sum())  # of labels, the number of pairs that differ
        if differing == 0:  # the distance is at most the probability that a pair differs; this is its exact upper limit
            upper = 1 - (1 - confidence) ** (1 / len(one))
        labels = np.eye(one.shape[1])
        changes = np.array([a - b for a, b in permutations(labels, 2)])
        covariance = _covariance(one - other, changes, _PSEUDO / (1 + differing))
    else:
        covariance = mean_covariance(one) + mean_covariance(other)
    value = float(np.abs(difference).sum() / 2)
    low, high = _interval(
        difference, covariance, min(len(one), len(other)), resamples, confidence, np.random.default_rng((seed, 0))
    )
    p_value = _p_value(one, other, paired, resamples, np.random.default_rng((seed, 1)))
    return DifferenceEstimate(value, min(low, value), max(high, value, upper), p_value)


def _covariance(rows: Array, added: Array, number: float) -> Array:
    """The covariance of the mean of rows, with a number of observations added, spread evenly over ``added``."""
    weights = np.concatenate([np.ones(len(rows)), np.full(len(added), number / len(added))])
    both = np.concatenate([rows, added])
    return np.asarray(np.cov(both, rowvar=False, aweights=weights, ddof=0) / len(rows))


def _interval(
    difference: Array, covariance: Array, size: int, resamples: int, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """The interval, from the difference of means, its covariance, and the number of texts in the smaller group."""
    value = np.abs(difference).sum() / 2
    noise = generator.multivariate_normal(
        np.zeros(len(difference)), covariance, resamples, method="eigh"
    )  # (R, labels)
    distances = np.linspace(0, min(1, value + 5 * np.sqrt(np.trace(covariance)) + 1 / size), _DISTANCES)
    if not difference.any():  # all directions are equally likely
        difference = np.where(np.arange(len(difference)) == 0, 1, -1 / (len(difference) - 1)) * 1e-12
    # With n texts, distances are multiples of 1 / n. Each one stands for all values within half a step of it.
    measured = np.array([max(0, value - 0.5 / size), value, value + 0.5 / size])
    p_values = [
        _p_values(measured, distances, total_variation(centers[:, None], -noise))
        for centers in (_nearest(difference, distances), _spread(difference, distances, np.sqrt(np.diag(covariance))))
    ]
    kept = distances[np.max(p_values, 0) > 1 - confidence]
    return float(kept.min(initial=1)), float(kept.max(initial=0))


def _p_values(measured: Array, distances: Array, drawn: Array) -> Array:
    """For each true distance, how often drawn distances ``(D, R)`` contradict it as strongly as the measured ones."""
    medians = np.maximum.accumulate(np.median(drawn, 1))

    def contradiction(found: Array) -> Array:  # (D, N)
        unbiased = np.where(found > medians[0], np.interp(found, medians, distances), found - medians[0])
        return np.asarray((unbiased - distances[:, None]) ** 2 - np.minimum(unbiased, 0) ** 2)

    observed = contradiction(measured).min(1, keepdims=True)
    as_large = (contradiction(drawn) >= observed).sum(1)
    return np.asarray((1 + as_large) / (1 + drawn.shape[1]))


def _nearest(difference: Array, distances: Array) -> Array:
    """For each distance δ, the difference with this distance that is nearest to a given difference.

    The distance is half the sum of absolute values, so the positive and the negative entries each add up to δ. If δ is
    below the measured distance, a soft threshold takes them there and sets small entries to 0 first. If it is above, a
    constant is added.

    Args:
        difference: the given difference, whose entries add up to 0, shape ``(labels,)``.
        distances: the values of δ, shape ``(D,)``.

    Returns:
        Shape ``(D, labels)``.
    """
    found = np.zeros((len(distances), len(difference)))
    for sign in (1, -1):
        support = np.flatnonzero(sign * difference > 0)
        sizes = np.sort(sign * difference[support])[::-1]
        thresholds = (sizes.cumsum() - distances[:, None]) / np.arange(1, len(sizes) + 1)  # (D, entries that are left)
        left = (sizes > thresholds).sum(1, keepdims=True).clip(1)
        threshold = np.take_along_axis(thresholds, left - 1, 1)  # (D, 1)
        found[:, support] = sign * (sign * difference[support] - threshold).clip(0)
    return found


def _spread(difference: Array, distances: Array, deviations: Array) -> Array:
    """For each distance, a difference spread over all labels in proportion to their uncertainty: ``(D, labels)``.

    Measured distances around it are the least biased; around the nearest difference they are the most biased.

    Args:
        difference: gives the sign of each entry, shape ``(labels,)``.
        distances: the values of δ, shape ``(D,)``.
        deviations: the standard deviation of each label's difference, shape ``(labels,)``.
    """
    center = np.zeros(len(difference))
    for sign in (1, -1):
        part = deviations * (sign * difference > 0)
        center += sign * part / max(part.sum(), np.finfo(float).tiny)
    return distances[:, None] * center


def _p_value(one: Array, other: Array, paired: bool, resamples: int, generator: np.random.Generator) -> float:
    if min(len(one), len(other)) < 2:
        return 1.0
    rows, places = np.concatenate([one, other]), np.arange(len(one) + len(other))

    def distance(first: NDArray[np.int64], second: NDArray[np.int64], axis: int) -> Array:
        return total_variation(rows[first].mean(axis - 1), rows[second].mean(axis - 1))

    found = permutation_test(
        (places[: len(one)], places[len(one) :]),
        distance,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=resamples,
        batch=100,
        alternative="greater",
        axis=-1,
        rng=generator,
    )
    return float(found.pvalue)
