"""How far two groups' texts are apart: total variation, with an interval that covers it and a test for no difference.

Samples of equal distributions differ by chance, and a distance is never negative, so total variation is biased upwards.
A percentile bootstrap adds the same bias once more: its interval can miss the value that it belongs to. Here the
interval comes from inverting a test, and holds each true distance that the measured one does not contradict.
"""

from itertools import permutations
from math import fsum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from .estimates import DifferenceEstimate

Array = NDArray[np.float64]

_DISTANCES = 161  # tried for an interval
_PSEUDO = 2.0  # observations added for a variance, so that no sample has variance 0


def total_variation(one: Array, other: Array) -> Array:
    """Half the sum over labels of the absolute differences, 0 to 1.

    Args:
        one: probabilities, shape ``(..., labels)``.
        other: likewise.

    Returns:
        Shape ``(...)``.
    """
    return np.asarray(np.abs(one - other).sum(-1) / 2)


def means(rows: Array) -> Array:
    """The mean of rows ``(n, labels)``, whatever their order to the last digit; shape ``(labels,)``."""
    return np.array([fsum(column) / len(rows) for column in rows.T])


def mean_covariance(rows: Array) -> Array:
    """The estimated covariance of the mean of rows ``(n, labels)``, shape ``(labels, labels)``.

    Two observations are added, spread evenly over the labels, so that one text, or texts of one label, leave doubt.
    """
    return _covariance(rows, np.eye(rows.shape[1]))


def disparity(
    one: Array, other: Array, *, paired: bool, resamples: int, confidence: float, seed: int
) -> DifferenceEstimate:
    """Total variation between the means of two samples.

    The p-value is that of `scipy.stats.permutation_test`: it exchanges the texts of a pair, or, of independent samples,
    all texts. A single text shows no difference: its p-value is 1.

    The interval holds each true distance δ that a test does not reject at level ``1 - confidence``. The test draws
    differences of means from a normal distribution around one of distance δ. There are many of these; it takes the one
    nearest to the measured difference and one that goes into all labels, and rejects δ if it rejects both. It compares
    how far a median-unbiased estimate of the distance is from δ, ordered as by Feldman and Cousins (1998): at δ = 0
    only large distances speak against δ, so the test is one-sided there, and the interval holds 0 in the share
    ``confidence`` of samples without a difference. At large δ it is two-sided.

    Args:
        one: labels as one-hot rows, or probabilities, shape ``(n, labels)``.
        other: the other group's, shape ``(m, labels)``.
        paired: whether rows at the same place belong together; n and m are then equal.
        resamples: the number of draws and of permutations.
        confidence: of the interval.
        seed: of both.
    """
    difference = means(one) - means(other)
    if paired:
        labels = np.eye(one.shape[1])
        changes = np.array([a - b for a, b in permutations(labels, 2)])
        covariance = _covariance(one - other, changes)
    else:
        covariance = mean_covariance(one) + mean_covariance(other)
    value = float(np.abs(difference).sum() / 2)
    low, high = _interval(
        difference, covariance, min(len(one), len(other)), resamples, confidence, np.random.default_rng((seed, 0))
    )
    p_value = _p_value(one, other, paired, resamples, np.random.default_rng((seed, 1)))
    return DifferenceEstimate(value, min(low, value), max(high, value), p_value)


def _covariance(rows: Array, added: Array) -> Array:
    weights = np.concatenate([np.ones(len(rows)), np.full(len(added), _PSEUDO / len(added))])
    both = np.concatenate([rows, added])
    return np.asarray(np.cov(both, rowvar=False, aweights=weights, ddof=0) / len(rows))


def _interval(
    difference: Array, covariance: Array, size: int, resamples: int, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """The interval from the difference of means, its covariance, and the smaller group's number of texts."""
    value = np.abs(difference).sum() / 2
    noise = generator.multivariate_normal(
        np.zeros(len(difference)), covariance, resamples, method="eigh"
    )  # (R, labels)
    distances = np.linspace(0, min(1, value + 5 * np.sqrt(np.trace(covariance)) + 1 / size), _DISTANCES)
    if not difference.any():  # no direction is more likely than another
        difference = np.where(np.arange(len(difference)) == 0, 1, -1 / (len(difference) - 1)) * 1e-12
    # Distances of n texts are multiples of 1 / n: each stands for all within half a step of it.
    measured = np.array([max(0, value - 0.5 / size), value, value + 0.5 / size])
    p_values = [
        _p_values(measured, distances, total_variation(centers[:, None], -noise))
        for centers in (_nearest(difference, distances), _spread(difference, distances, np.sqrt(np.diag(covariance))))
    ]
    kept = distances[np.max(p_values, 0) > 1 - confidence]
    return float(kept.min(initial=1)), float(kept.max(initial=0))


def _p_values(measured: Array, distances: Array, drawn: Array) -> Array:
    """For each true distance how often drawn distances ``(D, R)`` speak as much against it as the measured ones."""
    medians = np.maximum.accumulate(np.median(drawn, 1))

    def contradiction(found: Array) -> Array:  # (D, N)
        unbiased = np.where(found > medians[0], np.interp(found, medians, distances), found - medians[0])
        return np.asarray((unbiased - distances[:, None]) ** 2 - np.minimum(unbiased, 0) ** 2)

    observed = contradiction(measured).min(1, keepdims=True)
    as_large = (contradiction(drawn) >= observed).sum(1)
    return np.asarray((1 + as_large) / (1 + drawn.shape[1]))


def _nearest(difference: Array, distances: Array) -> Array:
    """The differences of each distance δ, half the sum of absolute values, that are nearest to a difference.

    The positive and the negative part each add up to δ: below the measured distance by a soft threshold, which leaves
    out small entries first, above it by a constant.

    Args:
        difference: adds up to 0, shape ``(labels,)``.
        distances: shape ``(D,)``.

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
    """The differences of each distance that go into all labels, as far as each is uncertain, shape ``(D, labels)``.

    Their measured distance is the least biased of all, that of the nearest differences the most.

    Args:
        difference: whose signs they have, shape ``(labels,)``.
        distances: shape ``(D,)``.
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
