"""Pronouns: *her* is *his* before a noun and *him* elsewhere, so a pronoun is swapped by the class of its place.

Two classes suffice. In the place of a *determiner*, his ↔ her; in any other, him ↔ her and his ↔ hers. Each is its own
inverse, so a text's pronouns can be swapped and swapped back as long as both texts agree on the classes.
"""

from collections.abc import Callable, Sequence

from ..words.axes import DemographicAxis

# Says of a place between two pieces of text, the canonical view of what stands around it, whether it is a determiner's.
PronounJudge = Callable[[str, str], bool]

LOWER = frozenset(("his", "him", "her", "hers"))
_DETERMINER = {"his": "her", "her": "his"}
_OTHER = {"him": "her", "her": "him", "his": "hers", "hers": "his"}
_CASES = (str.lower, str.capitalize, str.upper)

SLOTS = tuple(case(word) for case in _CASES for word in sorted(LOWER))
# How a slot looks in the canonical view, whatever stands in it.
SHOWN = {case(word): case("her") for case in _CASES for word in LOWER}
_SWAPPED = {
    determiner: {case(word): case(other) for case in _CASES for word, other in pairs.items()}
    for determiner, pairs in ((True, _DETERMINER), (False, _OTHER))
}

# What tells that an axis is about he and she: a list of one of these pairs, in either order.
_HE_SHE = [{"he", "she"}, {"himself", "herself"}, {"his", "her"}, {"him", "her"}, {"his", "hers"}]

# The judge sees this many characters of the canonical view on either side.
LEFT_CONTEXT, RIGHT_CONTEXT = 240, 60


def swapped(pronoun: str, determiner: bool) -> str:
    """The pronoun of the other gender in a place of a class; *him* and *hers* in a determiner's place stay."""
    return _SWAPPED[determiner].get(pronoun, pronoun)


def gender_axis(axes: Sequence[DemographicAxis]) -> int | None:
    """The number of the axis that has the pronouns he and she (or their forms) for its two members, if there is one."""
    for number, axis in enumerate(axes):
        if axis.shape == (2,) and any(set(entry) in _HE_SHE for entry in axis.words):
            return number
    return None


def context(view: str, start: int, end: int) -> tuple[str, str]:
    """What a judge sees of a view: the text on either side of a slot, cut between words."""
    before, after = view[max(0, start - LEFT_CONTEXT) : start], view[end : end + RIGHT_CONTEXT]
    if start > LEFT_CONTEXT:
        before = before.partition(" ")[2]
    if end + RIGHT_CONTEXT < len(view):
        after = after.rpartition(" ")[0]
    return before, after


def is_settled(view: str, end: int) -> bool:
    """Whether what follows a view cannot change what `context` gives for the slot that ends at ``end``."""
    return end + RIGHT_CONTEXT < len(view)
