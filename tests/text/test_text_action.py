"""The action on text: the axioms for any text and any lists that are accepted, what counts as a word, and its case."""

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, ProductGroup
from equilm.text.action import TextAction
from equilm.text.forms import word_character, written_forms
from equilm.words.axes import DemographicAxis

AXES = {
    "two": DemographicAxis("two", [("man", "woman"), ("he", "she"), ("steward", "stewardess"), ("straße", "gasse")]),
    "three": DemographicAxis("three", [("Black", "White", "Asian"), ("night cab", "yellow cab", "big red taxi")]),
    "four": DemographicAxis("four", [("ǆep", "ırmak", "işçi", "άνδρας"), ("old age", "new day", "his-hers", "six")]),
}
ACTIONS = {name: TextAction(axis) for name, axis in AXES.items()}
ACTIONS["product"] = TextAction([AXES["two"], AXES["three"]])
ACTIONS["built-in"] = TextAction(["gender", "race3", "orientation"])

_cases: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [str, str.lower, str.upper, str.title, str.capitalize, str.swapcase]
)
_glue = st.sampled_from(
    ["", " ", "  ", "\n", "'s", "’", "-", "_", "1", ".", "\u0301", "\u00ad", "\u200d", "\ufe0f", "😀"]
)


def _phrases(action: TextAction) -> list[str]:
    return [phrase for axis in action.axes for entry in axis.words for phrase in entry]


def _text(action: TextAction) -> st.SearchStrategy[str]:
    """Words and phrases of the lists in any case, whole and in pieces, amid anything."""
    phrases = _phrases(action)
    words = st.sampled_from([*phrases, *(word for phrase in phrases for word in phrase.split())])
    cased = st.builds(lambda word, change: change(word), words, _cases)
    anything = st.text(st.characters(), max_size=4)  # lone surrogates too
    return st.lists(st.one_of(cased, _glue, anything), max_size=12).map("".join)


@given(data=st.data(), name=st.sampled_from(list(ACTIONS)))
def test_it_is_a_group_action(data: st.DataObject, name: str) -> None:
    action = ACTIONS[name]
    text = data.draw(_text(action))
    g, h = (data.draw(st.sampled_from(action.group.elements)) for _ in "gh")
    assert action.act(text, 0) == text
    assert action.act(action.act(text, h), g) == action.act(text, action.group.compose(g, h))


@given(data=st.data(), name=st.sampled_from(list(ACTIONS)))
def test_it_is_a_group_action_on_prompts_with_continuations(data: st.DataObject, name: str) -> None:
    action = ACTIONS[name]
    text = data.draw(_text(action))
    cut = data.draw(st.integers(0, len(text)))
    prompt, continuation = text[:cut], text[cut:]
    g, h = (data.draw(st.sampled_from(action.group.elements)) for _ in "gh")
    both = action.act_on_continuation(prompt, continuation, action.group.compose(g, h))
    once = action.act_on_continuation(prompt, continuation, h)
    assert action.act_on_continuation(action.act(prompt, h), once, g) == both
    assert action.act_on_continuation(prompt, continuation, 0) == continuation
    for before, after in ((prompt + ",", continuation), (prompt, "," + continuation)):  # no word crosses a comma
        parts = action.act(before, h), action.act_on_continuation(before, after, h)
        assert "".join(parts) == action.act(before + after, h)


