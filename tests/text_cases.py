"""Random texts full of what an action on texts looks at, and judges that are as unhelpful as can be."""

import hashlib

from hypothesis import strategies as st

from equilm.text.action import TextAction
from equilm.text.pronouns import PronounJudge
from equilm.words.axes import DemographicAxis

GENDER = DemographicAxis("gender", [("man", "woman"), ("he", "she"), ("actor", "actress"), ("hour", "egg")])
RACE = DemographicAxis(
    "race",
    [("Black", "White"), ("African American", "European American")],
    modifiers=[("black", "white"), ("elder", "younger")],
    before=["people", "man", "elder"],
)
RACE3 = DemographicAxis("race3", [("Black", "White", "Asian"), ("old cab", "yellow cab", "big red taxi")])
NAMES = DemographicAxis("names", [[["Jamal", "Greg"], ["Lakisha", "Emily"]]], axes=("gender", "race"))
KIN = DemographicAxis("kin", [[["xo", "o'y", "zed"], ["aunt", "b-c", "ulla"]]], axes=("gender", "race3"))


def hashing(salt: str) -> PronounJudge:
    """A judge that answers by a hash of all it sees."""
    return lambda before, after: hashlib.sha256(f"{salt}|{before}|{after}".encode("utf-8", "replace")).digest()[0] < 128


ACTIONS = {
    "2": TextAction(GENDER, pronouns=hashing("2")),
    "2 by rules": TextAction("gender"),
    "3": TextAction(RACE3),
    "4": TextAction([GENDER, RACE], pronouns=hashing("4")),
    "4 joint": TextAction([GENDER, NAMES], pronouns=hashing("joint")),
    "4 joint alone": TextAction(NAMES),
    "4 three axes": TextAction([RACE, NAMES, GENDER], pronouns=hashing("three")),
    "6": TextAction([RACE3, GENDER], pronouns=hashing("6")),
    "6 joint": TextAction([GENDER, KIN], pronouns=hashing("kin")),
    "off": TextAction([DemographicAxis("gender", [("he", "she"), ("his", "her")]), RACE], pronouns=None),
}

GLUE = [
    *[
        "",
        " ",
        " ",
        " ",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "'s",
        "’",
        "-",
        "_",
        "__",
        "___",
        "____",
        "1",
        ".",
        ",",
        "(",
        "()",
    ],
    *[
        "(s)",
        ")",
        "/",
        "//",
        "://",
        "@",
        "\\",
        "$",
        "${",
        "*",
        '"',
        "\u0301",
        "\u00ad",
        "\u200d",
        "\ufe0f",
        "😀",
        "\x00",
    ],
    *[
        "s/",
        "(wo)",
        "a ",
        "an ",
        "A ",
        "An ",
        "AN ",
        "a\n",
        "an _",
        "www.",
        ".com",
        "x",
        "of",
        " or ",
        "/home/",
        "C:\\",
    ],
    *["people", " of the ", "his ", "her ", "him ", "hers", "His ", "HER ", "\ud800"],
]
CASES = [str, str.lower, str.upper, str.title, str.capitalize, str.swapcase]


def words(action: TextAction) -> list[str]:
    """Words, phrases and their pieces, modifiers and pronouns."""
    phrases = [phrase for axis in action.axes for entry in (*axis.words, *axis.modifiers) for phrase in entry]
    return [*phrases, *(word for phrase in phrases for word in phrase.split()), "his", "him", "her", "hers"]


def texts(action: TextAction) -> st.SearchStrategy[str]:
    """Words in any case, whole and in pieces, amid what decides about them, and amid anything."""
    cased = st.builds(lambda word, change: change(word), st.sampled_from(words(action)), st.sampled_from(CASES))
    anything = st.text(st.characters(), max_size=3)  # lone surrogates too
    return st.lists(st.one_of(cased, cased, st.sampled_from(GLUE), anything), max_size=16).map("".join)
