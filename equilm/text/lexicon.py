"""The words of several axes as they stand in text: one regular expression for all of them, and what each one is."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import EquiLMError
from ..groups import Factors
from ..words.axes import DemographicAxis
from . import articles, pronouns
from .boundaries import LEFT, RIGHT
from .forms import check_apart, check_distinct, check_phrase, written_forms

# What may stand between an article and its word besides white space.
_QUOTES = r"[*_\"'“‘(]"


class Place(NamedTuple):
    """Where a written form stands: in which axis, in which form of which list, and which of its words it is."""

    axis: int
    entry: tuple[str, ...]
    form: tuple[str, ...]
    member: int


class Lexicon:
    """The words, phrases and modifiers of some axes, and, where asked, the pronouns and the articles.

    Args:
        axes: the axes.
        pronouns_on: whether his, him, her and hers are slots, in place of lists that hold them.

    Raises:
        EquiLMError: as `TextAction`.
    """

    def __init__(self, axes: Sequence[DemographicAxis], pronouns_on: bool):
        factors = Factors([axis.factors for axis in axes])
        self.group = factors.group
        self.moves = [factors.moves(number) for number in range(len(axes))]
        gender = pronouns.gender_axis(axes)
        # For each element whether it turns he into she: what pronouns follow.
        self.turns_pronouns = pronouns_on and gender is not None
        self.turned = [bool(moves[0]) for moves in self.moves[gender]] if gender is not None else []
        self.places: dict[str, Place] = {}
        self._spaces: dict[str, str] = {}
        words = self._add(axes, lambda axis: self._without_slots(axis))
        modifiers = self._add(axes, lambda axis: axis.modifiers)
        before = [self._before(axis) for axis in axes]
        slots = pronouns.SLOTS if self.turns_pronouns else ()
        check_apart(dict.fromkeys([*self.places, *(word for forms in before for word in sorted(forms)), *slots]))
        conditional = {
            word: forms for word in modifiers for number, forms in enumerate(before) if self.places[word].axis == number
        }
        self.has_articles = not any(piece in articles.FORMS for word in self.places for piece in re.split(r"\W", word))
        self.pattern = self._compile(words, conditional, slots)
        # The end of a text from a place on that may still grow into a match of `pattern`.
        self.unfinished = self._compile_unfinished(words, conditional, slots)
        # Texts repeat their words: each way to write one is worked out once.
        self.look_up = lru_cache(2**16)(self._look_up)

    def _look_up(self, article: str, gap: str, found: str) -> tuple[str, int, tuple[str, ...]]:
        """How a word and its article look in the canonical view, where the word begins there, and all their images.

        Args:
            article: the article before the word, or nothing.
            gap: what stands between the two.
            found: the word or phrase as it stands in the text.
        """
        phrase = " ".join(found.split())
        axis, entry, form, member = self.places[phrase]
        spaces = re.findall(r"\s+", found) if found != phrase else []
        upper = all(word.isupper() for word in form)
        agrees = articles.is_article(article, upper)

        def article_of(cell: int) -> str:
            return articles.agreeing(article, entry[member], entry[cell], upper) if agrees else article

        def spaced(cell: int) -> str:
            parts = form[cell].split(" ") if spaces else [form[cell]]
            return "".join(part + space for part, space in zip(parts, [*spaces, ""], strict=True))

        cells = [article_of(cell) + gap + spaced(cell) for cell in range(len(form))]
        return cells[0], len(article_of(0) + gap), tuple(cells[moves[member]] for moves in self.moves[axis])

    def _add(self, axes: Sequence[DemographicAxis], lists: Callable[[DemographicAxis], Iterable[Any]]) -> list[str]:
        """Take in the written forms of some lists, but for those that are there already; returns what is new."""
        forms, new = [], []
        for number, axis in enumerate(axes):
            for entry in lists(axis):
                for phrase in entry:
                    check_phrase(phrase, axis)
                # Only between equally many words can the white space of one phrase be put into another.
                space = r"\s+" if len({phrase.count(" ") for phrase in entry}) == 1 else " "
                for form in written_forms(entry):
                    if all(word in self.places and self.places[word].form == form for word in form):
                        continue  # Black, a word already, as a form of the modifier black
                    forms.append((axis, form))
                    for member, word in enumerate(form):
                        new.append(word)
                        self.places.setdefault(word, Place(number, tuple(entry), form, member))
                        self._spaces[word] = space
        check_distinct([*((axes[place.axis], place.form) for place in self.places.values()), *forms])
        return new

    def _without_slots(self, axis: DemographicAxis) -> list[Sequence[str]]:
        """The lists of an axis but for those that the pronouns take the place of."""
        if not self.turns_pronouns:
            return list(axis.words)
        lists = [entry for entry in axis.words if not pronouns.LOWER.issuperset(entry)]
        for entry in lists:
            if mixed := pronouns.LOWER.intersection(entry):
                raise EquiLMError(
                    f"Axis {axis.name!r}: the list {list(entry)} holds the pronoun {min(mixed)!r} beside other words, "
                    "but pronouns are swapped by their place in the sentence. Take the list out, or pass pronouns=None."
                )
        return lists

    def _before(self, axis: DemographicAxis) -> set[str]:
        """The written forms that may follow an axis's modifiers, and all that a swap may turn them into."""
        forms = {form for word in axis.before for (form,) in written_forms([word])}
        return forms.union(*(self.places[form].form for form in forms if form in self.places))

    def _compile(self, words: Sequence[str], conditional: dict[str, set[str]], slots: Sequence[str]) -> re.Pattern[str]:
        alternatives = [self._alternatives(words)] if words else []
        for followers in {frozenset(forms) for forms in conditional.values()}:
            own = [word for word, forms in conditional.items() if forms == followers]
            follow = self._alternatives(sorted(followers))
            alternatives.append(rf"{self._alternatives(own)}(?=\s+{follow}{RIGHT})")
        article = rf"(?:(?P<article>[Aa][Nn]?)(?P<gap>\s+{_QUOTES}{{0,3}}))?" if self.has_articles else ""
        slot = rf"|(?P<slot>{_trie(slots)}){RIGHT}" if slots else ""
        start = LEFT if article else ""
        found = rf"{article}{start}(?P<word>{'|'.join(alternatives)}){RIGHT}" if alternatives else r"(?P<word>(?!))"
        return re.compile(rf"{LEFT}(?:{found}{slot})")

    def _compile_unfinished(
        self, words: Sequence[str], conditional: dict[str, set[str]], slots: Sequence[str]
    ) -> re.Pattern[str]:
        ways = [_beginnings([*words, *conditional, *slots], lambda word: self._spaces.get(word, " "))]
        for followers in {frozenset(forms) for forms in conditional.values()}:
            own = [word for word, forms in conditional.items() if forms == followers]
            ways.append(rf"{self._alternatives(own)}\s+(?:{_beginnings(sorted(followers))})?")
        word = f"(?:{'|'.join(ways)})"
        article = rf"[Aa][Nn]?(?:\s+{_QUOTES}{{0,3}}{word}?)?|" if self.has_articles else ""
        return re.compile(rf"{LEFT}(?:{article}{word})\Z")

    def _alternatives(self, words: Iterable[str]) -> str:
        return _trie(words, lambda word: self._spaces.get(word, " "))