# Letters whose cases are odd, marks, and what stands between words: few, so that lists often collide.
_letters = "aAbcßẞsSıiİIǆǅΣσς\u0301"
_word = st.builds(str.__add__, st.sampled_from("abcdßsıiǆσ"), st.text(_letters, min_size=1, max_size=3))
_phrase = st.builds("{}{}{}".format, _word, st.sampled_from(" -'"), _word)


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # many lists have to be refused
@given(data=st.data(), size=st.integers(2, 4), lists=st.integers(1, 2))
def test_any_lists_are_refused_or_make_a_group_action(data: st.DataObject, size: int, lists: int) -> None:
    one = data.draw(st.sampled_from([_word, _phrase, _word | _phrase]))
    phrases = data.draw(st.lists(one, min_size=size * lists, max_size=size * lists, unique_by=str.casefold))
    try:
        action = TextAction(DemographicAxis("any", [phrases[i : i + size] for i in range(0, len(phrases), size)]))
    except EquiLMError:
        reject()
    pieces = st.one_of(st.sampled_from(phrases), _word, st.sampled_from([" ", "  ", "-", "'"]))
    text = "".join(data.draw(st.lists(pieces, max_size=10)))
    text = data.draw(_cases)(text)
    for g in action.group.elements:
        for h in action.group.elements:
            assert action.act(action.act(text, h), g) == action.act(text, action.group.compose(g, h))


@given(st.text())
def test_a_text_without_the_words_stays_as_it_is(text: str) -> None:
    assume(not any(phrase.casefold() in text.casefold() for phrase in _phrases(ACTIONS["product"])))
    assert ACTIONS["product"].orbit(text) == [text] * 6


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("man", "woman"),
        ("The man's, the man’s and (man)", "The woman's, the woman’s and (woman)"),
        ("he's HE'S He'll", "she's SHE'S She'll"),
        ("he-man; man/woman\u2014man\tman\u00a0man", "she-woman; woman/man\u2014woman\twoman\u00a0woman"),
        ("woman man Woman Man WOMAN MAN", "man woman Man Woman MAN WOMAN"),
        ("human mankind man2 2man man_ _man manman then", None),
        ("man\u0301 man\u00adkind man\u200dkind wo\u2060man", None),  # marks and joiners go on with the word
        ("❤\ufe0fman", "❤\ufe0fwoman"),
        ("mAn WoMan hE", None),
        ("STRASSE Straße straße", "GASSE Gasse gasse"),
        ("strasse", None),
        ("  man \r\n\x00 café cafe\u0301 \ud800", "  woman \r\n\x00 café cafe\u0301 \ud800"),
    ],
)
def test_words(text: str, swapped: str | None) -> None:
    assert ACTIONS["two"].act(text, 1) == (text if swapped is None else swapped)


def test_every_case_and_direction_at_order_three_and_four() -> None:
    assert ACTIONS["three"].act("Black BLACK black bLACK", 1) == "White WHITE black bLACK"
    assert ACTIONS["three"].act("Black Asian", 2) == "Asian White"
    assert ACTIONS["four"].act("ǆep ǅep ǄEP", 1) == "ırmak Irmak IRMAK"
    assert ACTIONS["four"].act("İŞÇI IŞÇI işçi", 1) == "İŞÇI ΆΝΔΡΑΣ άνδρας"  # İŞÇI is not what Python makes of işçi
    assert ACTIONS["four"].act("Άνδρας", 3) == "Işçi"
    hindi = TextAction(DemographicAxis("hindi", [("आदमी", "औरत"), ("आदम", "हव्वा")]))
    assert hindi.act("आदमी. आदम", 1) == "औरत. हव्वा"  # the vowel sign at the end belongs to the word


def test_phrases() -> None:
    action = TextAction(DemographicAxis("origin", [("African American", "European American"), ("he said", "she said")]))
    assert action.act("an African\n  American's, AFRICAN\u00a0AMERICAN", 1) == (
        "a European\n  American's, EUROPEAN\u00a0AMERICAN"
    )
    assert action.act("He said, He Said HE SAID he Said", 1) == "She said, She Said SHE SAID he Said"
    for text in ("african american", "African-American", "South AfricanAmerican", "African Americans", "African"):
        assert action.act(text, 1) == text


def test_phrases_of_unequal_length_match_single_spaces_only() -> None:
    assert ACTIONS["three"].act("night cab, Night Cab, night\ncab, night  cab", 2) == (
        "big red taxi, Big Red Taxi, night\ncab, night  cab"
    )


