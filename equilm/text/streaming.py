"""The action on a text that arrives in pieces: each piece comes out swapped as soon as what follows cannot change it."""

import re
from collections.abc import Iterable, Mapping

from .action import TextAction
from .forms import word_character


class StreamingTextAction:
    """``g·continuation`` for a continuation that arrives piece by piece, however it is cut.

    What `feed` returns, piece after piece, and then `flush`, are together exactly
    ``action.act_on_continuation(prompt, continuation, g)``. Text is held back only while it may still become a longer
    word or phrase of the axes.

    Args:
        action: the action on texts.
        g: the element that acts.
        prompt: the text that the continuation follows, as it is before the action.

    Example:
        >>> stream = StreamingTextAction(TextAction("gender"), 1)
        >>> [stream.feed(piece) for piece in ("The wo", "m", "an sa", "id: h", "e")], stream.flush()
        (['The ', '', 'man sa', 'id: ', ''], 'she')
    """

    def __init__(self, action: TextAction, g: int, prompt: str = ""):
        action.group.check_element(g)
        self._action, self._g = action, g
        self._before = prompt
        self._held = ""
        self._prefixes = FormPrefixes.of(action)

    def feed(self, piece: str) -> str:
        """The next piece of the continuation; returns what is decided by now and was not returned before."""
        # A character beyond the basic plane may come as two surrogates in two JSON strings: they are one character.
        self._held = _join_surrogates(self._held + piece)
        decided = self._decided()
        if not decided:
            return ""
        whole = self._act(self._before, self._held)
        before, rest = self._before + self._held[:decided], self._held[decided:]
        tail = self._act(before, rest)
        self._before, self._held = before[-1:], rest
        return whole[: len(whole) - len(tail)]

    def flush(self) -> str:
        """The end of the text: what was held back. A further text may follow, which goes on from there."""
        last = self._act(self._before, self._held)
        self._before, self._held = (self._before + self._held)[-1:], ""
        return last

    def _act(self, before: str, text: str) -> str:
        return self._action.act_on_continuation(before, text, self._g) if text else ""

    def _decided(self) -> int:
        end = len(self._held)
        if "\ud800" <= self._held[-1:] <= "\udbff":
            end -= 1
        text = self._before[-1:] + self._held[:end]
        start = len(text) - end
        return self._prefixes.search(text, start) - start


class FormPrefixes:
    """Finds the place from which the end of a text may still grow into one of the words and phrases it was made for.

    Args:
        patterns: for each word or phrase, the regular expression of one character after the other that it matches.
    """

    _of: dict[int, tuple[TextAction, "FormPrefixes"]] = {}

    def __init__(self, patterns: Iterable[tuple[str, ...]]):
        tree: dict[str, dict[str, object]] = {}
        for units in patterns:
            node: dict[str, object] = tree  # type: ignore[assignment]
            for unit in units:
                node = node.setdefault(unit, {})  # type: ignore[assignment]
        self._pattern = re.compile(rf"(?<!{word_character()}){_prefix_pattern(tree)}\Z")

    def search(self, text: str, start: int) -> int:
        """The first position from ``start`` on whose text may go on as a form; the length of the text if there is none."""
        found = self._pattern.search(text, start)
        return len(text) if found is None else found.start()


def _prefix_pattern(tree: Mapping[str, object]) -> str:
    """A regular expression of all beginnings of what a tree spells, the empty one left out."""
    branches = [
        unit + (f"(?:{_prefix_pattern(rest)})?" if rest else "")  # type: ignore[arg-type]
        for unit, rest in tree.items()
    ]
    return f"(?:{'|'.join(branches)})"


def _join_surrogates(text: str) -> str:
    if not re.search("[\ud800-\udbff][\udc00-\udfff]", text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
