"""Which words a tokenizer has as single tokens, and the token lists that follow from that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


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
    """For each axis its lists of token ids, as `TokenAction.from_cycles` takes them.

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
    """The token ids of words in forms that are not swapped. A prompt with no other words gets a warning."""
    rows = [row for row in coverage if not row.general]
    swapped = {ids for row in rows if row.mapped for ids in row.token_ids}
    sequences = {ids: None for row in rows if not row.mapped for ids in row.token_ids}  # a set that keeps its order
    return tuple(ids for ids in sequences if ids and ids not in swapped)