def test_hyphens_part_words_and_may_stand_in_them() -> None:
    action = TextAction(DemographicAxis("kin", [("son-in-law", "daughter-in-law")]))
    assert action.act("Son-in-law Son-In-Law SON-IN-LAW great-son-in-law son in law son-in-laws", 1) == (
        "Daughter-in-law Daughter-In-Law DAUGHTER-IN-LAW great-daughter-in-law son in law son-in-laws"
    )


def test_word_characters_are_those_of_python_and_the_marks() -> None:
    is_word = re.compile(word_character()).fullmatch
    for code in [*range(0x3000), 0xFE0F, 0x1F600, 0x1E8D0, 0x11000]:
        character = chr(code)
        mark = unicodedata.category(character) in ("Mn", "Mc")
        expected = character.isalnum() or character in "_\u00ad\u200c\u200d\u2060" or (mark and code != 0xFE0F)
        assert bool(is_word(character)) == expected, hex(code)


def test_written_forms() -> None:
    assert written_forms(["gay Black man", "iPhone user"])[1:] == [
        ("Gay Black man", "iPhone user"),
        ("Gay Black Man", "iPhone User"),
        ("GAY BLACK MAN", "IPHONE USER"),
    ]
    assert written_forms(["gay man", "lesbian"]) == [
        ("gay man", "lesbian"),
        ("Gay man", "Lesbian"),  # "Gay Man" would be "Lesbian" too
        ("GAY MAN", "LESBIAN"),
    ]
    assert written_forms(["男", "女"]) == [("男", "女")]
    assert written_forms(["a", "b"]) == [("a", "b"), ("A", "B")]


def test_groups() -> None:
    assert ACTIONS["three"].group == CyclicGroup(3)
    assert ACTIONS["product"].group == ProductGroup(CyclicGroup(2), CyclicGroup(3))
    assert ACTIONS["product"].act("a Black man", 4) == "a White woman"  # 4 is (1, 1)
    assert ACTIONS["product"].orbit("he: White")[:3] == ["he: White", "he: Asian", "he: Black"]
    assert ACTIONS["product"].stabilizer("he") == [0, 1, 2]
    assert ACTIONS["product"].stabilizer("Asian") == [0, 3]
    with pytest.raises(EquiLMError, match="6 is not an element"):
        ACTIONS["product"].act("he", 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([("i", "we")], r"'I' is one way to write \['I', 'WE'\] and also one of \['I', 'We'\]"),
        ([("queer", "LGBT")], r"'LGBT' is one way to write"),
        ([("男", "woman")], r"'男' is one way to write"),
        ([("ı", "i")], r"'I' is one way to write \['I', 'I'\]"),
        ([("ısı", "bo"), ("isi", "do")], r"'ISI' is one way to write \['ISI', 'DO'\] and also one of \['ISI', 'BO'\]"),
        ([("C++", "C")], r"'C\+\+' begins or ends"),
        ([("'tis", "it")], r"\"'tis\" begins or ends"),
        ([("a  b", "c d")], r"'a  b' has other white space"),
        ([("a\tb", "c d")], r"'a\\tb' has other white space"),
        ([("gay man", "straight man"), ("man", "woman")], r"'gay man' and 'man' can overlap"),
        ([("man", "woman"), ("man of God", "woman of God")], r"'man' and 'man of God' can overlap"),
        ([("a b", "c d"), ("b e", "f h")], r"'a b' and 'b e' can overlap"),
        ([("a b a", "see")], r"'a b a' and 'a b a' can overlap"),
        ([("mother-in-law", "ex"), ("mother", "father")], r"'mother-in-law' and 'mother' can overlap"),
        ([("x'yo", "zz"), ("yo", "ww")], r"\"x'yo\" and 'yo' can overlap"),
    ],
)
def test_refusals(words: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        TextAction(DemographicAxis("any", words))


def test_axes_that_overlap_are_refused() -> None:
    with pytest.raises(EquiLMError, match="'gay man' and 'man' can overlap"):
        TextAction(["gender", DemographicAxis("both", [("gay man", "tall man")])])
