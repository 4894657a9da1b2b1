"""The action on a text that arrives in pieces: each comes out swapped as soon as what follows cannot change it."""

import re

from . import boundaries, pronouns
from .action import TextAction
from .lexicon import Lexicon
from .reading import place_of, read

_LEFT_REACH = 2 * max(boundaries.REACH, pronouns.LEFT_CONTEXT)  # no decision looks further back in the view


class StreamingTextAction:
    """``g·continuation`` for a continuation that arrives piece by piece, however it is cut.

    What `feed` returns, piece after piece, and then `flush`, are together exactly
    ``action.act_on_continuation(prompt, continuation, g)``. Text is held back only while what follows may change how it
    is swapped: an unfinished word or phrase, the article before it, what may be an address, and for a pronoun the text
    to its right that tells its class (60 characters).

    Args:
        action: the action on texts.
        g: the element that acts.
        prompt: the text that the continuation follows, as it is before the action.

    Example:
        >>> stream = StreamingTextAction(TextAction("gender"), 1)
        >>> [stream.feed(piece) for piece in ("The wo", "m", "an sa", "id: h", "e")], stream.flush()
        (['The ', '', 'man ', 'said: ', ''], 'she')
    """

    def __init__(self, action: TextAction, g: int, prompt: str = ""):
        action.group.check_element(g)
        self._lexicon, self._judge, self._g = action.lexicon, action.judge, g
        self._before = prompt[-boundaries.BEFORE :]
        self._view = read(self._lexicon, self._judge, prompt).view[-_LEFT_REACH:] if prompt else ""
        self._held = ""

    def feed(self, piece: str) -> str:
        """The next piece of the continuation; returns what is decided by now and was not returned before."""
        # A character beyond the basic plane may come as two surrogates in two JSON strings: they are one character.
        self._held = _join_surrogates(self._held + piece)
        decided, view = _decided(self._lexicon, self._before, self._held, self._view)
        return self._give(decided, view)

    def flush(self) -> str:
        """The end of the text: what was held back."""
        rest, self._held = self._image(), ""
        return rest

    def _give(self, decided: int, view: str) -> str:
        if not decided:
            return ""
        whole = self._image()
        self._before = (self._before + self._held[:decided])[-boundaries.BEFORE :]
        self._held, self._view = self._held[decided:], view[-_LEFT_REACH:]
        return whole[: len(whole) - len(self._image())]

    def _image(self) -> str:
        return read(self._lexicon, self._judge, self._held, self._before, self._view).image(self._g)


def _decided(lexicon: Lexicon, before: str, held: str, view: str) -> tuple[int, str]:
    """How many characters of a text are swapped in one way whatever follows, and the view up to there.

    Args:
        lexicon: the words.
        before: the last characters of the text before.
        held: the text.
        view: the view of the text before.
    """
    text = before + held
    unfinished = lexicon.unfinished.search(text, len(before))
    end = unfinished.start() if unfinished else len(text)
    if "\ud800" <= text[-1:] <= "\udbff":
        end = min(end, len(text) - 1)
    places = [place_of(lexicon, match) for match in lexicon.pattern.finditer(text, len(before))]
    for place in places:
        if place.end > end:
            end = min(end, place.start)
    places = [place for place in places if place.end <= end]
    shown, done, starts = [view], len(before), []
    length = len(view)
    for place in places:
        starts.append(length + place.start - done)
        shown += text[done : place.start], place.shown
        length, done = starts[-1] + len(place.shown), place.end
    whole = "".join((*shown, text[done:end]))
    for place, start in zip(places, starts, strict=True):
        after = start + len(place.shown)
        settled = boundaries.is_settled(whole, start, start + place.word, after)
        if not settled or (place.pronoun and not pronouns.is_settled(whole, after)):
            return place.start - len(before), whole[:start]
    return end - len(before), whole


def _join_surrogates(text: str) -> str:
    if not re.search("[\ud800-\udbff][\udc00-\udfff]", text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
