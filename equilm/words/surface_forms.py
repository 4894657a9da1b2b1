"""Which surface forms of word lists a tokenizer has as single tokens, and why not the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from .._coverage import ANCHOR, Coverage, SurfaceForm, surface_forms
from .axes import AxisLike, load_axes
from .word_pieces import MAX_PIECE_SHARE, PieceCounter, Pieces

# A letter that hardly a vocabulary holds: its last token is the unknown token, declared or not, or else a byte.
_RARE_LETTER = "\U0002a6d6"
_UNMARKED = ("unmarked", "unmarked_newline")
# What stands before a word in the forms that do not follow a space.
_TEXT_BEFORE = {"start": "", "newline": f"{ANCHOR}\n", "unmarked": "", "unmarked_newline": f"{ANCHOR}\n"}


class Speller:
    """Finds the token ids of words in context, and says why a word is not one ordinary token.

    Encoding in context works for every kind of tokenizer: the space before a word may be part of its token (GPT-2,
    Llama) or no token at all (BERT), and a tokenizer may put one at the start of every text (Llama).

    Args:
        tokenizer: any transformers tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special = {*tokenizer.all_special_ids, *(token for token, content in added.items() if content.special)}
        self.unknown = set(self._encode(ANCHOR + _RARE_LETTER)[-1:])

    def spell(self, word: str, form: SurfaceForm) -> tuple[tuple[int, ...], str]:
        """The token ids of a word in a form, and why they cannot be swapped: ``""`` if the word is one ordinary token.

        There are no ids where the word has none of its own: if it is unknown, or merged with the text before it.
        """
        before = self._encode(form.before)
        ids = self._encode(form.before + form.space + word)
        if ids[: len(before)] != before:
            return (), f"{word!r} is merged with the text before it"
        own = tuple(ids[len(before) :])
        if not self.unknown.isdisjoint(own):
            return (), f"{word!r} is unknown to the tokenizer"
        if special := [token for token in own if token in self.special]:
            return own, f"{word!r} holds the special token {self.token(special[0])}"
        if len(own) != 1:
            return own, f"{word!r} is {len(own)} tokens: {', '.join(map(self.token, own))}"
        return own, ""

    def token(self, token: int) -> str:
        """A token's id and text, for messages."""
        return f"{token} {self.tokenizer.convert_ids_to_tokens(token)!r}"

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def cover_axes(
    axes: AxisLike | Sequence[AxisLike],
    tokenizer: PreTrainedTokenizerBase,
    *,
    unmarked_lower: bool = False,
    max_piece_share: float | None = MAX_PIECE_SHARE,
) -> tuple[Coverage, ...]:
    """Which surface forms of the axes' lists and general words a tokenizer has as single tokens, and why not others.

    Unlike `VocabularyAction.from_axes` it also answers for an axis of which nothing can be swapped.

    Args:
        axes: axes, built-in names or paths of JSON files, one or several.
        tokenizer: the model's tokenizer.
        unmarked_lower: also look at lower-case words without a space before them.
        max_piece_share: the form of a list is left out if for one of its tokens more than this share of its uses are
            pieces of longer words, as *men* is of *men|acing*; None leaves none out. Forms asked for by
            ``unmarked_lower`` are not measured.
    """
    loaded = load_axes(axes)
    speller = Speller(tokenizer)
    counter = _counter(tokenizer, (entry for axis in loaded for entry in axis.words))
    limit = 1.0 if max_piece_share is None else max_piece_share
    used: dict[int, str] = {}  # token id to the word it stands for
    rows: list[Coverage] = []
    for axis in loaded:
        for entry in axis.words:
            for row in _cover(axis.name, tuple(entry), speller, used, unmarked_lower):
                if row.mapped and limit < 1 and (reason := _cut_reason(row, speller, counter, limit)):
                    row = replace(row, mapped=False, reason=reason)
                rows.append(row)
                if row.mapped:
                    used.update((ids[0], word) for ids, word in zip(row.token_ids, row.words, strict=True))
        for word in axis.general_words:
            rows += _cover(axis.name, (word,), speller, {}, unmarked_lower, general=True)
    return tuple(rows)


def _cover(
    axis: str,
    entry: tuple[str, ...],
    speller: Speller,
    used: dict[int, str],
    unmarked_lower: bool,
    general: bool = False,
) -> Iterator[Coverage]:
    seen = set()
    for form in surface_forms(entry, unmarked_lower):
        spelled = [speller.spell(word, form) for word in form.words]
        token_ids = tuple(ids for ids, _ in spelled)
        if token_ids in seen:
            continue  # a tokenizer without case, or one that marks the start of a text like a space
        seen.add(token_ids)
        reason = "; ".join(filter(None, (problem for _, problem in spelled))) or _clash(form, token_ids, speller, used)
        yield Coverage(axis, entry, form.words, form.variant, token_ids, not reason, reason, general)


def longer_words(
    coverage: Sequence[Coverage], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[Coverage, list[Pieces]]]:
    """For each form that is swapped, the common English words that its tokens are pieces of too.

    Args:
        coverage: the rows of `cover_axes` or of an action.
        tokenizer: the tokenizer they were made with.
    """
    counter = _counter(tokenizer, (row.entry for row in coverage if not row.general))
    return [(row, _pieces(row, counter)) for row in coverage if row.mapped and not row.general]


def _counter(tokenizer: PreTrainedTokenizerBase, entries: Iterable[Sequence[str]]) -> PieceCounter:
    return PieceCounter(tokenizer, [form.words for entry in entries for form in surface_forms(entry)])


def _pieces(row: Coverage, counter: PieceCounter) -> list[Pieces]:
    before = _TEXT_BEFORE.get(row.variant, f"{ANCHOR} ")
    return counter.count(row.words, [token for (token,) in row.token_ids], before)


def _cut_reason(row: Coverage, speller: Speller, counter: PieceCounter, limit: float) -> str:
    """Why single tokens are better left alone: too many of their uses are pieces of longer words."""
    if row.variant in _UNMARKED:
        return ""
    return "; ".join(
        f"{word!r} is token {speller.token(token)}, which is also the start of {pieces.examples()}: "
        f"{pieces.share:.1%} of its uses"
        for word, (token,), pieces in zip(row.words, row.token_ids, _pieces(row, counter), strict=True)
        if pieces.share > limit
    )


def _clash(form: SurfaceForm, token_ids: tuple[tuple[int, ...], ...], speller: Speller, used: dict[int, str]) -> str:
    """Why single tokens cannot be swapped after all: one of them already stands for another word."""
    row: dict[int, str] = {}
    for word, (token,) in zip(form.words, token_ids, strict=True):
        if token in used:
            return f"{word!r} is token {speller.token(token)}, which is already used by {used[token]!r}"
        if token in row:
            return f"{row[token]!r} and {word!r} are the same token {speller.token(token)}"
        row[token] = word
    return ""
