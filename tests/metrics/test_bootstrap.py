"""Bootstrap intervals cover what they are said to, and know that texts after one prompt are alike."""

import numpy as np
import pytest

from equilm import EquiLMError
from equilm.metrics.bootstrap import check_bootstrap, clustered_means


def test_the_value_is_a_ratio_of_sums() -> None:
    totals = np.array([[[1.0, 5.0], [0.0, 6.0]], [[2.0, 2.0], [2.0, 2.0]]])  # two series, 2 prompts, 2 continuations
    counts = np.array([[1.0, 1.0], [2.0, 2.0]])
    first, second = clustered_means(totals, counts, resamples=500, confidence=0.9, seed=0)
    assert first.value == 12 / 6 and first.low < 2 < first.high
    assert second.value == 8 / 6
    again, _ = clustered_means(totals, counts, resamples=500, confidence=0.9, seed=0)
    assert again == first


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_intervals_cover_the_true_mean_as_often_as_they_say(spread: float) -> None:
    generator, covered = np.random.default_rng(0), 0
    for seed in range(150):
        prompts = spread * generator.normal(size=(30, 1))
        totals = prompts + generator.normal(size=(30, 4))
        interval = clustered_means(totals[None], np.ones((30, 4)), resamples=200, confidence=0.8, seed=seed)[0]
        covered += interval.low <= 0 <= interval.high
    # Without the prompts' own spread it is on the safe side, as all are resampled; 150 draws at 0.8 vary by ±0.07.
    assert 0.73 <= covered / 150 <= (0.87 if spread else 1.0)


def test_one_prompt_has_the_spread_of_its_continuations() -> None:
    (interval,) = clustered_means(np.array([[[0.0, 1.0, 2.0]]]), np.ones((1, 3)), resamples=300, confidence=0.9, seed=0)
    assert interval.low < 1 < interval.high


@pytest.mark.parametrize(("resamples", "confidence", "message"), [(0, 0.9, "got 0"), (1, 1.0, "confidence=1.0")])
def test_refuses_settings_without_an_interval(resamples: int, confidence: float, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        check_bootstrap(resamples, confidence)
