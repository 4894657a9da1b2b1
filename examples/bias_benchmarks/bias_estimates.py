"""Estimates over items that come in clusters, with percentile bootstrap intervals of scipy that resample clusters."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

Array = NDArray[np.float64]

MIN_CLUSTERS = 10  # with fewer, a bootstrap interval says nothing
_RESAMPLES = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; without one, for fewer than `MIN_CLUSTERS` clusters, both ends are None."""

    value: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def estimate(rows: Array, clusters: Sequence[Hashable], statistic: Callable[[Array], Array]) -> Interval:
    """A function of sums over items, and its interval.

    Items of one cluster, such as those made from one template, are alike: clusters are drawn, not items.

    Args:
        rows: numbers of each item, shape ``(n, k)``.
        clusters: the cluster of each item.
        statistic: from sums ``(..., k)`` to values ``(...)``.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, [names[name] for name in clusters], rows)
    value = float(statistic(sums.sum(0)))
    if len(sums) < MIN_CLUSTERS:
        return Interval(value, None, None)

    def resampled(drawn: NDArray[np.int64], axis: int) -> Array:
        return statistic(sums[drawn].sum(-2))  # scipy puts the sample last: (resamples, clusters, k)

    found = bootstrap(
        (np.arange(len(sums)),),
        resampled,
        n_resamples=_RESAMPLES,
        batch=100,
        vectorized=True,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def ratio(numerator: Array, denominator: Array) -> Array:
    """A quotient; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
