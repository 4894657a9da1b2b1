"""Generation settings that cannot be fair are refused, with the reason."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import byte_level
from transformers import GenerationConfig

from equilm import EquiLMError
from equilm._generation_checks import check_settings
from equilm.actions import TokenAction


def _check(words: tuple[str, str], stop: str) -> None:
    tokenizer = byte_level(words)
    (one,), (two,) = (tokenizer.encode(word) for word in words)
    action = TokenAction.from_cycles([[[one, two]]], len(tokenizer))
    check_settings(GenerationConfig(stop_strings=stop), action, tokenizer)


@pytest.mark.parametrize(
    ("words", "stop", "message"),
    [
        (
            (" ladies", " gentlemen"),
            "said",
            "stop_strings='said' treats words that are swapped differently: ' ladies' followed by a token that begins "
            "with 'aid' makes 'said', while ' gentlemen' does not",
        ),
        ((" gentlemen", " ladies"), "said", "' ladies' followed by a token that begins with 'aid'"),
        ((" he", "she"), ": s", "'she' after a token that ends with ': ' makes ': s', while ' he' does not"),
        ((" man", " woman"), "oma", "' woman' by itself makes 'oma', while ' man' does not"),
        (
            (" he", " she"),
            "if he is",
            "' he' between tokens that end with 'if' and begin with ' is' makes 'if he is', while ' she' does not",
        ),
        ((" he", " she"), "not she but he!", "' he' between tokens that end with 'not she but' and begin with '!'"),
    ],
)
def test_the_message_explains_the_overlap(words: tuple[str, str], stop: str, message: str) -> None:
    with pytest.raises(EquiLMError, match=re.escape(message)):
        _check(words, stop)


@pytest.mark.parametrize("stop", [".", "###", "said:"])
def test_stop_strings_that_touch_no_word_are_taken(stop: str) -> None:
    _check((" man", " woman"), stop)


@given(
    words=st.lists(st.text("ab", min_size=1, max_size=2), min_size=2, max_size=2, unique=True),
    stop=st.text("abc", min_size=1, max_size=4),
)
def test_stop_strings_that_are_taken_stop_every_member_of_an_orbit(words: list[str], stop: str) -> None:
    """By listing short texts and what becomes of them when the two words are swapped."""
    try:
        _check((words[0], words[1]), stop)
    except EquiLMError:
        return
    for text in product({*words, "a", "b", "c"}, repeat=3):
        swapped = [words[1 - words.index(token)] if token in words else token for token in text]
        assert (stop in "".join(text)) == (stop in "".join(swapped)), (text, swapped)
