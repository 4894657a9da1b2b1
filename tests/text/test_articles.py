"""Articles go on agreeing, or not agreeing, with the word they stand before, in every case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilm.text.action import TextAction
from equilm.text.articles import FORMS, agreeing, is_article, takes_an
from equilm.words.axes import DemographicAxis

AXIS = DemographicAxis(
    "any", [("man", "actor"), ("European", "Asian"), ("hour", "day"), ("able-bodied", "disabled"), ("LGBT", "MP")]
)


@pytest.mark.parametrize(
    "word", ["actor", "hour", "honest man", "heir", "heiress", "LGBT", "MP", "8-year-old", "11th", "uncle", "émigré"]
)
def test_an(word: str) -> None:
    assert takes_an(word)


@pytest.mark.parametrize(
    "word",
    [
        "man",
        "European",
        "one-armed man",
        "Ukrainian",
        "user",
        "unicorn",
        "UK citizen",
        "house",
        "hero",
        "7-year-old",
        "ewe",
    ],
)
def test_a(word: str) -> None:
    assert not takes_an(word)


def test_unlike_unicorns() -> None:
    assert all(map(takes_an, ("unmarried man", "uninsured", "unimportant", "unidentified", "onlooker")))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("a man, A man, a MAN, A MAN", "an actor, An actor, an ACTOR, AN ACTOR"),
        ("an man, An man, an MAN, AN MAN", "a actor, A actor, a ACTOR, A ACTOR"),  # wrong before, wrong after
        ("AN actor, An ACTOR, aN actor", "AN man, An MAN, aN man"),  # no article as one writes it
        ("a\n European, an hour, An able-bodied", "an\n Asian, a day, A disabled"),
        ("a *man*, a _man_, a “man”, _a man_", "an *actor*, an _actor_, an “actor”, _an actor_"),
        ("a tall man, Ana man, a; man, a-man", "a tall actor, Ana actor, a; actor, a-actor"),
        ("an LGBT", "an MP"),
    ],
)
def test_in_text(text: str, swapped: str) -> None:
    action = TextAction(AXIS)
    assert action.act(text, 1) == swapped
    assert action.act(swapped, 1) == text


def test_an_article_belongs_to_the_text_it_begins_in() -> None:
    action = TextAction(AXIS)
    assert action.act_on_continuation("It is a", " man", 1) == " actor"
    assert action.act("It is a", 1) == "It is a"
    assert action.act_on_continuation("It is", " a man", 1) == " an actor"


def test_lists_that_hold_an_article_leave_articles_alone() -> None:
    assert TextAction(DemographicAxis("any", [("a", "b"), ("man", "actor")])).act("a man", 1) == "b actor"


@given(article=st.sampled_from(FORMS), words=st.lists(st.text(min_size=1), min_size=2, max_size=2), upper=st.booleans())
def test_agreement_is_an_involution(article: str, words: list[str], upper: bool) -> None:
    if is_article(article, upper):
        other = agreeing(article, words[0], words[1], upper)
        assert is_article(other, upper)
        assert agreeing(other, words[1], words[0], upper) == article
