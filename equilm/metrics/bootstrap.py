"""Bootstrap intervals of means over continuations of several prompts."""

import numpy as np
from numpy.typing import NDArray

from ..errors import EquiLMError
from .estimates import Estimate

Array = NDArray[np.float64]


def check_bootstrap(resamples: int, confidence: float) -> None:
    """Refuse settings that give no interval.

    Raises:
        EquiLMError: names the setting that is out of range.
    """
    if resamples < 1:
        raise EquiLMError(f"bootstrap is the number of resamples, got {resamples}: expected at least 1.")
    if not 0 < confidence < 1:
        raise EquiLMError(f"confidence={confidence} must be between 0 and 1, such as 0.95.")


def clustered_means(
    totals: Array, counts: Array, *, resamples: int, confidence: float, seed: int
) -> NDArray[np.object_]:
    """Means with percentile intervals. Prompts are resampled, and the continuations within each prompt.

    Texts after the same prompt are alike. Resampling them as if each had its own prompt would make the intervals too
    short.

    Args:
        totals: one sum for each continuation, for example over its tokens, shape ``(..., P, n)``: n continuations of
            each of P prompts.
        counts: how many numbers each sum adds up, for example the number of tokens, shape ``(P, n)``.
        resamples: the number of bootstrap samples.
        confidence: the confidence level of the intervals, such as 0.95.
        seed: the seed for the resampling.

    Returns:
        `Estimate` objects of Σ totals / Σ counts, shape ``totals.shape[:-2]``.
    """
    prompts, continuations = counts.shape
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, *totals.shape[:-2]))
    for sample in means:
        rows = generator.integers(prompts, size=(prompts, 1))
        columns = generator.integers(continuations, size=(prompts, continuations))
        sample[...] = totals[..., rows, columns].sum((-2, -1)) / counts[rows, columns].sum()
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    values = totals.sum((-2, -1)) / counts.sum()
    estimates = np.empty(values.shape, dtype=object)
    for place in np.ndindex(values.shape):
        estimates[place] = Estimate(float(values[place]), float(low[place]), float(high[place]))
    return estimates
