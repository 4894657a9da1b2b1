"""Checks of what a person wrote down as an axis; every message names the value, what was expected and what to do."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import EquiLMError

PRONOUNS = ("his", "him", "her", "hers")


def check_text(value: Any, where: str) -> None:
    """Check that a word or name is a string without white space around it."""
    if not isinstance(value, str):
        raise EquiLMError(f"{where} must be a string, got {value!r}. Put it in quotes.")
    if not value or value != value.strip():
        raise EquiLMError(
            f"{where} is {value!r}: expected text without white space around it. Remove the white space or the entry; "
            "a tokenizer's space before a word is added later."
        )


def checked_texts(value: Any, axis: str, key: str) -> tuple[str, ...]:
    """A list of different words or names, as a tuple."""
    texts = tuple(_sequence(value, f"{axis}{key}"))
    for i, text in enumerate(texts):
        check_text(text, f"{axis}{key}[{i}]")
    check_unique([(text, key) for text in texts], axis)
    return texts


def checked_axes(value: Any, name: str, axis: str) -> tuple[str, ...]:
    """The names of the axes that a joint list belongs to; none for an axis of its own."""
    axes = checked_texts(value, axis, "axes")
    if len(axes) == 1 or name in axes:
        raise EquiLMError(
            f"{axis}axes is {list(axes)}: expected the names of at least two axes that index the words, none of them "
            f"{name!r}. Leave axes out for lists of one axis."
        )
    return axes


def checked_before(value: Any, modifiers: Sequence[Any], axis: str) -> tuple[str, ...]:
    """The words that may follow a modifier."""
    before = checked_texts(value, axis, "before")
    for word in before:
        if word != word.lower() or " " in word or word in PRONOUNS:
            raise EquiLMError(
                f"{axis}before holds {word!r}: expected single words in lower case, and no pronoun. They are found in "
                "upper and title case too; for a phrase give its first word."
            )
    if bool(before) != bool(modifiers):
        raise EquiLMError(
            f"{axis}modifiers and before belong together: the words that are swapped, and those that have to follow "
            "them. Give both or neither."
        )
    return before


def flat_lists(
    value: Any, depth: int, axis: str, key: str
) -> tuple[tuple[tuple[str, ...], ...], tuple[int, ...] | None]:
    """Lists of words, each as one tuple, row-major, and the shape that all of them share (None if there are none).

    Args:
        value: lists nested to ``depth``.
        depth: 1 for plain lists, the number of axes for joint ones.
        axis: the start of messages.
        key: where in the axis they stand.
    """
    shape: tuple[int, ...] | None = None
    lists = []
    for i, entry in enumerate(_sequence(value, f"{axis}{key}")):
        where = f"{axis}{key}[{i}]"
        words, own = _flatten(entry, depth, where)
        if shape is not None and own != shape:
            raise EquiLMError(
                f"{where} is {list(entry)}, {_by(own)} words, but {key}[0] is {list(value[0])}, {_by(shape)} words: "
                "all lists of an axis need one length. Complete the list or remove it."
            )
        shape = own
        lists.append(words)
    return tuple(lists), shape


def check_unique(words: Iterable[tuple[str, str]], axis: str) -> None:
    """Check that no word stands in two places; each comes with its place."""
    seen: dict[str, str] = {}
    for word, place in words:
        if (first := seen.get(word.casefold())) is not None:
            raise EquiLMError(
                f"{axis}the word {word!r} stands in {first} and again in {place} (upper and lower case count as one): "
                "a word can be turned into only one other. Remove one of them."
            )
        seen[word.casefold()] = place


def _flatten(entry: Any, depth: int, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    entry = list(_sequence(entry, where))
    if depth == 1:
        for j, word in enumerate(entry):
            check_text(word, f"{where}[{j}]")
        words, inner = tuple(entry), set[tuple[int, ...]]([()])
    else:
        parts = [_flatten(part, depth - 1, f"{where}[{j}]") for j, part in enumerate(entry)]
        words, inner = tuple(word for part, _ in parts for word in part), {shape for _, shape in parts}
    if len(entry) < 2:
        raise EquiLMError(
            f"{where} is {entry}: expected at least two words, one for each group. "
            "Add the other groups' words or remove the list."
        )
    if len(inner) > 1:
        raise EquiLMError(
            f"{where} is {entry}, which holds lists of different lengths: expected one word for each combination of "
            "groups. Complete the list or remove it."
        )
    return words, (len(entry), *inner.pop())


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _sequence(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise EquiLMError(f"{where} must be a list of words, got {value!r}. Put the words into a list.")
    return value
