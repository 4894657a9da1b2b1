"""Prompts of the user's own: which group each one names, and how it reads for the other groups."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EquiLMError
from ..groups import Factors
from ..text.action import TextAction
from ..text.reading import read
from ..words.axes import DemographicAxis
from .prompts import GROUPS, OTHER_GROUPS

SLOT = "{group}"

# The key of a neutral prompt's only text.
NO_GROUP = ""


@dataclass(frozen=True)
class OwnPrompt:
    """One line of a file of prompts.

    Args:
        line: the line.
        texts: the prompt for each group; for a neutral prompt, which names no group, one text with the key `NO_GROUP`.
    """

    line: str
    texts: dict[str, str]


def default_groups(axis: DemographicAxis) -> tuple[str, ...]:
    """What the groups of an axis are called: the built-in axes have names, and for others the first list is taken."""
    names = GROUPS.get(axis.name) or OTHER_GROUPS.get(axis.name)
    built_in = names is not None and axis == DemographicAxis.load(axis.name)  # a file may use a built-in axis's name
    return names if names is not None and built_in else tuple(axis.words[0])


class AxisGroups:
    """The groups of an axis that a study compares, and the swaps between them.

    Args:
        axis: the axis.
        groups: what the groups are called, each by a word of the axis, such as "young man"; empty for the default:
            names for the built-in axes, otherwise the first list.

    Raises:
        EquiLMError: for fewer than two groups, a group without a word of the axis, and two groups of one member.
    """

    def __init__(self, axis: DemographicAxis, groups: Sequence[str] = ()):
        self.axis = axis
        self.groups = tuple(groups) or default_groups(axis)
        self.members = tuple(self._member(group) for group in self.groups)
        if len(self.groups) < 2 or len(set(self.members)) < len(self.members):
            raise EquiLMError(
                f"The groups {', '.join(self.groups)} of the axis {axis.name!r} cannot be compared: expected at least "
                "two, each named by another word of one list."
            )
        self.action = TextAction(axis)
        self._moves = Factors([axis.factors]).moves(0)

    def element(self, one: str, other: str) -> int:
        """The element that turns one group's words into another's; `NO_GROUP` stays as it is, by the identity."""
        if one == other:
            return 0
        start, end = (self.members[self.groups.index(group)] for group in (one, other))
        return self._element_between(start, end)

    def prompt(self, line: str) -> OwnPrompt:
        """The prompt of a line, in which `SLOT` stands for a group, or which names a group itself, or none.

        Raises:
            EquiLMError: if a template cannot be swapped from one group to another.
        """
        if SLOT in line:
            return self._from_template(line)
        member = self.member_named(line)
        if member is None:
            return OwnPrompt(line, {NO_GROUP: line})
        elements = [self._element_between(member, other) for other in self.members]
        texts = [self.action.act(line, g) for g in elements]
        return OwnPrompt(line, dict(zip(self.groups, texts, strict=True)))

    def member_named(self, text: str, prompt: str = "") -> int | None:
        """Which member of its list the first swapped word of a text is; None if there is none.

        Args:
            text: the text.
            prompt: what stands before it; its own words do not count.
        """
        lexicon = self.action.lexicon
        reading = read(lexicon, self.action.judge, text, prompt, self.action.canonical_view(prompt))
        if not reading.images:
            return None
        whole = prompt + text
        match = lexicon.pattern.match(whole, len(prompt) + len(reading.pieces[0]))
        assert match is not None  # the reading begins with this very match
        if slot := match.groupdict().get("slot"):
            return lexicon.places["he" if slot.lower() in ("his", "him") else "she"].member
        return lexicon.places[" ".join(match["word"].split())].member

    def _from_template(self, line: str) -> OwnPrompt:
        first = line.replace(SLOT, self.groups[0])
        texts = {}
        for group in self.groups:
            texts[group] = self.action.act(first, self.element(self.groups[0], group))
            if group.casefold() not in texts[group].casefold():
                raise EquiLMError(
                    f"The prompt {first!r} becomes {texts[group]!r} when the words of the axis {self.axis.name!r} are "
                    f"swapped, which does not name {group!r}. Some words are swapped only before certain others, such "
                    "as old before man; choose --groups that are swapped in your prompts, or write the words of the "
                    f"groups into the prompts in place of {SLOT}."
                )
        return OwnPrompt(line, texts)

    def _element_between(self, start: int, end: int) -> int:
        return next(g for g, moves in enumerate(self._moves) if moves[start] == end)

    def _member(self, group: str) -> int:
        lists = [*self.axis.words, *self.axis.modifiers]
        found = [
            (len(word), member)
            for words in lists
            for member, word in enumerate(words)
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", group, re.IGNORECASE)
        ]
        if not found:
            raise EquiLMError(
                f"The group {group!r} has no word of the axis {self.axis.name!r}. Name groups by its words, such as "
                f"{' and '.join(map(repr, self.axis.words[0]))}."
            )
        return max(found)[1]
