"""Articles: whether a word takes *an* or *a*, and the article that agrees with the next word as the last one did."""

import re
import unicodedata

# A vowel that is not spoken as one (European, one-armed, Ukrainian, user), and an h that is not spoken at all.
_CONSONANT = re.compile(r"(?:eu|ewe|on(?:e|ce)\b|uni(?![dnm])|us[aeu]|uk|ug|uru|ut[aei]|ubi)", re.IGNORECASE)
_SILENT_H = re.compile(r"(?:hours?\b|hourly|honest|hono|heir)", re.IGNORECASE)
_SPELLED_AS_VOWELS = "AEFHILMNORSX"  # an LGBT person, an HR officer
_VOWELS = "aeiou"

FORMS = ("a", "an", "A", "An", "AN")


def takes_an(word: str) -> bool:
    """Whether a word or phrase, as its list writes it, takes *an*.

    Example:
        >>> [takes_an(word) for word in ("actor", "man", "European", "honest woman", "LGBT person", "Ukrainian")]
        [True, False, False, True, True, False]
    """
    first = re.split(r"[\s-]", word)[0]
    if len(first) > 1 and first.isupper():
        return first[0] in _SPELLED_AS_VOWELS
    if digits := re.match(r"\d+", first):
        return first.startswith("8") or digits[0] in ("11", "18")
    vowel = unicodedata.normalize("NFD", word)[0].lower() in _VOWELS
    return bool(_SILENT_H.match(word)) or (vowel and not _CONSONANT.match(word))


def is_article(found: str, upper: bool) -> bool:
    """Whether this is an article as it is written before a word in upper case, or before another."""
    return found in (("a", "an", "A", "AN") if upper else ("a", "an", "A", "An"))


def agreeing(article: str, word: str, target: str, upper: bool) -> str:
    """The article before ``target`` that agrees with it if ``article`` agreed with ``word``, and else does not.

    Each of the two can be had back from the other: what agrees goes on agreeing. ``upper`` says whether the words are
    in upper case, so that *A* becomes *AN* rather than *An*.
    """
    if takes_an(word) == takes_an(target):
        return article
    if len(article) == 2:
        return article[0]
    return article + ("N" if upper and article == "A" else "n")
