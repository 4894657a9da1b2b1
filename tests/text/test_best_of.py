"""The best of several candidates keeps eq. 4 exactly, by enumeration of all that can be drawn."""

import asyncio
import itertools
from collections import Counter, defaultdict
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from equilm import EquiLMError, TextSymmetrizer
from equilm.text import TextAction
from equilm.text.best_of import choose_best

# P(Y|X) of a toy generator that is unfair in every way, as integer weights.
LAW = {
    "The man": {" sang": 1, " met a king": 3, " met a queen": 2},
    "The woman": {" sang": 4, " met a king": 1, " met a queen": 1},
}


def raw_score(prompt: str, continuation: str) -> int:
    return {"sang": 1, "king": 2, "queen": 0}[continuation.split()[-1]] + 3 * ("woman" in prompt) * (
        "sang" in continuation
    )


def law(prompt: str, n: int, *, invariant: bool) -> dict[str, Fraction]:
    """The law of the best of n, from all elements and candidates that can be drawn; ties are halved."""
    action = TextAction("gender")
    group = action.group

    def score(continuation: str) -> Fraction:
        if not invariant:
            return Fraction(raw_score(prompt, continuation))
        pairs = [(action.act(prompt, g), action.act_on_continuation(prompt, continuation, g)) for g in group.elements]
        return Fraction(sum(raw_score(*pair) for pair in pairs), group.order)

    single: dict[str, Fraction] = defaultdict(Fraction)
    for g in group.elements:
        sent = action.act(prompt, g)
        weights = LAW[sent]
        for continuation, weight in weights.items():
            back = action.act_on_continuation(sent, continuation, group.inverse(g))
            single[back] += Fraction(weight, group.order * sum(weights.values()))
    best: dict[str, Fraction] = defaultdict(Fraction)
    for candidates in itertools.product(single, repeat=n):
        probability = Fraction(1)
        for candidate in candidates:
            probability *= single[candidate]
        scores = [score(candidate) for candidate in candidates]
        winners = [c for c, s in zip(candidates, scores, strict=True) if s == max(scores)]
        for winner in winners:
            best[winner] += probability / len(winners)
    return best


def gap(n: int, *, invariant: bool) -> float:
    action = TextAction("gender")
    one, other = law("The man", n, invariant=invariant), law("The woman", n, invariant=invariant)
    return float(max(abs(one[y] - other[action.act_on_continuation("The man", y, 1)]) for y in one))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_invariant_score_keeps_eq_4_and_a_raw_one_breaks_it(n: int) -> None:
    assert gap(n, invariant=True) == 0
    assert n == 1 or gap(n, invariant=False) > 0.05


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_wrap_returns_follows_the_enumerated_law(asynchronous: bool) -> None:
    draws = Random(1)

    def generate(prompts: list[str]) -> list[str]:
        return [draws.choices(list(LAW[p]), list(LAW[p].values()))[0] for p in prompts]

    def score(prompts: list[str], continuations: list[str]) -> list[int]:
        return [raw_score(x, y) for x, y in zip(prompts, continuations, strict=True)]

    async def generate_later(prompts: list[str]) -> list[str]:
        return generate(prompts)

    async def score_later(prompts: list[str], continuations: list[str]) -> list[int]:
        return score(prompts, continuations)

    symmetrizer, count = TextSymmetrizer("gender", seed=0), 6000
    if asynchronous:
        result: Any = asyncio.run(symmetrizer.wrap(generate_later, best_of=2, score=score_later)(["The man"], n=count))
    else:
        result = symmetrizer.wrap(generate, best_of=2, score=score)(["The man"], n=count)
    expected = law("The man", 2, invariant=True)
    for continuation, probability in expected.items():
        share = result[0].count(continuation) / count
        assert abs(share - probability) < 4 * float(probability * (1 - probability) / count) ** 0.5, continuation


def test_ties_are_drawn() -> None:
    def generate(prompts: list[str]) -> list[str]:
        return [" met a king"] * len(prompts)

    fair = TextSymmetrizer("gender", seed=0).wrap(generate, best_of=4, score=lambda x, y: [0.0] * len(x))
    assert {" met a king", " met a queen"} == set(fair(["It"], n=50)[0])


def test_each_of_several_best_candidates_is_chosen_equally_often() -> None:
    draws = Random(0)
    chosen = choose_best([2.0, 1.0, 2.0, 2.0] * 3000, 4, draws)
    places = Counter(place % 4 for place in chosen)
    assert set(places) == {0, 2, 3} and all(abs(count - 1000) < 110 for count in places.values()), "four deviations"


def test_elements_are_those_of_the_kept_candidates() -> None:
    def generate(prompts: list[str]) -> list[str]:
        return [" met a king" if "woman" in prompt else " sang" for prompt in prompts]

    fair = TextSymmetrizer("gender", seed=0).wrap(generate, best_of=8, score=lambda x, y: [len(text) for text in y])
    continuations, elements = fair(["The man"], return_elements=True)
    assert continuations == [" met a queen"] and elements == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best_of": 2}, "best_of=2 needs a score"),
        ({"best_of": 0}, "best_of=0 is the number of candidates"),
        ({"score": lambda x, y: [0.0]}, "best_of is 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        TextSymmetrizer("gender").wrap(lambda prompts: prompts, **settings)


def test_a_score_that_is_no_number_is_refused() -> None:
    fair = TextSymmetrizer("gender").wrap(
        lambda prompts: [""] * len(prompts), best_of=2, score=lambda x, y: [float("nan")] * len(x)
    )
    with pytest.raises(EquiLMError, match="not a number"):
        fair(["a man"])
