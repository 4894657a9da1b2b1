"""Regard by group: masking, fractions, means, intervals and disparities, against counts made by hand."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from equilm import EquiLMError
from equilm.metrics.regard import RegardResult, mask_group, regard, regard_from_scores
from equilm.metrics.regard_classifier import LABELS, RegardClassifier


class WordClassifier(RegardClassifier):
    """One label for each of four words; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("words")
        self.asked: list[str] = []

    def truncated(self, texts: Sequence[str]) -> int:
        return sum(len(text) > 40 for text in texts)

    def _score(self, batch: list[str]) -> NDArray[np.float64]:
        self.asked += batch
        columns = [
            next(i for i, word in enumerate(("bad", "plain", "good", "mixed")) if word in text) for text in batch
        ]
        return 0.7 * np.eye(4)[columns] + 0.075


TEXTS = {
    "man": ["The man was good.", "The man was bad.", "The man was plain, said the man.", "The man was good."],
    "woman": ["The woman was good.", "The woman was mixed."],
    "person": ["The person was bad."],
}
PHRASES = {"man": "The man", "woman": "The woman", "person": "The person"}


def random_scores(seed: int, n: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.ones(4), size=n)


@pytest.mark.parametrize(
    ("text", "phrase", "masked"),
    [
        ("The man worked as a nurse.", "The man", "XYZ worked as a nurse."),
        ("The man met the man's wife.", "The man", "XYZ met XYZ's wife."),
        ("The mandate of the man", "The man", "The mandate of XYZ"),
        ("The  Black\nman ran, (the Black Man)", "The Black man", "XYZ ran, (XYZ)"),
        ("THE BLACK MAN met the black man", "The Black man", "XYZ met the black man"),
        ("C++ (the group) won", "C++ (the group)", "XYZ won"),
    ],
)
def test_masks_whole_words(text: str, phrase: str, masked: str) -> None:
    assert mask_group(text, phrase) == masked


def test_the_mask_is_taken_literally() -> None:
    assert mask_group("The man ran", "The man", mask=r"\1\g<0>") == r"\1\g<0> ran"


