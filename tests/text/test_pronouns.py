"""Pronouns: the action is exact whatever judges them, each class is an involution, and English comes out right."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_cases import ACTIONS, GENDER, NAMES, hashing, texts

from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, ProductGroup
from equilm.text import TextAction, TextSymmetrizer
from equilm.text.pronouns import LEFT_CONTEXT, RIGHT_CONTEXT, SLOTS, swapped
from equilm.words.axes import DemographicAxis

FAMILY = DemographicAxis("gender", [("man", "woman"), ("he", "she"), ("husband", "wife"), ("himself", "herself")])


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(ACTIONS)))
def test_an_action_on_texts_whatever_the_judge(data: st.DataObject, name: str) -> None:
    action = ACTIONS[name]
    text = data.draw(texts(action))
    g, h = (data.draw(st.sampled_from(action.group.elements)) for _ in "gh")
    moved = action.act(text, h)
    assert action.act(text, 0) == text
    assert action.act(moved, g) == action.act(text, action.group.compose(g, h))
    assert action.act(moved, action.group.inverse(h)) == text
    assert action.canonical_view(moved) == action.canonical_view(text)
    assert action.orbit(text)[h] == moved


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(ACTIONS)))
def test_an_action_on_pairs_whatever_the_judge(data: st.DataObject, name: str) -> None:
    action = ACTIONS[name]
    text = data.draw(texts(action))
    cut = data.draw(st.integers(0, len(text)))
    prompt, continuation = text[:cut], text[cut:]
    g, h = (data.draw(st.sampled_from(action.group.elements)) for _ in "gh")
    moved, before = action.act_on_continuation(prompt, continuation, h), action.act(prompt, h)
    assert action.act_on_continuation(prompt, continuation, 0) == continuation
    both = action.act_on_continuation(prompt, continuation, action.group.compose(g, h))
    assert action.act_on_continuation(before, moved, g) == both
    assert action.act_on_continuation(before, moved, action.group.inverse(h)) == continuation


@pytest.mark.parametrize("name", ACTIONS)
def test_the_cases_cover_every_order(name: str) -> None:
    assert ACTIONS[name].group.order == int(name[0]) if name[0].isdigit() else 4


def test_each_class_is_an_involution() -> None:
    for determiner in (True, False):
        for pronoun in SLOTS:
            other = swapped(pronoun, determiner)
            assert swapped(other, determiner) == pronoun
            assert (other.islower(), other.isupper()) == (pronoun.islower(), pronoun.isupper())
    assert [swapped(word, True) for word in ("his", "Her", "HIM")] == ["her", "His", "HIM"]
    assert [swapped(word, False) for word in ("his", "him", "Her", "HERS")] == ["hers", "her", "Him", "HIS"]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (
            "The man took his coat, and his wife gave him her key.",
            "The woman took her coat, and her husband gave her his key.",
        ),
        ("I saw her. HER car is hers; Her wife's too.", "I saw him. HIS car is his; His husband's too."),
        ("He did it himself, for her and his wife.", "She did it herself, for him and her husband."),
        ("Each brings his or her book.", "Each brings her or his book."),
        ("Give it to him or her.", "Give it to her or him."),
        ("That is his/her choice, not him/her.", "That is her/his choice, not her/him."),
        (
            "A friend of his let her go to her own mother.",
            "A friend of hers let him go to his own mother.",
        ),
        ("Her, _his_ book and *hers*.", "Him, _her_ book and *his*."),
        ("def her(self): his.name = http://x.com/her her@x.com hIm", None),
        ("Heather, this, hershey, his2 and him_x stay.", None),
    ],
)
def test_english(text: str, other: str | None) -> None:
    action = TextAction(FAMILY)
    assert action.act(text, 1) == (text if other is None else other)
    assert action.act(action.act(text, 1), 1) == text


def test_a_prompt_is_judged_alone_and_a_continuation_with_its_prompt() -> None:
    seen: list[tuple[str, str]] = []

    def judge(before: str, after: str) -> bool:
        seen.append((before, after))
        return True

    action = TextAction(FAMILY, pronouns=judge)
    assert action.act_on_continuation("She and his", " wife, his love", 1) == " husband, her love"
    assert action.act("She and his", 1) == "He and her"
    assert seen == [("He and ", ""), ("He and her husband, ", " love")]


def test_the_window_is_bounded_and_each_is_judged_once() -> None:
    seen: list[tuple[str, str]] = []

    def judge(before: str, after: str) -> bool:
        seen.append((before, after))
        return False

    action = TextAction(FAMILY, pronouns=judge)
    far = "woman " * 500
    text = f"{far}saw him {far}"
    assert action.act(action.act(text, 1), 1) == text
    ((before, after),) = seen
    assert before.endswith(" man saw ") and LEFT_CONTEXT - 10 < len(before) <= LEFT_CONTEXT
    assert after.startswith(" man man") and RIGHT_CONTEXT - 10 < len(after) <= RIGHT_CONTEXT


@pytest.mark.parametrize("name", ["pronouns", "gender"])
@pytest.mark.parametrize("pair", [("he", "she"), ("she", "he"), ("his", "her"), ("her", "him"), ("himself", "herself")])
def test_on_by_default_for_an_axis_of_he_and_she(name: str, pair: tuple[str, str]) -> None:
    action = TextAction(DemographicAxis(name, [("x", "y"), pair]))
    assert action.swaps_pronouns
    assert action.act("I saw him, his key and hers.", 1) == "I saw her, her key and his."


@pytest.mark.parametrize("axis", [DemographicAxis("gender", [("man", "woman")]), NAMES, "race"])
def test_off_without_he_and_she(axis: DemographicAxis | str) -> None:
    assert not TextAction(axis).swaps_pronouns
    assert TextAction(axis).act("I saw him, his key and hers.", 1) == "I saw him, his key and hers."


def test_three_members_leave_pronouns_to_the_lists() -> None:
    action = TextAction(DemographicAxis("gender", [("he", "she", "they"), ("his", "her", "their")]))
    assert not action.swaps_pronouns
    assert action.act("He and his dog. They saw her.", 1) == "She and her dog. He saw their."


@pytest.mark.parametrize("off", [None, False])
def test_switched_off_the_list_is_swapped_as_it_is_written(off: None) -> None:
    axis = DemographicAxis("gender", [("he", "she"), ("his", "her")])
    assert TextAction(axis).act("He saw her, his key, him.", 1) == "She saw him, her key, her."
    assert TextAction(axis, pronouns=off).act("He saw her, his key, him.", 1) == "She saw his, her key, him."
    assert not TextAction(axis, pronouns=off).swaps_pronouns


def test_a_list_of_pronouns_and_other_words_is_refused() -> None:
    axis = DemographicAxis("gender", [("he", "she"), ("his", "the")])
    with pytest.raises(EquiLMError, match=r"\['his', 'the'\] holds the pronoun 'his'.*pronouns=None"):
        TextAction(axis)
    assert TextAction(axis, pronouns=None).act("his", 1) == "the"
    with pytest.raises(EquiLMError, match="can overlap"):
        TextAction(DemographicAxis("gender", [("he", "she"), ("her majesty", "his majesty")]))


def test_names_follow_their_pronouns() -> None:
    action = TextAction(["gender", NAMES])
    assert action.group == ProductGroup(CyclicGroup(2), CyclicGroup(2))
    text = "Emily said she had lost her keys. GREG's wife saw her."
    assert action.orbit(text) == [
        text,
        "Lakisha said she had lost her keys. JAMAL's wife saw her.",
        "Greg said he had lost his keys. EMILY's husband saw him.",
        "Jamal said he had lost his keys. LAKISHA's husband saw him.",
    ]
    assert action.stabilizer("he") == [0, 1]
    assert TextAction([NAMES, "gender", "race"]).act("a Black woman, Emily", 3) == "a White man, Jamal"


def test_modifiers_move_only_before_their_words() -> None:
    race = DemographicAxis("race", [("Black", "White")], modifiers=[("black", "white")], before=["people", "man"])
    action = TextAction([GENDER, race])
    both = action.group.order - 1
    assert action.act("A black man in a black coat.", both) == "A white woman in a black coat."
    assert action.act("a white woman, white people, White, WHITE PEOPLE", 1) == (
        "a black woman, black people, Black, BLACK PEOPLE"
    )
    assert action.act("white, people; white mankind; white", 1) == "white, people; white mankind; white"
    with pytest.raises(EquiLMError, match="'old man' and 'old' can overlap"):
        TextAction(DemographicAxis("a", [("old man", "queer")], modifiers=[("black", "white")], before=["old"]))


def test_the_sequence_level_swaps_pronouns() -> None:
    sent: list[str] = []

    def generate(prompts: list[str]) -> list[str]:
        sent.extend(prompts)
        return [" her coat, and his wife saw him." for _ in prompts]

    cases: list[tuple[Any, str | None]] = [("rules", " his coat, and her husband saw her."), (hashing("x"), None)]
    for pronouns, back in cases:
        symmetrizer = TextSymmetrizer(FAMILY, seed=0, pronouns=pronouns)
        fair = symmetrizer.wrap(generate)
        answers, elements = fair(["The woman took"] * 20, return_elements=True)
        assert set(elements) == {0, 1}
        assert back is None or {a for a, g in zip(answers, elements, strict=True) if g} == {back}
    assert set(sent) == {"The woman took", "The man took"}


def test_log_prob_scores_the_orbit_of_pronouns() -> None:
    asked: list[tuple[str, str]] = []

    def score(prompts: list[str], continuations: list[str]) -> list[float]:
        asked.extend(zip(prompts, continuations, strict=True))
        return [-1.0] * len(prompts)

    assert TextSymmetrizer(FAMILY).log_prob(score, ["She saw him and"], [" his key"]) == [-1.0]
    assert asked == [("She saw him and", " his key"), ("He saw her and", " her key")]
