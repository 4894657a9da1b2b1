"""How far two groups' texts are apart: total variation, with an interval that covers it and a test for no difference.

Samples of equal distributions differ by chance, and a distance is never negative, so total variation is biased upwards.
A percentile bootstrap adds the same bias once more: its interval can miss the value that it belongs to. Here the
interval comes from inverting a test, and holds each true distance that the measured one does not contradict.
"""

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

    The interval holds each distance δ that is not rejected at level ``1 - confidence``. For the test the difference of
    means is drawn from a normal distribution around
    the nearest difference of distance δ to the measured one. What is compared is how far a
    median-unbiased estimate of the distance is from δ, ordered as by Feldman and Cousins (1998): at δ = 0 only large
    distances speak against it, so that the test is one-sided there and the interval holds 0 for the share
    ``confidence`` of samples without a difference; at large δ it is two-sided.

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
        changes = np.array([a - b for a in labels for b in labels if a is not b])
        covariance = _covariance(one - other, changes[np.abs(changes).any(1)])
    else:
        covariance = mean_covariance(one) + mean_covariance(other)
    value = float(np.abs(difference).sum() / 2)
    low, high = _interval(difference, covariance, resamples, confidence, np.random.default_rng((seed, 0)))
    p_value = _p_value(one, other, paired, resamples, np.random.default_rng((seed, 1)))
    return DifferenceEstimate(value, min(low, value), max(high, value), p_value)


def _covariance(rows: Array, added: Array) -> Array:
    weights = np.concatenate([np.ones(len(rows)), np.full(len(added), _PSEUDO / len(added))])
    both = np.concatenate([rows, added])
    return np.asarray(np.cov(both, rowvar=False, aweights=weights, ddof=0) / len(rows))


def _interval(
    difference: Array, covariance: Array, resamples: int, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    labels, value = len(difference), np.abs(difference).sum() / 2
    noise = generator.multivariate_normal(np.zeros(labels), covariance, resamples, method="eigh")  # (R, labels)
    distances = np.linspace(0, min(1, value + 5 * np.sqrt(np.trace(covariance))), _DISTANCES)
    drawn = total_variation(_nearest(difference, distances)[:, None], -noise)  # (δ, R): what is measured if δ is true
    medians = np.maximum.accumulate(np.median(drawn, 1))

    def contradiction(measured: Array, true: Array) -> Array:
        unbiased = np.where(measured > medians[0], np.interp(measured, medians, distances), measured - medians[0])
        return np.asarray((unbiased - true) ** 2 - np.minimum(unbiased, 0) ** 2)

    observed = contradiction(np.array(value), distances)  # (δ,)
    as_large = (contradiction(drawn, distances[:, None]) >= observed[:, None]).sum(1)
    kept = distances[(1 + as_large) / (1 + resamples) > 1 - confidence]
    return float(kept.min(initial=1)), float(kept.max(initial=0))


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
    if not difference.any():  # no direction is nearer than another
        difference = np.where(np.arange(len(difference)) == 0, 1.0, -1.0 / (len(difference) - 1)) * 1e-12
    found = np.zeros((len(distances), len(difference)))
    for sign in (1, -1):
        support = np.flatnonzero(sign * difference > 0)
        sizes = np.sort(sign * difference[support])[::-1]
        thresholds = (sizes.cumsum() - distances[:, None]) / np.arange(1, len(sizes) + 1)  # (D, entries that are left)
        left = (sizes > thresholds).sum(1, keepdims=True).clip(1)
        threshold = np.take_along_axis(thresholds, left - 1, 1)  # (D, 1)
        found[:, support] = sign * (sign * difference[support] - threshold).clip(0)
    return found


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