@pytest.mark.parametrize(
    ("text", "phrase", "message"),
    [
        ("The manager ran", "The man", "'The man' is not in the text 'The manager ran'"),
        ("A", " ", "expected a group's"),
    ],
)
def test_refuses_what_cannot_be_masked(text: str, phrase: str, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        mask_group(text, phrase)


@pytest.mark.parametrize("phrases", [None, PHRASES], ids=["unmasked", "masked"])
def test_fractions_and_means_are_those_counted_by_hand(phrases: dict[str, str] | None) -> None:
    classifier = WordClassifier()
    result = regard(TEXTS, classifier, phrases, bootstrap=10)
    expected = {"man": [0.25, 0.25, 0.5, 0], "woman": [0, 0, 0.5, 0.5], "person": [1, 0, 0, 0]}
    assert list(result.by_group) == list(TEXTS)
    for group, fractions in expected.items():
        found = result.by_group[group]
        assert found.n == len(TEXTS[group])
        assert [found.fractions[label].value for label in LABELS] == fractions
        means = [found.probabilities[label].value for label in LABELS]
        np.testing.assert_allclose(means, 0.7 * np.array(fractions) + 0.075, rtol=1e-12)
    pairs = {pair.groups: (pair.fractions.value, pair.probabilities.value) for pair in result.disparities}
    assert list(pairs) == [("woman", "person"), ("man", "person"), ("man", "woman")]
    for pair, distance in zip(pairs, (1, 0.75, 0.5), strict=True):
        assert pairs[pair] == pytest.approx((distance, 0.7 * distance))
    assert (result.classifier, result.masked, result.truncated) == ("words", phrases is not None, 0)
    if phrases is not None:
        assert all("XYZ" in text and "man" not in text for text in classifier.asked)


def test_each_distinct_text_is_scored_once() -> None:
    classifier = WordClassifier()
    regard(TEXTS, classifier, PHRASES, bootstrap=1, batch_size=2)
    assert sorted(classifier.asked) == sorted(
        ["XYZ was good.", "XYZ was bad.", "XYZ was plain, said XYZ.", "XYZ was mixed."]
    )


def test_truncated_texts_are_counted() -> None:
    long = {"a": ["It was good, " + "and so on, " * 5, "good"], "b": ["bad"]}
    assert regard(long, WordClassifier(), bootstrap=1).truncated == 1


def test_equal_texts_give_equal_numbers_in_any_order() -> None:
    rows = random_scores(0, 301)
    order = np.random.default_rng(1).permutation(len(rows))
    result = regard_from_scores({"one": rows, "other": rows[order]}, classifier="x", bootstrap=20)
    assert result.by_group["one"] == result.by_group["other"]
    assert result.disparities[0].fractions.value == result.disparities[0].probabilities.value == 0


def test_intervals_agree_with_a_second_implementation() -> None:
    """The binomial distribution for a fraction, the normal one for a mean."""
    rows = {"a": random_scores(2, 400), "b": random_scores(3, 100) ** 2}
    rows["b"] /= rows["b"].sum(1, keepdims=True)
    result = regard_from_scores(rows, classifier="x", bootstrap=2000, confidence=0.9)
    for group, scores in rows.items():
        n = len(scores)
        for column, label in enumerate(LABELS):
            fraction = result.by_group[group].fractions[label]
            width = 1.645 * np.sqrt(fraction.value * (1 - fraction.value) / n)
            assert fraction.low == pytest.approx(fraction.value - width, abs=0.012)
            assert fraction.high == pytest.approx(fraction.value + width, abs=0.012)
            mean = result.by_group[group].probabilities[label]
            width = 1.645 * scores[:, column].std() / np.sqrt(n)
            assert (mean.low, mean.high) == pytest.approx((mean.value - width, mean.value + width), abs=0.004)


def test_the_seed_alone_decides() -> None:
    rows = {"a": random_scores(6, 30), "b": random_scores(7, 20)}

    def interval(seed: int) -> RegardResult:
        return regard_from_scores(rows, classifier="x", bootstrap=50, seed=seed)

    assert interval(1) == interval(1)
    assert interval(1).disparities != interval(2).disparities


def test_one_group_and_one_text() -> None:
    result = regard({"all": ["good"]}, WordClassifier(), bootstrap=5)
    assert result.disparities == ()
    positive = result.by_group["all"].fractions["positive"]
    assert positive.value == positive.high == 1 and 0 < positive.low < 0.5, "one text leaves doubt"
    for estimate in result.by_group["all"].probabilities.values():
        assert estimate.low <= estimate.value <= estimate.high and estimate.high - estimate.low > 0.4
    (pair,) = regard({"a": ["good"], "b": ["bad"]}, WordClassifier()).disparities
    assert pair.fractions.value == 1 and pair.fractions.low < 0.2 and pair.fractions.p_value == 1


def test_the_result_is_json() -> None:
    result = regard(TEXTS, WordClassifier(), bootstrap=3)
    record = json.loads(json.dumps(result.to_dict()))
    assert record == result.to_dict()
    assert record["by_group"]["man"]["fractions"]["positive"]["value"] == 0.5
    assert record["disparities"][0]["groups"] == ["woman", "person"]


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ({}, {}, "There are no groups"),
        ({"a": []}, {}, "group 'a' has no texts"),
        ({"a": ["good"], "b": []}, {}, "group 'b' has no texts"),
        ({"a": ["good", " "]}, {}, "Text 1 of the group 'a' is empty"),
        ({"a": "good"}, {}, "Expected a list of texts for the group 'a'"),
        ({"a": ["good"]}, {"phrases": {"b": "x"}}, r"phrases for the groups \['b'\], and texts for \['a'\]"),
        ({"a": ["good"]}, {"phrases": {"a": "The man"}}, "'The man' is not in the text 'good'"),
        ({"a": ["good"]}, {"bootstrap": 0}, "bootstrap is the number of resamples, got 0"),
        ({"a": ["good"]}, {"confidence": 95}, "confidence=95 must be between 0 and 1"),
        (
            {"a": ["good"], "b": ["bad"] * 2},
            {"paired": True},
            "The groups have 1, 2 texts, but pairs need the same number in each group",
        ),
        ({"a": ["good"]}, {"batch_size": 0}, "batch_size is .* got 0"),
    ],
)
def test_refuses_what_it_cannot_measure(texts: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        regard(texts, WordClassifier(), **settings)


def test_refuses_scores_of_another_shape() -> None:
    with pytest.raises(EquiLMError, match=r"group 'a' have the shape \(5, 3\)"):
        regard_from_scores({"a": np.ones((5, 3)) / 3}, classifier="x")
