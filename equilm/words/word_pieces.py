"""Words inside words: how often a token that stands for a word is only a piece of longer words, such as *men|acing*."""

import gzip
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from transformers import PreTrainedTokenizerBase

# A form is left out where more than this share of a token's uses are pieces of longer words.
MAX_PIECE_SHARE = 0.25

_WORDS = "word_frequencies.tsv.gz"


@cache
def word_frequencies() -> Mapping[str, int]:
    """The 50,000 most frequent words of English, as they are capitalized, with their uses per billion words.

    From the lexeme probabilities of spacy-lookups-data 1.0.5 (MIT License, ``word_frequencies.LICENSE``), which were
    counted in a large collection of discussions on the web.
    """
    text = gzip.decompress((files(__package__) / _WORDS).read_bytes()).decode()
    rows = (line.split("\t") for line in text.splitlines())
    return {word: int(uses) for word, uses in rows}


@dataclass(frozen=True)
class Pieces:
    """The uses of one token, in one place of a text (after a space, at its start, …).

    Attributes:
        whole: uses per billion words as a word of its own.
        longer: the longer words that it is a piece of, most frequent first, with their uses.
    """

    whole: int
    longer: Mapping[str, int]

    @property
    def share(self) -> float:
        """The share of the token's uses that are pieces of longer words; 0 for a token that the words do not use."""
        inside = sum(self.longer.values())
        return inside / (self.whole + inside) if inside else 0.0

    def examples(self, count: int = 3) -> str:
        """The most frequent of the longer words, for messages."""
        named = ", ".join(repr(word) for word in list(self.longer)[:count])
        return named + ", …" * (len(self.longer) > count)


class PieceCounter:
    """Counts in which common English words a tokenizer uses a token as a piece.

    Args:
        tokenizer: any transformers tokenizer.
        swaps: the lists in all their forms. Of a longer word that stands in a list, a piece may be the right one to
            swap: where ``boyfriend`` is *boy|friend*, swapping the piece gives ``girlfriend``. That is no cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, swaps: Iterable[tuple[str, ...]]):
        self._tokenizer = tokenizer
        self._swaps = {word: (form, member) for form in swaps for member, word in enumerate(form)}

    def count(self, words: Sequence[str], token_ids: Sequence[int], before: str) -> list[Pieces]:
        """The uses of each of a list's tokens where some text stands before the word.

        Args:
            words: the list in one form.
            token_ids: the token of each word.
            before: the text before, with the space if there is one.
        """
        spelled = [self._candidates(word, before) for word in words]
        return [
            Pieces(
                word_frequencies().get(word, 0),
                {
                    longer: word_frequencies()[longer]
                    for longer, ids in candidates.items()
                    if token in ids and len(ids) > 1 and not self._is_swapped_right(longer, ids, member, token_ids)
                },
            )
            for member, (word, token, candidates) in enumerate(zip(words, token_ids, spelled, strict=True))
        ]

    def _candidates(self, word: str, before: str) -> dict[str, tuple[int, ...]]:
        """The common words that may hold the token of a word, with their token ids, most frequent first.

        A token that brings a space or a word's start along stands only at the start of a word. One that does not may
        stand anywhere in it, but these are words in title case, which are hardly ever inside another.
        """
        found = sorted(_starting_with(word), key=lambda other: -word_frequencies()[other])
        return dict(zip(found, _spell(self._tokenizer, found, before), strict=True))

    def _is_swapped_right(self, longer: str, ids: tuple[int, ...], member: int, token_ids: Sequence[int]) -> bool:
        form, place = self._swaps.get(longer, ((), -1))
        if place != member or len(form) != len(token_ids):
            return False
        swapped = [[other if token == token_ids[member] else token for token in ids] for other in token_ids]
        return tuple(text.strip() for text in self._tokenizer.batch_decode(swapped)) == form


@cache
def _index() -> tuple[list[str], list[str], list[str]]:
    """The words without case, sorted; beside them the words; and those with capitals in the middle, as in YouTube."""
    pairs = sorted((word.casefold(), word) for word in word_frequencies())
    folded, words = map(list, zip(*pairs, strict=True))
    return folded, words, [word for word in words if not (word[1:].islower() or word.isupper())]


def _starting_with(word: str) -> list[str]:
    """The common words that begin with a word, in whatever case, or hold it after their first letter, with its case."""
    folded, words, mixed = _index()
    start = word.casefold()
    begin, end = bisect_left(folded, start), bisect_left(folded, start + chr(0x10FFFF))
    found = words[begin:end]
    return found + [other for other in mixed if word in other[1:] and other not in found]


def _spell(tokenizer: PreTrainedTokenizerBase, words: Sequence[str], before: str) -> list[tuple[int, ...]]:
    """The token ids of each word after some text; none where the two are merged."""
    if not words:
        return []
    start = tokenizer.encode(before.rstrip(" "), add_special_tokens=False)
    rows = tokenizer([before + word for word in words], add_special_tokens=False)["input_ids"]
    return [tuple(ids[len(start) :]) if ids[: len(start)] == start else () for ids in rows]