def _trie(words: Iterable[str], space: Callable[[str], str] = lambda word: " ") -> str:
    """A regular expression for any of some words that tries their common beginnings once.

    Args:
        words: the words; the longer of two that begin alike comes first.
        space: the regular expression for white space in a word.
    """

    def write(node: dict[str, Any]) -> str:
        ways = [part + write(below) for part, below in node.items() if part]
        if not ways:
            return ""
        joined = ways[0] if len(ways) == 1 and "" not in node else f"(?:{'|'.join(ways)})"
        return joined + "?" * ("" in node)

    return write(_tree(words, space))


def _beginnings(words: Iterable[str], space: Callable[[str], str] = lambda word: " ") -> str:
    """A regular expression for all that some words may begin with, and for the words with underscores after them."""

    def write(node: dict[str, Any]) -> str:
        ways = [part + write(below) for part, below in node.items() if part]
        return f"(?:{'|'.join([*ways, *['_{1,3}'] * ('' in node)])})?"

    return write(_tree(words, space)).removesuffix("?")


def _tree(words: Iterable[str], space: Callable[[str], str]) -> dict[str, Any]:
    """The words by their regular expressions, character after character; ``""`` stands where a word ends."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for character in word:
            node = node.setdefault(space(word) if character == " " else re.escape(character), {})
        node[""] = {}
    return tree
