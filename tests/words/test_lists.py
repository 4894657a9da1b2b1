"""The built-in lists in text: all of them combine, and what the notes promise holds."""

import pytest

from equilm.text import TextAction

TOGETHER = (
    "gender",
    "race",
    "orientation",
    "religion",
    "age",
    "nationality",
    "disability",
    "body",
    "status",
    "names",
)


def test_all_subjects_combine_in_text() -> None:
    action = TextAction(TOGETHER)
    assert action.group.order == 2**8 * 3
    text = "A young black Muslim man, Jamal, met the rich Mexican women and their deaf friend."
    for g in (1, 17, 400, 767):
        assert action.act(action.act(text, g), action.group.inverse(g)) == text


@pytest.mark.parametrize(
    ("axis", "before", "after"),
    [
        ("gender", "The grandson of a king, her uncle.", "The granddaughter of a queen, his aunt."),
        ("gender", "Dear Sir or Madam", "Dear Madam or Sir"),
        ("gender", "Yes, ma'am!", "Yes, ma'am!"),
        ("race", "black men in a black car", "white men in a black car"),
        ("race", "An African American woman", "A European American woman"),
        ("race", "the European Union", "the European Union"),
        ("race3", "asian kids, Asian food", "black kids, Black food"),
        ("religion", "Christians in church at Christmas", "Muslims in mosque at Eid"),
        ("age", "a young woman, 10 years old", "an old woman, 10 years old"),
        ("nationality", "Two Mexicans from Mexico", "Two Americans from America"),
        ("disability", "a deaf student at a public hearing", "a hearing student at a public hearing"),
        ("body", "a tall boy, a short story", "a short boy, a short story"),
        ("status", "poor families, poor quality", "rich families, poor quality"),
        ("orientation", "heterosexual couples", "homosexual couples"),
    ],
)
def test_texts_before_and_after(axis: str, before: str, after: str) -> None:
    action = TextAction(axis)
    assert action.act(before, 1) == after
    assert action.act(after, action.group.inverse(1)) == before


def test_first_names_are_moved_by_both_their_axes() -> None:
    action = TextAction(["gender", "names"])
    assert set(action.orbit("Emily said she would.")) == {
        "Emily said she would.",
        "Greg said he would.",
        "Lakisha said she would.",
        "Jamal said he would.",
    }
