"""The tests on sampled answers: their level, their power, and what they call detectable, by simulation."""

import numpy as np
import pytest
from scipy.stats import binom

from equilm.metrics.gate_answers import AnswerDifference, adjust, compare_groups, compare_swaps, events

WORDS = ("he", "she", "they", "went", "home", "late", "again", "today")
C2 = np.array([[0, 1], [1, 0]])
C3 = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])


def texts(rng: np.random.Generator, n: int, share: float = 0.0, word: str = "queen") -> list[str]:
    """n random texts, a share of which contains one more word."""
    drawn = rng.random((n, len(WORDS))) < np.linspace(0.1, 0.8, len(WORDS))
    more = rng.random(n) < share
    rows = zip(drawn, more, strict=True)
    return [" ".join([w for w, kept in zip(WORDS, row, strict=True) if kept] + [word] * int(m)) for row, m in rows]


def at_most(count: int, checks: int, rate: float) -> bool:
    """Whether so many of the checks are compatible with a rate of at most this."""
    return bool(binom.sf(count - 1, checks, rate) > 1e-4)


def test_events() -> None:
    assert events("He's here. he") == {
        ("contain", "he's"),
        ("contain", "here"),
        ("contain", "he"),
        ("begin with", "he's"),
        ("are", "he's here. he"),
    }
    assert events(" \n") == {("are", "")}


@pytest.mark.parametrize("groups", [2, 3])
def test_equal_groups_are_seldom_told_apart(groups: int) -> None:
    rng, checks, alarms = np.random.default_rng(0), 200, 0
    for _ in range(checks):
        one = compare_groups([texts(rng, 40) for _ in range(groups)], 0.05, 0.05, rng)
        alarms += one.p_value <= 0.05
    assert at_most(alarms, checks, 0.05)


@pytest.mark.parametrize("compose", [C2, C3], ids=["order 2", "order 3"])
def test_fair_answers_are_seldom_told_from_their_swaps(compose: np.ndarray) -> None:
    rng, checks, alarms = np.random.default_rng(1), 200, 0
    names = ["king", "queen", "ruler"][: len(compose)]
    for _ in range(checks):
        places = rng.integers(len(names), size=60)  # every word as likely as its swaps
        swaps = [[f"the {names[(place + s) % len(names)]}" for place in places] for s in range(len(names))]
        alarms += compare_swaps(swaps, compose, 0.05, 0.05, rng).p_value <= 0.05
    assert at_most(alarms, checks, 0.05)


@pytest.mark.parametrize("compose", [C2, C3], ids=["order 2", "order 3"])
def test_a_word_that_is_said_more_often_than_its_swaps_is_found(compose: np.ndarray) -> None:
    names = ["king", "queen", "ruler"][: len(compose)]
    rng = np.random.default_rng(2)
    places = rng.choice(len(names), size=200, p=[0.7, 0.3, 0.0][: len(names)])
    swaps = [[f"the {names[(place + s) % len(names)]}" for place in places] for s in range(len(names))]
    found = compare_swaps(swaps, compose, 0.2, 0.05, rng)
    shares = [float((places == place).mean()) for place in range(len(names))]
    assert found.value == pytest.approx(max(shares) - min(shares), abs=1e-6) and found.p_value <= 0.01
    assert found.event == "contain 'king'" and found.shares == pytest.approx((min(shares), max(shares)), abs=1e-6)


def test_a_true_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    """At worst, which is where about half of all answers contain the word."""
    rng, checks, found = np.random.default_rng(3), 100, 0
    size = compare_groups([texts(rng, 100), texts(rng, 100)], 0.1, 0.05, rng).detectable
    for _ in range(checks):
        one = compare_groups([texts(rng, 100, 0.5 - size / 2), texts(rng, 100, 0.5 + size / 2)], 0.1, 0.05, rng)
        found += one.p_value <= 0.05 and one.value > 0.1
    assert binom.cdf(found, checks, 0.8) > 1e-4, found


def test_what_exceeds_the_needed_difference_is_significant() -> None:
    rng = np.random.default_rng(4)
    beyond = 0
    for share in np.linspace(0.1, 0.6, 30):
        one = compare_groups([texts(rng, 60), texts(rng, 60, share)], 0.05, 0.01, rng)
        beyond += one.value > one.needed
        assert one.value <= one.needed or one.p_value <= 0.01, one
    assert beyond > 5


def test_more_answers_detect_smaller_differences() -> None:
    rng = np.random.default_rng(5)
    few, many = (compare_groups([texts(rng, n), texts(rng, n)], 0.05, 0.05, rng) for n in (25, 400))
    assert few.needed > 2 * many.needed and few.detectable > 2 * many.detectable > 0.05


def test_answers_without_a_common_event_do_not_differ() -> None:
    rng = np.random.default_rng(6)
    found = compare_groups([[f"a{i}" for i in range(20)], [f"b{i}" for i in range(20)]], 0.2, 0.05, rng)
    assert found.event is None and found.value == 0 and found.p_value == 1 and found.needed > 0


def test_holms_correction() -> None:
    given = [AnswerDifference(0.1, None, (0, 0.1), p, p, 0.1, 0.1) for p in (0.01, 0.04, 0.03, 0.005)]
    assert [one.adjusted_p_value for one in adjust(given)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
