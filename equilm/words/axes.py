"""Demographic axes: the lists of words that name the groups of one attribute, built in or read from a JSON file."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import EquiLMError

BUILT_IN_AXES = (
    "gender",
    "race",
    "race3",
    "race4",
    "orientation",
    "religion",
    "age",
    "nationality",
    "disability",
    "body",
    "status",
    "names",
    "gender-paper",
    "gender-paper-without-his",
    "race-paper",
    "orientation-paper",
)
_KEYS = ("$schema", "name", "words", "general_words", "notes")


@dataclass(frozen=True)
class DemographicAxis:
    """One attribute, such as gender, and the words that stand for its groups (E and G of section 5.3).

    Args:
        name: what the axis is called.
        words: lists of d words each, one for each group and always in the same order:
            ``[("man", "woman"), ("he", "she")]``. The group's generator turns each word into the next of its list.
            Write ordinary words in lower case; a word written with capitals is never matched in lower case.
        general_words: words that R-EquiLM leaves alone. They may stand in ``words`` too.
        notes: for people who read the file.

    Raises:
        EquiLMError: for anything else; the message names the value, what was expected and what to do.

    Example:
        >>> DemographicAxis("gender", [("man", "woman"), ("he", "she")]).size
        2
    """

    name: str
    words: Sequence[Sequence[str]]
    general_words: Sequence[str] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        _check_text(self.name, "name")
        axis = f"Axis {self.name!r}: "
        words = tuple(tuple(_sequence(entry, f"{axis}words[{i}]")) for i, entry in _entries(self.words, axis))
        general_words = tuple(_sequence(self.general_words, f"{axis}general_words"))
        _check_words(words, axis)
        for i, word in enumerate(general_words):
            _check_text(word, f"{axis}general_words[{i}]")
        _check_unique([(word, "general_words") for word in general_words], axis)
        if not isinstance(self.notes, str):
            raise EquiLMError(f"{axis}notes must be a string, got {self.notes!r}. Write the notes as one text.")
        # Tuples make an axis hashable, whatever sequences it was written with.
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "general_words", general_words)

    @property
    def size(self) -> int:
        """d, the number of groups, which is the length of each list."""
        return len(self.words[0])

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> "DemographicAxis":
        """A built-in axis (``"gender"``, ``"race"``, ``"race3"``, ``"orientation"``), or one from a JSON file.

        The file is described by ``equilm/words/lists/axis.schema.json``.

        Raises:
            EquiLMError: for an unknown name, and for a file that is not JSON or does not describe an axis.
        """
        if not isinstance(name_or_path, str | os.PathLike):
            raise EquiLMError(
                f"An axis is a DemographicAxis, a name or the path of a JSON file, got {name_or_path!r}. "
                f"Built-in names: {', '.join(BUILT_IN_AXES)}."
            )
        if name_or_path in BUILT_IN_AXES:
            return cls.from_dict(json.loads((files(__package__) / "lists" / f"{name_or_path}.json").read_text("utf-8")))
        path = Path(name_or_path)
        if not path.is_file():
            raise EquiLMError(
                f"No axis {str(name_or_path)!r}: expected one of the built-in names {', '.join(BUILT_IN_AXES)}, "
                "or the path of a JSON file that exists. Check the spelling, or write your own lists to a file."
            )
        return cls._read(path)

    @classmethod
    def _read(cls, path: Path) -> "DemographicAxis":
        try:
            data = json.loads(path.read_text("utf-8-sig"))  # some editors start a file with a byte order mark
        except (ValueError, RecursionError) as error:
            raise EquiLMError(
                f"{path} is not JSON ({error}). Expected an object such as "
                '{"name": "gender", "words": [["man", "woman"]]}, saved as UTF-8.'
            ) from error
        try:
            return cls.from_dict(data)
        except EquiLMError as error:
            raise EquiLMError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, data: Any) -> "DemographicAxis":
        """The axis that `to_dict` wrote down.

        Raises:
            EquiLMError: for a missing or unknown key, and for a value of the wrong type.
        """
        if not isinstance(data, dict):
            raise EquiLMError(f"An axis is written as an object with the keys {', '.join(_KEYS[1:])}, got {data!r}.")
        if unknown := [key for key in data if key not in _KEYS]:
            raise EquiLMError(
                f"Unknown key {unknown[0]!r}: expected only {', '.join(_KEYS)}. Correct or remove it; "
                "what you want to say to readers goes into notes."
            )
        if missing := [key for key in ("name", "words") if key not in data]:
            raise EquiLMError(f"The key {missing[0]!r} is missing from an axis with the keys {sorted(data)}. Add it.")
        if not isinstance(data.get("$schema", ""), str):
            raise EquiLMError(f"$schema must be a string, got {data['$schema']!r}. It may be left out.")
        return cls(**{key: value for key, value in data.items() if key != "$schema"})

    def to_dict(self) -> dict[str, Any]:
        """The axis as plain lists and strings, for JSON."""
        return {
            "name": self.name,
            "words": [list(entry) for entry in self.words],
            "general_words": list(self.general_words),
            "notes": self.notes,
        }


AxisLike = DemographicAxis | str | os.PathLike[str]


def load_axes(axes: AxisLike | Sequence[AxisLike]) -> tuple[DemographicAxis, ...]:
    """One or several axes, given as objects, built-in names or paths.

    Raises:
        EquiLMError: for no axis at all, two axes of one name, and a word in two axes: their actions would not commute.
    """
    several = axes if isinstance(axes, list | tuple) else (axes,)
    loaded = tuple(axis if isinstance(axis, DemographicAxis) else DemographicAxis.load(axis) for axis in several)
    if not loaded:
        raise EquiLMError(f"No axis given: expected at least one, such as {BUILT_IN_AXES[0]!r}.")
    places: dict[str, str] = {}
    names: set[str] = set()
    for axis in loaded:
        if axis.name in names:
            raise EquiLMError(
                f"Two axes are called {axis.name!r}: give each its own name, or put their lists together."
            )
        names.add(axis.name)
        for word in chain.from_iterable(axis.words):
            if (other := places.setdefault(word.casefold(), axis.name)) != axis.name:
                raise EquiLMError(
                    f"The word {word!r} stands in the axes {other!r} and {axis.name!r}: axes need different words, "
                    "or their swaps would depend on the order. Take the word's list out of one of them."
                )
    return loaded


def _sequence(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise EquiLMError(f"{where} must be a list of words, got {value!r}. Put the words into a list.")
    return value


def _entries(words: Any, axis: str) -> list[tuple[int, Any]]:
    if not isinstance(words, list | tuple) or not words:
        raise EquiLMError(
            f'{axis}words must be a list of at least one list, such as [["man", "woman"]], got {words!r}.'
        )
    return list(enumerate(words))


def _check_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise EquiLMError(f"{where} must be a string, got {value!r}. Put it in quotes.")
    if not value or value != value.strip():
        raise EquiLMError(
            f"{where} is {value!r}: expected text without white space around it. Remove the white space or the entry; "
            "a tokenizer's space before a word is added later."
        )


def _check_words(words: tuple[tuple[Any, ...], ...], axis: str) -> None:
    for i, entry in enumerate(words):
        for j, word in enumerate(entry):
            _check_text(word, f"{axis}words[{i}][{j}]")
        if len(entry) < 2:
            raise EquiLMError(
                f"{axis}words[{i}] is {list(entry)}: expected at least two words, one for each group. "
                "Add the other groups' words or remove the list."
            )
        if len(entry) != len(words[0]):
            raise EquiLMError(
                f"{axis}words[{i}] is {list(entry)}, {len(entry)} words, but words[0] is {list(words[0])}, "
                f"{len(words[0])} words: all lists of an axis need one length. Complete the list or remove it."
            )
    _check_unique([(word, f"words[{i}]") for i, entry in enumerate(words) for word in entry], axis)


def _check_unique(words: list[tuple[str, str]], axis: str) -> None:
    seen: dict[str, str] = {}
    for word, place in words:
        if (first := seen.get(word.casefold())) is not None:
            raise EquiLMError(
                f"{axis}the word {word!r} stands in {first} and again in {place} (upper and lower case count as one): "
                "a word can be turned into only one other. Remove one of them."
            )
        seen[word.casefold()] = place
