"""A long run: is the action on text exact, whatever judges the pronouns? Random texts and (prompt, continuation) pairs.

    python examples/pronouns/exactness.py                  # 100,000 of each, about half an hour
    python examples/pronouns/exactness.py --number 1000 --seed 7

The judges are as adversarial as can be: hashes of all they see. Counted are violations of the identity, of composition,
of the inverse, and of the invariance of the canonical view, for groups of order 2, 3, 4 and 6 and for joint lists.
"""

import argparse
import hashlib
import random
import sys
from collections.abc import Callable

from equilm import DemographicAxis
from equilm.text import TextAction

RACE = DemographicAxis(
    "race", [("Black", "White"), ("African American", "European American")], modifiers=[("black", "white")],
    before=["people", "man"],
)  # fmt: skip
RACE3 = DemographicAxis("race", [("Black", "White", "Asian"), ("old cab", "yellow cab", "big red taxi")])
NAMES = DemographicAxis("names", [[["Jamal", "Greg"], ["Lakisha", "Emily"]]], axes=("gender", "race"))
NAMES3 = DemographicAxis("names", [[["Jamal", "Greg", "Wei"], ["Lakisha", "Emily", "Mei"]]], axes=("gender", "race"))
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
        "'s",
        "’",
        "-",
        "_",
        "__",
        "___",
        "1",
        ".",
        ",",
        "(",
        "(s)",
        ")",
        "/",
    ],
    *["//", "://", "@", "\\", "$", "*", '"', "\u0301", "\u00ad", "\u200d", "😀", "s/", "a ", "an ", "A ", "An ", "AN "],
    *["www.", ".com", "x", " of the ", " or ", "/home/", "people", "king", "\ud800", "ß", "saw ", " and "],
]
CASES = [str, str, str, str.lower, str.upper, str.title, str.capitalize, str.swapcase]


def hashing(salt: int) -> Callable[[str, str], bool]:
    """A judge that answers by a hash of all it sees."""
    return lambda before, after: hashlib.sha256(f"{salt}|{before}|{after}".encode("utf-8", "replace")).digest()[0] < 128


def violations(action: TextAction, draw: random.Random) -> int:
    """How many of the axioms fail for one random text, cut at a random place, and two random elements."""
    words = [w for axis in action.axes for entry in (*axis.words, *axis.modifiers) for w in entry]
    words += [*(piece for word in words for piece in word.split()), "his", "him", "her", "hers", "his", "her"]
    pieces = [
        draw.choice(CASES)(draw.choice(words)) if draw.random() < 0.5 else draw.choice(GLUE)
        for _ in range(draw.randrange(24))
    ]
    text, group = "".join(pieces), action.group
    cut, g, h = draw.randint(0, len(text)), draw.randrange(group.order), draw.randrange(group.order)
    prompt, continuation = text[:cut], text[cut:]
    moved = action.act(text, h)
    before, after = action.act(prompt, h), action.act_on_continuation(prompt, continuation, h)
    both = action.act_on_continuation(prompt, continuation, group.compose(g, h))
    return (
        (action.act(text, 0) != text)
        + (action.act(moved, g) != action.act(text, group.compose(g, h)))
        + (action.act(moved, group.inverse(h)) != text)
        + (action.canonical_view(moved) != action.canonical_view(text))
        + (action.act_on_continuation(prompt, continuation, 0) != continuation)
        + (action.act_on_continuation(before, after, g) != both)
        + (action.act_on_continuation(before, after, group.inverse(h)) != continuation)
    )


def main() -> None:
    """Print the number of texts and of violations for each group; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100_000, help="texts, and as many pairs, over all groups")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    cases = {
        "gender": "gender",
        "race of three": RACE3,
        "gender × race": ["gender", RACE],
        "gender × race, names": ["gender", RACE, NAMES],
        "gender × race of three": ["gender", RACE3],
        "gender × race of three, names": ["gender", NAMES3],
    }
    found = 0
    for name, axes in cases.items():
        number = -(-arguments.number // len(cases))
        action = TextAction(axes, pronouns=hashing(draw.randrange(2**32)))  # type: ignore[arg-type]
        wrong = sum(violations(action, draw) for _ in range(number))
        found += wrong
        print(f"{name} (|G| = {action.group.order}): {number:,} texts and pairs, {wrong} violations", flush=True)
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
