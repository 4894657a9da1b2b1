"""Word forms in text: in which cases the words of a list are written, and whether their swaps can be undone."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from ..errors import EquiLMError
from ..words.axes import DemographicAxis

# The soft hyphen, the zero-width joiners and the word joiner stand inside words, not between them.
_JOINERS = "\u00ad\u200c\u200d\u2060"


@cache
def word_character() -> str:
    """A regular expression for one character of a word: letters, digits, ``_``, and the marks that `re` leaves out.

    Without its marks, such as accents written apart and the vowel signs of Indic scripts, a word would end inside.
    Variation selectors are left out: they stand after symbols, which are not part of a word.
    """
    ranges: list[list[int]] = []
    for code in range(0x300, 0xE0100):  # all marks lie here; what follows are variation selectors
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return rf"[\w{_JOINERS}{''.join(f'{chr(first)}-{chr(last)}' for first, last in ranges)}]"


def written_forms(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The forms of a list, each with all its words in one case pattern; patterns that coincide are named once.

    The patterns are: as written; with a capital; with a capital for every word (after a hyphen too), in a list of
    phrases only; and upper case. A word that has capitals as it is written never loses them.

    Example:
        >>> written_forms(["man", "woman"])
        [('man', 'woman'), ('Man', 'Woman'), ('MAN', 'WOMAN')]
        >>> written_forms(["gay man", "straight man"])[1:3]
        [('Gay man', 'Straight man'), ('Gay Man', 'Straight Man')]
        >>> written_forms(["Black", "White"])
        [('Black', 'White'), ('BLACK', 'WHITE')]
    """
    first, every = tuple(map(_first_capital, words)), tuple(map(_every_capital, words))
    # Beside a list's single words, which have one capital either way, nothing would tell which of the two is meant.
    told_apart = all(one != other for one, other in zip(first, every, strict=True))
    return list(dict.fromkeys([tuple(words), first, *[every] * told_apart, tuple(word.upper() for word in words)]))


def _capital(word: str) -> str:
    # The first character's title case differs from its upper case in letters such as ǆ: ǅ, not Ǆ.
    return word[0].title() + word[1:] if word.islower() else word


def _first_capital(phrase: str) -> str:
    first, space, rest = phrase.partition(" ")
    return _capital(first) + space + rest


def _every_capital(phrase: str) -> str:
    return "".join(_capital(part) for part in re.split(r"([ -])", phrase))


def check_phrase(phrase: str, axis: DemographicAxis) -> None:
    """Check that a word or phrase begins and ends inside a word, and has single spaces between its words.

    Raises:
        EquiLMError: names the phrase.
    """
    word = word_character()
    if not re.match(word, phrase) or not re.match(word, phrase[-1]) or "_" in (phrase[0], phrase[-1]):
        raise EquiLMError(
            f"Axis {axis.name!r}: {phrase!r} begins or ends with a character that is no part of a word, so text has no "
            "word boundary there. Expected letters or digits at both ends; write it without that character."
        )
    if " ".join(phrase.split()) != phrase:
        raise EquiLMError(
            f"Axis {axis.name!r}: {phrase!r} has other white space than single spaces between its words. "
            "Write single spaces; other white space is found in text all the same."
        )


def check_distinct(forms: Iterable[tuple[DemographicAxis, tuple[str, ...]]]) -> None:
    """Check that no two words are written alike: else nothing would tell which of them a swap has to give back.

    Args:
        forms: all forms of all lists, each with its axis.

    Raises:
        EquiLMError: names the form and the two lists it stands in.
    """
    found: dict[str, tuple[str, ...]] = {}
    for axis, form in forms:
        for word in form:
            if (other := found.setdefault(word, form)) is not form or form.count(word) > 1:
                raise EquiLMError(
                    f"Axis {axis.name!r}: {word!r} is one way to write {list(form)} and also one of {list(other)}, so "
                    "its swap could not be undone. Expected words that differ in every case, and are all capitalized "
                    "or all not within a list: take one of them out, or write its list in one case."
                )


def check_apart(phrases: Iterable[str]) -> None:
    """Check that no phrase can share a word with another phrase in a text: not inside it, nor at its ends.

    This is what makes swaps a group action. Where no two occurrences can ever overlap, each occurrence in the swapped
    text is one that was there before, so the same places are found again, whatever stands around them.

    Raises:
        EquiLMError: names the two phrases.
    """
    pieces = {phrase: re.findall(rf"(?s){word_character()}+|.", phrase) for phrase in phrases}
    by_first: dict[str, list[str]] = defaultdict(list)
    for phrase, words in pieces.items():
        by_first[words[0]].append(phrase)
    for phrase, words in pieces.items():
        for start, other in _meetings(words, pieces, by_first):
            if start or other != phrase:
                raise EquiLMError(
                    f"{phrase!r} and {other!r} can overlap in a text, as both hold the word {words[start]!r}: "
                    "which of them to swap would depend on the words around. Take the list of one of them out."
                )


def _meetings(
    words: list[str], pieces: dict[str, list[str]], by_first: dict[str, list[str]]
) -> Iterator[tuple[int, str]]:
    """The places in a phrase where another phrase, or the same one, can begin in some text: (place, that phrase)."""
    for start, word in enumerate(words):
        for other in by_first.get(word, ()):
            shared = min(len(words) - start, len(pieces[other]))
            if words[start : start + shared] == pieces[other][:shared]:
                yield start, other
