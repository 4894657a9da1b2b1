"""Reading a text: the places in it that a group moves, found and classed on its *canonical view*.

The view of a text shows each word of the axes as the first of its list, each article as it would stand there, and each
pronoun as *her*. All texts of an orbit have one view, so whatever is decided by the view alone, by rules, a parser or a
language model, is decided alike for all of them, and the swaps stay a group action. That is the whole proof.
"""

import re
from typing import NamedTuple

from .boundaries import BEFORE, is_plain_word
from .lexicon import Lexicon
from .pronouns import SHOWN, PronounJudge, context, swapped


class Reading(NamedTuple):
    """A text cut at the places that are swapped.

    Attributes:
        view: its canonical view.
        pieces: the text between the places, one more than there are places.
        images: for each place what each element of the group turns it into.
    """

    view: str
    pieces: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]

    def image(self, g: int) -> str:
        """The text that ``g`` turns this one into."""
        parts = [part for piece, images in zip(self.pieces, self.images, strict=False) for part in (piece, images[g])]
        return "".join((*parts, self.pieces[-1]))


class Place(NamedTuple):
    """A place in a text, how the view shows it, and its images, which for a pronoun its class decides."""

    start: int
    end: int
    shown: str
    word: int  # where the word begins in what is shown, after its article
    images: tuple[str, ...]
    pronoun: str


def read(lexicon: Lexicon, judge: PronounJudge, text: str, prompt: str = "", prompt_view: str = "") -> Reading:
    """Find the places of a text, and what each element turns them into.

    Args:
        lexicon: the words of the axes.
        judge: tells the class of pronouns.
        text: what is read.
        prompt: what stands before it: whether it ends inside a word matters, and so does its view to judges.
        prompt_view: the prompt's view.
    """
    before = prompt[-BEFORE:]
    text = before + text
    places = [place_of(lexicon, match) for match in lexicon.pattern.finditer(text, len(before))]
    shown, end = [prompt_view], len(before)
    for place in places:
        shown += text[end : place.start], place.shown
        end = place.end
    view = "".join((*shown, text[end:]))
    pieces, images = [], []
    kept, ahead = len(before), len(prompt_view) - len(before)  # ahead: how much further a place is in the view
    for place in places:
        start, end = place.start + ahead, place.start + ahead + len(place.shown)
        ahead = end - place.end
        if not is_plain_word(view, start, start + place.word, end):
            continue
        pieces.append(text[kept : place.start])
        kept = place.end
        if place.pronoun:
            other = swapped(place.pronoun, judge(*context(view, start, end)))
            images.append(tuple(other if turned else place.pronoun for turned in lexicon.turned))
        else:
            images.append(place.images)
    return Reading(view, (*pieces, text[kept:]), tuple(images))


def place_of(lexicon: Lexicon, match: re.Match[str]) -> Place:
    """The place of a match of the lexicon's pattern, before it is known whether it is a word, and of which class."""
    groups = match.groupdict()
    if pronoun := groups.get("slot"):
        return Place(*match.span(), SHOWN[pronoun], 0, (), pronoun)
    shown, word, images = lexicon.look_up(groups.get("article") or "", groups.get("gap") or "", groups["word"])
    return Place(*match.span(), shown, word, images, "")
