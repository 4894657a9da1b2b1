"""The forms in which words are written, which of them are single tokens, and the token lists that follow from that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# What stands before a word here is a sign that no tokenizer merges with the text after it, as some do with whole words.
ANCHOR = "#"


class SurfaceForm(NamedTuple):
    """One way to write the words of a list.

    Attributes:
        variant: ``"lower"``, ``"title"``, ``"upper"`` (or ``"written"`` for a list of mixed case) after a space;
            ``"start"`` at the start of a text and ``"newline"`` after a newline, both in title case;
            ``"unmarked"`` and ``"unmarked_newline"`` the same two places in lower case.
        words: the words, all in this form.
        before: the text before the word.
        space: what separates the two: a space, or nothing.
    """

    variant: str
    words: tuple[str, ...]
    before: str
    space: str


def surface_forms(words: Sequence[str], unmarked_lower: bool = False) -> list[SurfaceForm]:
    """The forms of a list: a word in lower case has title and upper case too; one with capitals never loses them.

    Args:
        words: the list as it is written in its axis.
        unmarked_lower: also the lower case without a space before it, which is mostly a piece of another word.

    Example:
        >>> [(form.variant, form.words[0]) for form in surface_forms(["man", "woman"])]
        [('lower', 'man'), ('title', 'Man'), ('upper', 'MAN'), ('start', 'Man'), ('newline', 'Man')]
        >>> [(form.variant, form.words[0]) for form in surface_forms(["Black", "White"])]
        [('title', 'Black'), ('upper', 'BLACK'), ('start', 'Black'), ('newline', 'Black')]
    """
    written, titled = tuple(words), tuple(map(_title, words))
    variants = {  # where two forms coincide, the later name stands
        written: "lower" if all(word.islower() for word in words) else "written",
        titled: "title",
        tuple(word.upper() for word in words): "upper",
    }
    forms = [SurfaceForm(variant, form, ANCHOR, " ") for form, variant in variants.items()]
    forms += [SurfaceForm("start", titled, "", ""), SurfaceForm("newline", titled, f"{ANCHOR}\n", "")]
    if unmarked_lower and written != titled:
        forms += [
            SurfaceForm("unmarked", written, "", ""),
            SurfaceForm("unmarked_newline", written, f"{ANCHOR}\n", ""),
        ]
    return forms


def _title(word: str) -> str:
    return word[0].upper() + word[1:] if word.islower() else word


@dataclass(frozen=True)
class Coverage:
    """Whether one surface form of a word list, or of a general word, is swapped.

    Attributes:
        axis: the axis's name.
        entry: the list as the axis writes it; for a general word, that word alone.
        words: the list in this form.
        variant: the form: ``"lower"``, ``"title"``, ``"upper"``, ``"start"``, … (see `SurfaceForm`).
        token_ids: the token ids of each word; empty where the tokenizer has no separate tokens for it.
        mapped: whether these words are swapped; for a general word, whether its token is a general id.
        reason: why not; ``""`` when mapped.
        general: whether this is one of R-EquiLM's general words.
    """

    axis: str
    entry: tuple[str, ...]
    words: tuple[str, ...]
    variant: str
    token_ids: tuple[tuple[int, ...], ...]
    mapped: bool
    reason: str = ""
    general: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The row as plain lists, strings and numbers, for JSON."""
        rows = {
            "entry": list(self.entry),
            "words": list(self.words),
            "token_ids": [list(ids) for ids in self.token_ids],
        }
        return {**vars(self), **rows}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Coverage":
        """Read back what `to_dict` wrote.

        Raises:
            KeyError: if a field is missing.
            TypeError: if a field has the wrong type or an unknown name.
        """
        lists = {
            "entry": tuple(data["entry"]),
            "words": tuple(data["words"]),
            "token_ids": tuple(tuple(ids) for ids in data["token_ids"]),
        }
        required = {name: data[name] for name in ("reason", "general")}  # a file has every field
        return cls(**{**data, **required, **lists})


def token_cycles(axes: Iterable[str], coverage: Sequence[Coverage]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The lists of token ids of each axis, as `TokenAction.from_cycles` takes them.

    Args:
        axes: the axes' names.
        coverage: the rows of these axes.
    """
    rows = [row for row in coverage if row.mapped and not row.general]
    return tuple(tuple(tuple(ids[0] for ids in row.token_ids) for row in rows if row.axis == axis) for axis in axes)


def general_token_ids(coverage: Iterable[Coverage]) -> tuple[int, ...]:
    """The token ids of R-EquiLM's general words, ascending."""
    return tuple(sorted({ids[0] for row in coverage if row.general and row.mapped for ids in row.token_ids}))


def unmapped_sequences(coverage: Sequence[Coverage]) -> tuple[tuple[int, ...], ...]:
    """The token ids of words in forms that are not swapped. A prompt with only such words gets a warning."""
    rows = [row for row in coverage if not row.general]
    swapped = {ids for row in rows if row.mapped for ids in row.token_ids}
    sequences = {ids: None for row in rows if not row.mapped for ids in row.token_ids}  # a set that keeps its order
    return tuple(ids for ids in sequences if ids and ids not in swapped)
