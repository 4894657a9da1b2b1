"""Invariant scores: f(gx) = f(x) for every g, for scorers of every form, at orders 2, 3 and a product."""

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equilm import DemographicAxis, EquiLMError, TextSymmetrizer
from equilm.text import TextAction

TRIPLE = DemographicAxis("colour", [("red", "green", "blue"), ("rose", "leaf", "sky")])
AXES: dict[str, Any] = {"order 2": "gender", "order 3": TRIPLE, "product": ["gender", TRIPLE]}
WORDS = ["man", "woman", "He", "she", "king", "QUEEN", "red", "leaf", "blue", "dog", "was", ","]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


def noise(item: Any) -> float:
    """A score that nothing about an item foretells."""
    return int.from_bytes(hashlib.sha256(repr(item).encode()).digest()[:6], "big") / 2**48


def noises(items: Sequence[Any]) -> list[float]:
    return [noise(item) for item in items]


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@given(batch=st.lists(texts, min_size=1, max_size=4), data=st.data())
def test_scores_are_the_mean_over_the_group_and_the_same_for_all_swaps(axes: Any, batch: list[str], data: Any) -> None:
    action = TextAction(axes)
    fair = TextSymmetrizer(axes).invariant(noises)
    expected = [sum(noise(action.act(text, g)) for g in action.group.elements) / action.group.order for text in batch]
    assert fair(batch) == pytest.approx(expected, abs=1e-12)
    g = data.draw(st.sampled_from(action.group.elements))
    assert fair([action.act(text, g) for text in batch]) == fair(batch), "to the last bit"


def test_a_raw_score_is_not_invariant() -> None:
    assert noises(["a man"]) != noises(["a woman"])


CHAT = [{"role": "user", "content": "The man"}, {"role": "assistant", "content": [{"type": "text", "text": "She"}]}]
CHAT_SWAPPED = [
    {"role": "user", "content": "The woman"},
    {"role": "assistant", "content": [{"type": "text", "text": "He"}]},
]


@pytest.mark.parametrize(
    ("item", "swapped"),
    [
        (("The man", "A woman"), ("The woman", "A man")),
        (CHAT, CHAT_SWAPPED),
        ({"text": "The man", "text_pair": "he was"}, {"text": "The woman", "text_pair": "she was"}),
        ((["a man", "a dog"], "She"), (["a woman", "a dog"], "He")),
    ],
    ids=["pair", "chat", "pipeline's dict", "query and documents"],
)
def test_items_of_every_kind_are_acted_on_as_a_whole(item: Any, swapped: Any) -> None:
    fair = TextSymmetrizer("gender").invariant(noises)
    assert fair([item]) == fair([swapped]) == [pytest.approx((noise(item) + noise(swapped)) / 2)]


def test_distinct_images_are_scored_once_over_the_whole_batch() -> None:
    asked: list[list[str]] = []

    def score(items: list[str]) -> list[int]:
        asked.append(items)
        return [len(item) for item in items]

    fair = TextSymmetrizer(["gender", TRIPLE]).invariant(score)
    assert fair(["a dog", "a man", "a woman", "a dog", "a cat"]) == [5.0, 6.0, 6.0, 5.0, 5.0]
    assert len(asked) == 1 and sorted(asked[0]) == ["a cat", "a dog", "a man", "a woman"]
    assert fair([]) == [] and len(asked) == 1


def test_arrays_and_tensors_come_back_as_such() -> None:
    symmetrizer = TextSymmetrizer("gender")
    vectors = {
        text: np.random.default_rng(number).normal(size=4).astype(np.float32)
        for number, text in enumerate(["a man", "a woman", "a dog"])
    }
    array = symmetrizer.invariant(lambda items: np.stack([vectors[item] for item in items]))(["a man", "a dog"])
    assert isinstance(array, np.ndarray) and array.shape == (2, 4)
    np.testing.assert_allclose(array[0], (vectors["a man"] + vectors["a woman"]) / 2, atol=1e-7)
    scorer = symmetrizer.invariant(lambda items: torch.stack([torch.tensor(vectors[item]) for item in items]))
    tensor = scorer(["a woman", "a dog"])
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (2, 4)
    torch.testing.assert_close(tensor, torch.tensor(array))


def test_an_asynchronous_scorer_is_awaited() -> None:
    async def score(items: list[str], *, factor: int) -> list[int]:
        await asyncio.sleep(0)
        return [factor * len(item) for item in items]

    fair = TextSymmetrizer("gender").invariant(score)
    assert asyncio.run(fair(["a man"], factor=2)) == [12.0]


def test_one_drawn_image_is_the_same_in_expectation() -> None:
    fair = TextSymmetrizer("gender", seed=0).invariant(noises, mode="sample")
    drawn = [fair(["a man"])[0] for _ in range(4000)]
    assert set(drawn) == {noise("a man"), noise("a woman")}
    mean = (noise("a man") + noise("a woman")) / 2
    assert abs(np.mean(drawn) - mean) < 4 * np.std(drawn) / len(drawn) ** 0.5


def test_bad_input_is_named() -> None:
    symmetrizer = TextSymmetrizer("gender")
    with pytest.raises(EquiLMError, match=r"Expected a list of items to score, got 'a man'"):
        symmetrizer.invariant(noises)("a man")
    with pytest.raises(EquiLMError, match="Cannot swap words in 3"):
        symmetrizer.invariant(noises)([3])
    with pytest.raises(EquiLMError, match="was given 2 items and returned 1 scores"):
        symmetrizer.invariant(lambda items: [0.0])(["a man"])
    with pytest.raises(EquiLMError, match="mode='mean' is not known"):
        symmetrizer.invariant(noises, mode="mean")  # type: ignore[arg-type]


def test_ranks_do_not_flip() -> None:
    """What people rank by: the order of items is that of their swaps, whoever is named in each."""
    fair = TextSymmetrizer("gender").invariant(noises)
    items = [f"{subject} is number {number}" for number in range(10) for subject in ("He", "She")]
    scores = fair(items)
    assert all(one == other for one, other in list(pairwise(scores))[::2])
