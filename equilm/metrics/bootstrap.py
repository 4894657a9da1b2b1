"""Bootstrap intervals of means over continuations of several prompts."""

import numpy as np
from numpy.typing import NDArray

from ..errors import EquiLMError
from .estimates import Estimate

Array = NDArray[np.float64]


def check_bootstrap(resamples: int, confidence: float) -> None:
    """Refuse settings no interval can be made with.

    Raises:
        EquiLMError: names the setting.
    """
    if resamples < 1:
        raise EquiLMError(f"bootstrap is the number of resamples, got {resamples}: expected at least 1.")
    if not 0 < confidence < 1:
        raise EquiLMError(f"confidence={confidence} must be between 0 and 1, such as 0.95.")


def clustered_means(
    totals: Array, counts: Array, *, resamples: int, confidence: float, seed: int
) -> NDArray[np.object_]:
    """Means and percentile intervals, resampling prompts and, within each, its continuations.

    Texts after one prompt are alike, so resampling them as if each had its own prompt would give too short intervals.

    Args:
        totals: sums over the tokens, say, of each continuation, shape ``(..., P, n)``: n continuations of P prompts.
        counts: the number of tokens summed over, shape ``(P, n)``.
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the draws.

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
