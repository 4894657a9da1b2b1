"""The action on a text in pieces: for every way to cut it, the pieces together are the action on the whole."""

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equilm.text.action import TextAction
from equilm.text.streaming import StreamingTextAction
from equilm.words.axes import DemographicAxis

THREE = DemographicAxis("three", [("Black", "White", "Asian"), ("night cab", "yellow cab", "big red taxi")])
ORIGIN = DemographicAxis(
    "origin",
    [("African American", "European American")],
    modifiers=[("black", "white")],
    before=["people", "man"],
)
NAMES = ("two", "three", "product", "phrases")


@cache
def action_of(name: str) -> TextAction:
    axes: dict[str, list[str | DemographicAxis]] = {
        "two": ["gender"],
        "three": [THREE],
        "product": ["gender", THREE],
        "phrases": ["gender", ORIGIN],
    }
    return TextAction(axes[name])


_WORDS = [
    *"man woman he she He SHE his him her hers Her HERS actor actress Black White Asian night yellow cab big".split(),
    *"red taxi African American European black white people king queen mother a an A An AN the and gave key".split(),
]
_GLUE = ["", *[" "] * 12, "  ", "\n", "\n\n", "'s ", ". ", ", ", "-", "_", "__", "___", "/", "(", ")", "@", "://", "*"]
_GLUE += [*'"“.:,1', "😀", "\u0301", "\u200d", "\ud83d", "\ude00", "wo", "s/"]
texts = st.lists(st.one_of(st.sampled_from(_WORDS), st.sampled_from(_GLUE), st.text(max_size=2)), max_size=24).map(
    "".join
)
long_texts = st.lists(
    st.tuples(st.sampled_from(_WORDS), st.sampled_from([*[" "] * 20, *_GLUE])).map("".join), min_size=30, max_size=200
).map("".join)


def in_pieces(action: TextAction, g: int, prompt: str, text: str, seed: int, largest: int) -> str:
    stream, cut, out, at = StreamingTextAction(action, g, prompt), random.Random(seed), [], 0
    while at < len(text):
        size = cut.randint(1, largest)
        out.append(stream.feed(text[at : at + size]))
        at += size
    return "".join((*out, stream.flush()))


def check(name: str, prompt: str, text: str, seed: int, largest: int) -> None:
    action = action_of(name)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    for g in action.group.elements:
        whole = action.act_on_continuation(prompt, text, g)
        assert in_pieces(action, g, prompt, text, seed, largest) == whole


cases = {
    "name": st.sampled_from(NAMES),
    "prompt": st.one_of(st.just(""), texts),
    "text": st.one_of(texts, long_texts),
    "seed": st.integers(0, 2**32),
    "largest": st.sampled_from([1, 2, 5, 30, 400]),
}


@settings(max_examples=200, deadline=None)
@given(**cases)
def test_any_cut_gives_what_the_whole_gives(name: str, prompt: str, text: str, seed: int, largest: int) -> None:
    check(name, prompt, text, seed, largest)


@pytest.mark.exhaustive
@settings(max_examples=10_000, deadline=None)
@given(**cases)
def test_any_cut_ten_thousand_times(name: str, prompt: str, text: str, seed: int, largest: int) -> None:
    check(name, prompt, text, seed, largest)


@pytest.mark.parametrize(
    "text",
    [
        "write to he@x.com now",
        "see man/he.html or he/index.html",
        "the man://x, he.name and he(self), said he. He left",
        "he/she, s/he and (wo)man",
        "(he(s) and he(self)) man(s)",
        "_she_ said, _he said so_ to her, and _he did not",
        "__he__ and __he_ and _he__",
        "an _actress_ is an _actor is here_ now",
        "an _actress is\n\nhere_ now",
        "a *man* or an **actor**, a 'man' and an “actress",
        "gave her the key, gave her. Hers, and her",
        "a big red\ntaxi, a night cab and a night",
    ],
)
@pytest.mark.parametrize("name", ["product", "phrases"])
def test_every_cut_beside_what_is_no_word(name: str, text: str) -> None:
    action = action_of(name)
    for g in action.group.elements:
        whole = action.act_on_continuation("", text, g)
        for cut in range(1, len(text)):
            stream = StreamingTextAction(action, g)
            assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == whole
        assert in_pieces(action, g, "", text, 0, 1) == whole


def test_halves_of_a_character_are_one_character() -> None:
    """As JSON may give them: a letter beyond the basic plane as two surrogates, in two chunks."""
    for text in ("𝕒man, man𝕒", "😀man, man😀"):  # the letter is part of a word, the picture is not
        stream = StreamingTextAction(action_of("two"), 1)
        pieces = [half for character in text for half in _halves(character)]
        assert "".join(map(stream.feed, pieces)) + stream.flush() == action_of("two").act(text, 1)


def _halves(character: str) -> list[str]:
    code = ord(character) - 0x10000
    return [character] if code < 0 else [chr(0xD800 + (code >> 10)), chr(0xDC00 + (code & 0x3FF))]


def test_ordinary_text_is_not_held_back() -> None:
    stream = StreamingTextAction(action_of("product"), 1)
    text = "It rained all day, and nobody in the town went out. " * 40
    held, longest = 0, 0
    for character in text:
        held += 1 - len(stream.feed(character))
        longest = max(longest, held)
    assert longest <= len("an a")


def test_what_is_held_back_has_a_bound() -> None:
    stream = StreamingTextAction(action_of("two"), 1)
    text = "her_her/he.him" * 400
    out = sum(len(stream.feed(character)) for character in text)
    assert out > 400 * 12 - 600
